"""The exported model does what the run's model does, in each format, and says what it costs."""

import json
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from huggingface_hub import metadata_load
from tokenizers import Tokenizer

from lib import LABELS
from lib.data.tables import write_corpus
from lib.errors import UserError
from lib.files import folder_digests, read_json, write_json, write_text
from lib.models import SentimentModel, card, deployment, sentiment
from lib.models.encoder import load_classifier
from lib.models.inference import predict
from lib.models.sentiment import exported as exported_of
from lib.training import base
from test_trainer import base_options, toy

CPU = {"dtype": torch.float32, "device": torch.device("cpu")}
KINDS = ("tiny_checkpoint", "tiny_bert")


@pytest.fixture(scope="module", params=KINDS)
def run_dir(request, tmp_path_factory) -> Path:
    """As much of a run as an export reads; its model is trained."""
    run = tmp_path_factory.mktemp("run")
    gold = pd.concat(
        toy(60, seed).assign(split=split)
        for seed, split in enumerate(("train", "validation", "test"))
    ).reset_index(drop=True)
    tables = run / "01_gold_data" / "tables"
    tables.mkdir(parents=True)
    gold.assign(text_id=gold.index.astype(str)).to_parquet(tables / "gold.parquet")
    (tables / "corpus").mkdir()
    corpus = toy(90, 7).assign(text_id="x", source="made up", audit_label=None)
    write_corpus(corpus, tables / "corpus" / "part-00000.parquet")
    checkpoint = request.getfixturevalue(request.param)
    model = run / "05_metric_learning" / "model"
    model.mkdir(parents=True)
    options = base_options(base_model=checkpoint, max_tokens=200, epochs=6)
    base.train(model, gold=tables / "gold.parquet", **options)
    parameters = {
        "sources": ["sample"],
        "seed": 0,
        "base_model": checkpoint,
        "epochs": 6,
        "steps": 9,
    }
    for step in deployment.STEPS:
        digests = folder_digests(run / step)
        write_json(run / step / "manifest.json", {"parameters": parameters, "outputs": digests})
    return run


@pytest.fixture(scope="module")
def exported(run_dir: Path, tmp_path_factory) -> Path:
    return deployment.export(run_dir, tmp_path_factory.mktemp("out") / "model", max_loss=0.05)


def alone(code: str) -> str:
    """What code prints in a process of its own."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_format_gives_the_models_probabilities(run_dir, exported):
    """Also for texts of each length, longer than the local attention window."""
    original = load_classifier(run_dir / "05_metric_learning" / "model")
    words = toy(600, 3)["text"].tolist()
    texts = [*words[:30], *(" ".join(words[i : i + 40]) for i in range(4)), "да 😊"]
    ids = original.tokenize(texts)
    assert max(map(len, ids)) == 200 > 2 * 64
    expected, pooled = predict(original, ids, **CPU)
    checkpoint = load_classifier(exported)
    found, vectors = predict(checkpoint, checkpoint.tokenize(texts), **CPU)
    np.testing.assert_allclose(found[:-1], expected[:-1], atol=1e-5)
    np.testing.assert_allclose(vectors[:-1], pooled[:-1], atol=1e-4)
    onnx = SentimentModel(exported, deployment.FLOAT32).predict_proba(texts)
    np.testing.assert_allclose(onnx, found, atol=1e-4)
    int8 = SentimentModel(exported, deployment.INT8).predict_proba(texts)
    assert np.abs(int8 - found).max() < 0.2 and not np.allclose(int8, found, atol=1e-6)
    assert SentimentModel(exported).predict(texts) == [LABELS[i] for i in int8.argmax(1)]


def test_what_was_measured_is_written(run_dir, exported):
    about = read_json(exported / "export.json")
    rows = {row["model"]: row for row in about["measured"]}
    assert list(rows) == ["PyTorch float32", "ONNX float32", "ONNX int8"]
    assert rows["PyTorch float32"]["macro_f1"]["value"] > 0.8
    assert rows["ONNX float32"]["equal_labels"] == 1
    assert rows["ONNX int8"]["difference"]["value"] >= -0.05
    layers = dict(load_classifier(exported).model.named_modules())
    assert all(isinstance(layers[name], torch.nn.Linear) for name in rows["ONNX int8"]["in_float"])
    gold = run_dir / "01_gold_data" / "tables" / "gold.parquet"
    test = deployment.some_texts(gold, "test", 0)
    found = SentimentModel(exported).predict_proba(test["text"]).argmax(1)
    assert rows["ONNX int8"]["texts"] == len(test) == 60
    from sklearn.metrics import f1_score

    expected = f1_score(test["label"], found, average="macro")
    assert rows["ONNX int8"]["macro_f1"]["value"] == pytest.approx(expected)
    readme = (exported / "README.md").read_text(encoding="utf-8")
    assert readme.startswith("---\nlanguage: ru\n") and "| ONNX int8 | " in readme
    assert str(run_dir) not in readme and "{{" not in readme
    assert "- Final model: 9 steps on gold and on pseudo-labelled corpus texts.\n" in readme
    weights = deployment.size(run_dir / "05_metric_learning" / "model")
    assert deployment.size(exported) <= weights
    assert not list(exported.glob("*.parquet"))


def test_the_card_has_figures_of_the_model_that_it_is_of_only(run_dir, exported, tmp_path):
    """Not of an earlier final model; and the hub can read them."""
    row = {"name": "macro_f1", "model": "final", "dataset": 'posts: "VK"', "split": "test"}
    row |= {"value": 0.7123, "low": 0.7, "high": 0.72, "texts": 60}
    (tmp_path / "run").mkdir()
    shutil.copytree(run_dir / "01_gold_data", tmp_path / "run" / "01_gold_data")
    evaluation = tmp_path / "run" / "06_final_eval"
    write_json(evaluation / "metrics.json", [row])
    parameters = read_json(run_dir / "05_metric_learning" / "manifest.json")["parameters"]
    for inputs, shown in (({}, True), ({"05_metric_learning/model": "an earlier one"}, False)):
        write_json(evaluation / "manifest.json", {"parameters": {}, "inputs": inputs})
        about = read_json(exported / "export.json")
        card.write(tmp_path, about, tmp_path / "run", parameters, parameters, parameters)
        text = (tmp_path / "README.md").read_text(encoding="utf-8")
        assert ("0.712 [0.700, 0.720]" in text) is shown
        found = metadata_load(tmp_path / "README.md")
        assert "base_model" not in found  # a local folder is none of the hub
        if shown:
            (result,) = found["model-index"][0]["results"]
            name = row["dataset"]
            assert result["dataset"] == {"name": name, "type": name, "split": "test"}
            assert result["metrics"][0]["value"] == 0.712


def test_the_vocabulary_knows_no_test_text(run_dir):
    tables = run_dir / "01_gold_data" / "tables"
    seen = set(deployment.texts_before_test(tables / "gold.parquet", tables / "corpus"))
    gold = pd.read_parquet(tables / "gold.parquet")
    test = gold["split"] == "test"
    corpus = pd.read_parquet(tables / "corpus")["text"]
    assert seen == {*gold["text"][~test], *corpus}
    assert not {*gold["text"][test]} <= seen


def test_the_whole_vocabulary_may_be_kept(run_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(deployment, "write_onnx", lambda *_: [])
    out = deployment.export(run_dir, tmp_path / "whole", keep_vocabulary=True)
    before = Tokenizer.from_file(str(run_dir / "05_metric_learning" / "model" / "tokenizer.json"))
    found = Tokenizer.from_file(str(out / "tokenizer.json"))
    assert found.get_vocab() == before.get_vocab()
    assert found.truncation["max_length"] == 200
    assert "vocabulary was cut" not in (out / "README.md").read_text(encoding="utf-8")


def test_the_head_stays_in_float(exported):
    model = load_classifier(exported).model
    nodes = onnx.load(exported / deployment.INT8, load_external_data=False).graph.node
    in_float = " ".join(node.name for node in nodes if node.op_type in ("MatMul", "Gemm"))
    linear = [n for n, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    head = [name for name in linear if not name.startswith(f"{model.base_model_prefix}.")]
    assert "classifier" in head
    assert [name for name in head if f"/{name.replace('.', '/')}/" not in in_float] == []
    (row,) = (r for r in read_json(exported / "export.json")["measured"] if "in_float" in r)
    assert not set(row["in_float"]) & set(head)


@pytest.mark.parametrize(("test_loses", "written"), [(0.005, True), (0.5, False)])
def test_the_layers_in_float_are_chosen_by_validation(tmp_path, monkeypatch, test_loses, written):
    """The first level would do on test, the second does on validation."""
    loses = {"validation": [0.5, 0.0, 0.0], "test": [0.0, test_loses, 0.0]}
    levels = []

    def quantise(source, target, *_):
        target.write_bytes(b"")
        levels.append(target)
        return [f"layer {len(levels)}"]

    def row(name, folder, file, texts, original):
        split = texts["split"].iloc[0]
        lost = loses[split][len(levels) - 1] if file == deployment.INT8 else 0
        assert original == split
        return {"equal_labels": 1, "difference": {"value": -lost}, "of": split}

    for name in ("export", "outliers"):
        monkeypatch.setattr(deployment.onnx_export, name, lambda *_: [])
    monkeypatch.setattr(deployment.onnx_export, "quantise", quantise)
    monkeypatch.setattr(deployment, "onnx_row", row)
    monkeypatch.setattr(deployment, "measured", lambda *given: given[-1]["split"].iloc[0])
    monkeypatch.setattr(deployment, "line", str)
    (tmp_path / "onnx").mkdir()
    splits = [pd.DataFrame({"text": ["да"], "split": [name]}) for name in ("test", "validation")]
    encoder = SimpleNamespace(
        model=SimpleNamespace(base_model_prefix="bert", config=SimpleNamespace(num_hidden_layers=4))
    )
    found = deployment.write_onnx(encoder, tmp_path, *splits, "test", 0.01)
    assert len(levels) == 2 and (tmp_path / deployment.INT8).exists() == written
    assert [r["of"] for r in found] == ["test"] * (1 + written)
    assert [r["in_float"] for r in found[1:]] == [["layer 2"]] * written


def test_int8_that_loses_too_much_is_not_written(run_dir, tmp_path, caplog):
    out = deployment.export(run_dir, tmp_path / "model", max_loss=-1.0)
    assert not (out / deployment.INT8).exists() and (out / deployment.FLOAT32).exists()
    assert "no int8 file: it would lose more than -1.0" in caplog.text
    assert "model.onnx" in (out / "README.md").read_text(encoding="utf-8")
    assert len(SentimentModel(out).predict(["плохо"])) == 1


def test_an_export_is_kept_or_said_to_be_there(run_dir, exported, tmp_path):
    before = (exported / "export.json").stat().st_mtime_ns
    assert deployment.export(run_dir, exported, max_loss=0.05) == exported
    assert (exported / "export.json").stat().st_mtime_ns == before
    with pytest.raises(UserError, match=r"--out: .* is there already"):
        deployment.export(run_dir, exported, max_loss=0.04)
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match=r"--out: .* is there already"):
        deployment.export(run_dir, tmp_path / "other")
    with pytest.raises(UserError, match="01_gold_data is not complete"):
        deployment.export(tmp_path, tmp_path / "new")


def test_the_cards_lines_for_onnx_run_with_two_packages(exported):
    """The model card's own code, where nothing but ONNX Runtime and tokenizers can be imported."""
    readme = (exported / "README.md").read_text(encoding="utf-8")
    (code,) = (c for c in re.findall(r"```python\n(.*?)```", readme, re.S) if "onnxruntime" in c)
    blocked = "import sys\nfor name in ('lib', 'torch', 'transformers'): sys.modules[name] = None\n"
    code = blocked + code.replace("PATH", str(exported))
    assert alone(code).split() == SentimentModel(exported).predict(["Отличный магазин!"])


def test_long_texts_run_one_after_the_other(exported, monkeypatch):
    texts = [" ".join(["плохо"] * count) for count in (3, 150, 90, 5, 120, 2)]
    model = SentimentModel(exported)
    expected, run, long = model.predict_proba(texts), model._predict._run, []

    def watched(rows):
        if threading.current_thread() is threading.main_thread():
            long.extend(map(len, rows))
        return run(rows)

    monkeypatch.setattr(sentiment, "LONG", 80)
    monkeypatch.setattr(model._predict, "_run", watched)
    np.testing.assert_allclose(model.predict_proba(texts), expected, atol=1e-6)
    assert len(long) == 3 and min(long) > 80


def test_onnx_needs_no_package_that_is_slow_to_import(exported):
    code = (
        "import sys\nfrom lib.models import SentimentModel\n"
        f"print(SentimentModel({str(exported)!r}).predict(['плохо', 'спасибо'])[1])\n"
        "sys.exit(' '.join({'torch', 'transformers', 'pandas', 'scipy'} & sys.modules.keys()) or 0)"
    )
    assert alone(code).strip() in LABELS


def test_stock_transformers_open_the_exported_folder(exported):
    code = (
        "import sys, json\nsys.modules['lib'] = None\nfrom transformers import pipeline\n"
        "from sentence_transformers import SentenceTransformer\n"
        f"texts, path = ['плохо', 'спасибо ' * 900], {str(exported)!r}\n"
        "model = pipeline('text-classification', model=path)\n"
        "found = model(texts, truncation=True), SentenceTransformer(path).encode(texts).tolist()\n"
        "print(json.dumps(found))"
    )
    found, vectors = json.loads(alone(code).splitlines()[-1])
    torch_model = load_classifier(exported)
    ids = torch_model.tokenize(["плохо", "спасибо " * 900])
    expected, pooled = predict(torch_model, ids, **CPU)
    np.testing.assert_allclose(vectors, pooled, atol=1e-4)
    assert [row["label"] for row in found] == [LABELS[i] for i in expected.argmax(1)]
    np.testing.assert_allclose([row["score"] for row in found], expected.max(1), atol=1e-5)


def test_no_model_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no model is there; name a run"):
        SentimentModel(tmp_path)
    for name in ("config.json", "tokenizer.json", "onnx/model.onnx"):
        path = tmp_path / "broken" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match="not a readable model"):
        SentimentModel(tmp_path / "broken")


def test_an_export_older_than_the_final_model_is_named(run_dir, caplog):
    out = deployment.export(run_dir, max_loss=0.05)
    assert out == run_dir / "model" and exported_of(run_dir)["current"]
    assert SentimentModel(run_dir).folder == out and "is older" not in caplog.text
    manifest = run_dir / "05_metric_learning" / "manifest.json"
    write_json(manifest, read_json(manifest) | {"outputs": {"model/model.safetensors": "another"}})
    SentimentModel(run_dir)
    assert "is older than the run's final model" in caplog.text
    assert deployment.export(run_dir, max_loss=0.06) == out  # the run's own may be replaced


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_damaged_record_of_an_export_counts_as_none(tmp_path, content):
    for step in deployment.STEPS:
        write_json(tmp_path / step / "manifest.json", {"parameters": {}, "outputs": {}})
    for name in ("config.json", "tokenizer.json", "export.json"):
        write_text(tmp_path / "model" / name, content)
    assert exported_of(tmp_path) is None
    assert sentiment.find_model(tmp_path) == tmp_path / "model"
    with pytest.raises(UserError, match=r"is there already; .* use --force"):
        deployment.export(tmp_path)


@pytest.mark.parametrize("start_from", ["base_classifier", "base_model"])
def test_the_card_names_what_the_weights_come_from(run_dir, exported, tmp_path, start_from):
    """Not base_model, which a start model of another kind makes void."""
    base = {"base_model": "embedded:e5-small", "start_model": "/home/me/my_model", "epochs": 1}
    parameters = {"sources": ["sample"], "seed": 0}, base, {"start_from": start_from, "steps": 9}
    card.write(tmp_path, read_json(exported / "export.json"), run_dir, *parameters)
    readme = (tmp_path / "README.md").read_text(encoding="utf-8")
    named = r"my\_model (licence: see where it comes from)" in readme and "/home/me" not in readme
    assert named == ("e5-small" not in readme) == (start_from == "base_classifier")
