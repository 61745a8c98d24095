"""The whole life of a classifier on a ModernBERT checkpoint: fresh, trained, embedding, saved."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from conftest import SENTENCES
from lib import LABELS
from lib.batches import ShuffledBatches, Texts
from lib.embedding import read_bank, write_bank
from lib.encoder import Encoder, load_classifier, new_classifier, save_classifier
from lib.errors import UserError
from lib.inference import predict
from lib.schema import BaseClassifierParams, EmbedCorpusParams
from lib.training import fit

CPU = {"dtype": torch.float32, "device": torch.device("cpu")}
LABEL_OF = [0, 0, 1, 1, 2, 2, 1]  # of SENTENCES

OUTSIDE = """
import json, sys
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

path, texts = sys.argv[1], json.loads(sys.argv[2])
model = AutoModelForSequenceClassification.from_pretrained(path, trust_remote_code=True).eval()
tokenizer = AutoTokenizer.from_pretrained(path)
with torch.no_grad():
    logits = model(**tokenizer(texts, padding=True, return_tensors="pt")).logits
assert "lib" not in sys.modules
print(json.dumps({"probabilities": logits.softmax(-1).tolist(), "labels": model.config.id2label}))
"""


def fresh(checkpoint: str, **changes) -> Encoder:
    settings = {"pooling": "mean", "max_tokens": 1024, "seed": 0}
    return new_classifier(checkpoint, **(settings | changes))


@pytest.fixture(scope="module")
def trained(tiny_checkpoint: str, tmp_path_factory) -> Encoder:
    """A few steps on SENTENCES."""
    encoder = fresh(tiny_checkpoint)
    texts = Texts.build(encoder, pd.DataFrame({"text": SENTENCES, "label": LABEL_OF}))
    params = BaseClassifierParams(
        learning_rate=2e-3, head_learning_rate=1e-2, precision="float32", device="cpu"
    )
    batches = ShuffledBatches([len(ids) for ids in texts.token_ids], 4, 0)
    history = fit(
        encoder,
        texts,
        texts,
        batches,
        params=params,
        steps=20,
        evaluate_at=[10],
        state_dir=tmp_path_factory.mktemp("state"),
    )
    assert history["validation_macro_f1"].max() == 1.0  # seven sentences by heart
    return encoder


@pytest.fixture(scope="module")
def saved(trained: Encoder, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("saved") / "model"
    save_classifier(trained, directory)
    return directory


def probabilities_of(encoder: Encoder) -> np.ndarray:
    return predict(encoder, encoder.tokenize(SENTENCES), **CPU)[0]


def test_saved_and_loaded_gives_the_same_probabilities(trained, saved):
    loaded = load_classifier(saved, 1024)
    np.testing.assert_allclose(probabilities_of(loaded), probabilities_of(trained), atol=1e-6)
    assert loaded.model.config.pooling == "mean"
    assert not loaded.model.training
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


def test_saving_again_replaces_the_folder(trained, tmp_path):
    target = tmp_path / "model"
    target.mkdir()
    (target / "old.txt").write_text("старое")
    save_classifier(trained, target)
    assert not (target / "old.txt").exists() and (target / "config.json").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_auto_classes_load_it(trained, saved):
    model = AutoModelForSequenceClassification.from_pretrained(saved).eval()
    tokenizer = AutoTokenizer.from_pretrained(saved)
    with torch.no_grad():
        output = model(
            **tokenizer(SENTENCES, padding=True, return_tensors="pt"),
            labels=torch.tensor(LABEL_OF),
        )
    expected = probabilities_of(trained)
    np.testing.assert_allclose(output.logits.softmax(-1).numpy(), expected, atol=1e-5)
    nats = -np.log(expected[np.arange(len(LABEL_OF)), LABEL_OF])
    assert output.loss.item() == pytest.approx(nats.mean(), rel=1e-3)
    assert [model.config.id2label[i] for i in range(3)] == list(LABELS)


@pytest.mark.slow
def test_it_loads_outside_this_project(trained, saved, tmp_path):
    assert (saved / "model.py").exists()
    done = subprocess.run(
        [sys.executable, "-c", OUTSIDE, str(saved), json.dumps(SENTENCES)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"HF_HOME": str(tmp_path / "hub"), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    np.testing.assert_allclose(result["probabilities"], probabilities_of(trained), atol=1e-5)
    assert list(result["labels"].values()) == list(LABELS)


def test_embeds_a_corpus_into_a_bank(trained, tmp_path):
    texts = pd.DataFrame({"text_id": [f"{i:016x}" for i in range(28)], "text": SENTENCES * 4})
    params = EmbedCorpusParams(shard_size=10, precision="float32", device="cpu")
    write_bank(trained, texts, tmp_path, params)
    shards = list(read_bank(tmp_path))
    assert [len(shard.embedding) for shard in shards] == [10, 10, 8]
    found = np.concatenate([shard.probabilities for shard in shards])
    np.testing.assert_allclose(found, np.tile(probabilities_of(trained), (4, 1)), atol=1e-5)
    assert found[:7].argmax(1).tolist() == LABEL_OF


def test_long_texts_are_read_to_their_end(tiny_checkpoint):
    encoder = fresh(tiny_checkpoint)
    words = " ".join(SENTENCES).split()
    beginning = " ".join(np.random.default_rng(0).choice(words, 550))
    texts = [f"{beginning} ужасно плохо кошмар", f"{beginning} прекрасно спасибо доволен"]
    token_ids = encoder.tokenize(texts)
    assert 600 < len(token_ids[0]) < 1024
    same = min(map(len, token_ids)) - 60
    assert (token_ids[0][:same] == token_ids[1][:same]).all() and same > 512
    _, pooled = predict(encoder, token_ids, **CPU)
    assert np.isfinite(pooled).all()
    assert np.abs(pooled[0] - pooled[1]).max() > 1e-3
    cut = fresh(tiny_checkpoint, max_tokens=512)
    _, pooled = predict(cut, cut.tokenize(texts), **CPU)
    np.testing.assert_allclose(pooled[0], pooled[1], atol=1e-6)


def test_texts_are_cut_at_max_tokens_with_their_special_tokens(tiny_checkpoint):
    encoder = fresh(tiny_checkpoint, max_tokens=16)
    long, short, empty = encoder.tokenize([" ".join(SENTENCES), "плохо", ""])
    assert len(long) == 16 and len(short) < 16 and len(empty) == 2
    for ids in (long, short, empty):
        assert ids.dtype == np.int32
        assert ids[0] == encoder.tokenizer.cls_token_id
        assert ids[-1] == encoder.tokenizer.sep_token_id


def test_more_tokens_than_positions_is_an_error(tiny_checkpoint, saved):
    for load in (
        lambda: fresh(tiny_checkpoint, max_tokens=1025),
        lambda: load_classifier(saved, 1025),
    ):
        with pytest.raises(UserError, match=r"max_tokens: 1025 is more than .* 1024 positions"):
            load()


def test_the_new_layer_depends_on_the_seed_only(tiny_checkpoint):
    torch.manual_seed(7)
    first = fresh(tiny_checkpoint).model.classifier.weight
    torch.manual_seed(8)
    assert torch.equal(first, fresh(tiny_checkpoint).model.classifier.weight)
    assert not torch.equal(first, fresh(tiny_checkpoint, seed=1).model.classifier.weight)


def test_pretrained_weights_are_those_of_the_checkpoint(tiny_checkpoint):
    expected = AutoModel.from_pretrained(tiny_checkpoint).state_dict()
    found = fresh(tiny_checkpoint).model.encoder.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_hub_model_without_a_hub_is_an_error_that_says_what_to_do():
    with pytest.raises(UserError) as caught:
        new_classifier("jhu-clsp/mmBERT-base", pooling="cls", max_tokens=256, seed=0)
    message = str(caught.value)
    assert "base_model: cannot load 'jhu-clsp/mmBERT-base'" in message
    assert "HF_HUB_OFFLINE" in message and "embedded:e5-small" in message
    assert "\n" not in message and len(message) < 700


def test_a_folder_without_a_model_is_an_error(tmp_path):
    for load in (lambda: load_classifier(tmp_path, 64), lambda: fresh(str(tmp_path))):
        with pytest.raises(UserError, match="cannot load"):
            load()
    with pytest.raises(UserError, match=r"no embedded model 'embedded:e6'; .*embedded:e5-small"):
        fresh("embedded:e6")


def test_damaged_weights_are_an_error(saved, tmp_path):
    copy = Path(shutil.copytree(saved, tmp_path / "copy"))
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    with pytest.raises(UserError, match="cannot load"):
        load_classifier(copy, 64)
