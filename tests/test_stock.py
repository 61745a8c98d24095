"""What is saved opens with the libraries alone, in a process that cannot import this project."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import XLMRobertaConfig, XLMRobertaModel

from conftest import SENTENCES, SPECIAL, tiny_tokenizer
from lib import LABELS
from lib.errors import UserError
from lib.models.encoder import new_classifier, save_classifier
from lib.models.inference import predict

CPU = {"dtype": torch.float32, "device": torch.device("cpu")}
STOCK = """
import json, sys
sys.modules["lib"] = None  # an import of it would fail
import numpy as np, torch
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer, pipeline
texts = json.load(sys.stdin)
for path in sys.argv[1:]:
    classify = pipeline("text-classification", model=path, top_k=None, batch_size=3)
    rows = [{r["label"]: r["score"] for r in row} for row in classify(texts, truncation=True)]
    found = {"pipeline": rows, "encode": SentenceTransformer(path).encode(texts).tolist()}
    tokenizer = AutoTokenizer.from_pretrained(path)
    inputs = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        model = AutoModelForSequenceClassification.from_pretrained(path).eval()
        found["auto"] = model(**inputs).logits.softmax(-1).tolist()
        hidden = AutoModel.from_pretrained(path).eval()(**inputs).last_hidden_state
    mask = inputs["attention_mask"][..., None]
    found |= {"cls": hidden[:, 0].tolist(), "mean": ((hidden * mask).sum(1) / mask.sum(1)).tolist()}
    print(json.dumps(found))
"""


@pytest.mark.slow
def test_stock_libraries_give_our_probabilities_and_vectors(tiny_checkpoint, tiny_bert, tmp_path):
    """ModernBERT, BERT and XLM-R, with both poolings."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    tokenizer = tiny_tokenizer()
    sizes |= {"vocab_size": len(tokenizer), "max_position_embeddings": 82, "intermediate_size": 48}
    config = XLMRobertaConfig(**sizes, pad_token_id=SPECIAL["[PAD]"], initializer_range=0.5)
    xlmr = tmp_path / "tiny-xlmr"
    XLMRobertaModel(config, add_pooling_layer=False).save_pretrained(xlmr)
    tokenizer.save_pretrained(xlmr)
    with pytest.raises(UserError, match="81 is more than this model's 80 positions"):
        new_classifier(xlmr, pooling="cls", max_tokens=81, seed=0)
    texts = [*SENTENCES, "да", " ".join(SENTENCES * 4)]  # the last one is cut
    expected = {}
    models = (tiny_checkpoint, tiny_bert, xlmr)
    for checkpoint, pooling in itertools.product(models, ("cls", "mean")):
        encoder = new_classifier(checkpoint, pooling=pooling, max_tokens=80, seed=0)
        assert encoder.last_layer.out_features == len(LABELS)
        folder = tmp_path / f"{Path(checkpoint).name}-{pooling}"
        save_classifier(encoder, folder)
        expected[folder] = (pooling, *predict(encoder, encoder.tokenize(texts), **CPU))
    done = subprocess.run(
        [sys.executable, "-c", STOCK, *map(str, expected)],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()[-len(expected) :]
    for line, (folder, (pooling, probabilities, pooled)) in zip(
        lines, expected.items(), strict=True
    ):
        assert np.ptp(probabilities, axis=0).max() > 0.02
        found = json.loads(line)
        rows = [[row[name] for name in LABELS] for row in found["pipeline"]]
        for name, values, wanted in (
            ("pipeline", rows, probabilities),
            ("auto", found["auto"], probabilities),
            ("encode", found["encode"], pooled),
            (pooling, found[pooling], pooled),
        ):
            np.testing.assert_allclose(values, wanted, atol=1e-4, err_msg=f"{folder.name} {name}")
