"""What is saved opens with the libraries alone, in a process that cannot import this project."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from conftest import SENTENCES
from lib import LABELS
from lib.models.encoder import new_classifier, save_classifier
from lib.models.inference import predict

CPU = {"dtype": torch.float32, "device": torch.device("cpu")}
STOCK = """
import json, sys
sys.modules["lib"] = None  # an import of it would fail
import numpy as np, torch
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer, pipeline
path, texts = sys.argv[1], json.load(sys.stdin)
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
@pytest.mark.parametrize("kind", ["tiny_checkpoint", "tiny_bert"])
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_stock_libraries_give_our_probabilities_and_vectors(request, kind, pooling, tmp_path):
    checkpoint = request.getfixturevalue(kind)
    encoder = new_classifier(checkpoint, pooling=pooling, max_tokens=80, seed=0)
    save_classifier(encoder, tmp_path)
    texts = [*SENTENCES, "да", " ".join(SENTENCES * 4)]  # the last one is cut
    probabilities, pooled = predict(encoder, encoder.tokenize(texts), **CPU)
    assert np.ptp(probabilities, axis=0).max() > 0.02
    done = subprocess.run(
        [sys.executable, "-c", STOCK, str(tmp_path)],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    rows = [[row[name] for name in LABELS] for row in found["pipeline"]]
    for name, expected in {
        "pipeline": probabilities,
        "auto": probabilities,
        "encode": pooled,
        pooling: pooled,
    }.items():
        values = rows if name == "pipeline" else found[name]
        np.testing.assert_allclose(values, expected, atol=1e-4, err_msg=name)
