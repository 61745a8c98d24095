"""The life of a classifier on a ModernBERT checkpoint: fresh, saved, loaded, said what is wrong."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import HfApi
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from conftest import SENTENCES
from lib import LABELS
from lib.errors import UserError
from lib.models import encoder as encoders
from lib.models.encoder import Encoder, load_classifier, new_classifier, save_classifier
from lib.models.inference import predict

CPU = {"dtype": torch.float32, "device": torch.device("cpu")}


def fresh(checkpoint: str | Path, **changes) -> Encoder:
    settings = {"pooling": "mean", "max_tokens": 1024, "seed": 0}
    return new_classifier(checkpoint, **(settings | changes))


@pytest.fixture(scope="module")
def saved(tiny_checkpoint: str, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("saved") / "model"
    save_classifier(fresh(tiny_checkpoint), directory)
    return directory


def probabilities_of(encoder: Encoder) -> np.ndarray:
    return predict(encoder, encoder.tokenize(SENTENCES), **CPU)[0]


def test_saved_and_loaded_gives_the_same_probabilities(tiny_checkpoint, saved):
    loaded = load_classifier(saved)
    expected = probabilities_of(fresh(tiny_checkpoint))
    np.testing.assert_allclose(probabilities_of(loaded), expected, atol=1e-6)
    assert loaded.pooling == "mean" and loaded.max_tokens == 1024 and not loaded.model.training
    model = AutoModelForSequenceClassification.from_pretrained(saved).eval()
    tokenizer = AutoTokenizer.from_pretrained(saved)
    with torch.no_grad():
        logits = model(**tokenizer(SENTENCES, padding=True, return_tensors="pt")).logits
    np.testing.assert_allclose(logits.softmax(-1).numpy(), expected, atol=1e-5)
    assert [model.config.id2label[i] for i in range(3)] == list(LABELS)


def test_a_saved_model_is_for_others(tiny_checkpoint, saved):
    """Readable by all, and without a path of the machine that trained it."""
    machine = [str(Path(tiny_checkpoint).parent), str(saved.parent)]
    for path in (path for path in saved.rglob("*") if path.is_file()):
        assert path.stat().st_mode & 0o777 == 0o644
        if path.suffix != ".safetensors":
            text = path.read_text(encoding="utf-8")
            assert not any(place in text for place in machine), path.name
    config = json.loads((saved / "config.json").read_text(encoding="utf-8"))
    assert "_name_or_path" not in config


def test_long_texts_are_read_to_their_end(tiny_checkpoint):
    encoder = fresh(tiny_checkpoint)
    words = " ".join(SENTENCES).split()
    beginning = " ".join(np.random.default_rng(0).choice(words, 550))
    texts = [f"{beginning} ужасно плохо кошмар", f"{beginning} прекрасно спасибо доволен"]
    token_ids = encoder.tokenize(texts)
    assert 600 < len(token_ids[0]) < 1024
    _, pooled = predict(encoder, token_ids, **CPU)
    assert np.isfinite(pooled).all() and np.abs(pooled[0] - pooled[1]).max() > 1e-3
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


def test_tokens_of_many_texts_are_one_flat_array(tiny_checkpoint, monkeypatch):
    monkeypatch.setattr("lib.models.encoder.AT_ONCE", 3)
    encoder = fresh(tiny_checkpoint)
    found = encoder.tokenize(text for text in SENTENCES)
    expected = [encoder.tokenizer(text)["input_ids"] for text in SENTENCES]
    assert [row.tolist() for row in found] == expected
    assert found.lengths.tolist() == [len(row) for row in expected]
    assert found.ids.dtype == np.int32 and len(found.ids) == sum(map(len, expected))
    assert found[-1].tolist() == expected[-1] and found[np.int64(2)].tolist() == expected[2]
    assert [row.tolist() for row in found[1:3]] == expected[1:3]
    assert len(encoder.tokenize([])) == 0 and not encoder.tokenize([]).lengths.sum()
    with pytest.raises(IndexError):
        found[len(SENTENCES)]


def test_more_tokens_than_positions_is_an_error(tiny_checkpoint, saved):
    for load in (
        lambda: fresh(tiny_checkpoint, max_tokens=1025),
        lambda: load_classifier(saved, 1025),
    ):
        with pytest.raises(UserError, match=r"max_tokens: 1025 is more than .* 1024 positions"):
            load()


def test_only_the_new_layer_is_random_and_by_the_seed(tiny_checkpoint):
    torch.manual_seed(7)
    first = fresh(tiny_checkpoint).model
    torch.manual_seed(8)
    again = fresh(Path(tiny_checkpoint)).model
    assert torch.equal(first.classifier.weight, again.classifier.weight)
    other = fresh(tiny_checkpoint, seed=1).model
    assert not torch.equal(first.classifier.weight, other.classifier.weight)
    expected = AutoModel.from_pretrained(tiny_checkpoint).state_dict()
    found = first.base_model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("name", ["tiny_checkpoint", "tiny_bert"])
def test_the_head_of_a_checkpoint_is_taken(name, request, tmp_path):
    """But not its last layer, which has other classes."""
    path = request.getfixturevalue(name)
    model = AutoModelForSequenceClassification.from_pretrained(path, num_labels=5)
    dense = model.head.dense if hasattr(model, "head") else model.bert.pooler.dense
    torch.nn.init.normal_(dense.weight, generator=torch.Generator().manual_seed(3))
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(path).save_pretrained(tmp_path)
    found = fresh(tmp_path).model
    taken = found.head.dense if hasattr(found, "head") else found.bert.pooler.dense
    assert torch.equal(taken.weight, dense.weight)
    assert found.classifier.weight.shape == (3, 32) and not found.classifier.bias.any()


def test_without_a_hub_a_hub_model_says_what_to_do(monkeypatch):
    def refuse(*_, **__):
        raise type("ConnectError", (Exception,), {})("Name or service not known")

    def check(load):
        with pytest.raises(UserError, match=r"^base_model: .*'jhu-clsp/mmBERT-base'") as caught:
            load()
        message = str(caught.value)
        assert "base_revision" in message and "embedded:e5-small" in message
        assert "\n" not in message and len(message) < 700

    check(lambda: fresh("jhu-clsp/mmBERT-base"))
    check(lambda: encoders.resolve_revision("jhu-clsp/mmBERT-base", None))  # offline by conftest
    monkeypatch.setattr(HfApi, "model_info", refuse)  # no network, which has errors of its own
    check(lambda: encoders.resolve_revision("jhu-clsp/mmBERT-base", None))


def test_a_revision_is_asked_for_hub_models_only(tiny_checkpoint, monkeypatch):
    def answer(self, name, *, revision, timeout):
        return type("Info", (), {"sha": f"{name}@{revision}"})

    monkeypatch.setattr(HfApi, "model_info", answer)
    assert encoders.resolve_revision("org/model", None) == "org/model@None"
    assert encoders.resolve_revision(tiny_checkpoint, None) is None
    assert encoders.resolve_revision("embedded:e5-small", None) is None


def test_a_folder_without_a_model_is_an_error(tmp_path, tiny_checkpoint, saved):
    copy = Path(shutil.copytree(saved, tmp_path / "copy"))
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    for folder in (tmp_path, copy, tiny_checkpoint):  # the last has no classification layer
        with pytest.raises(UserError, match=r"cannot load a classifier from .*05_metric_learning"):
            load_classifier(folder, 64)
    with pytest.raises(UserError, match="base_model: cannot load"):
        fresh(tmp_path)
    with pytest.raises(UserError, match=r"no embedded model 'embedded:e6'; .*embedded:e5-small"):
        fresh("embedded:e6")
    for absent in (str(tmp_path / "nowhere"), Path("no/where"), "./no/where", "../no/where"):
        with pytest.raises(UserError, match=r"where: no such directory"):
            encoders.fingerprint(absent, None)
    assert encoders.fingerprint("org/model", "abc") == "abc"  # of the hub


def test_what_loads_no_model_needs_no_transformers():
    code = "import sys, lib.models.encoder; sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_precision_is_what_the_hardware_multiplies(monkeypatch):
    on = encoders.hardware("bfloat16", "cpu")
    assert on == {"dtype": torch.bfloat16, "device": torch.device("cpu")}
    asked = {}

    def supported(including_emulation=True):
        asked["emulation"] = including_emulation
        return including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    gpu = torch.device("cuda")
    assert encoders.compute_dtype("auto", gpu) == torch.float16
    assert encoders.compute_dtype("float32", gpu) == torch.float32
    with pytest.raises(UserError, match="precision: this GPU has no bfloat16"):
        encoders.compute_dtype("bfloat16", gpu)
    assert asked == {"emulation": False}
