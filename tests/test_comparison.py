from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score

from conftest import SENTENCES
from lib import metrics
from lib.data import cleaning
from lib.data.tables import write_corpus
from lib.evaluation import comparison
from lib.metrics import METRICS
from lib.models.classifier import pool
from lib.models.encoder import load_classifier, new_classifier, save_classifier
from lib.reports import front

ABOUT = {"split": "test", "samples": 300, "seed": 0}


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "source": ["отзывы", "отзывы", "отзывы", "соцсети", "соцсети", "соцсети"],
            "label": [0, 1, 2, 0, 1, 2],
            "base_predicted": [0, 0, 2, 0, 0, 0],
            "final_predicted": [0, 1, 2, 0, 1, 1],
        }
    )


def test_base_final_and_difference_of_every_metric(frame):
    rows = comparison.compare_models(frame, dataset="gold", **ABOUT)
    values = {(row["name"], row["model"]): row["value"] for row in rows}
    models = ("base", "final", "final - base")
    assert values.keys() == {(name, model) for name in METRICS for model in models}
    for model in ("base", "final"):
        pair = frame["label"], frame[f"{model}_predicted"]
        assert values["accuracy", model] == pytest.approx(accuracy_score(*pair))
        assert values["macro_f1", model] == pytest.approx(f1_score(*pair, average="macro"))
    assert values["accuracy", "final - base"] == pytest.approx(2 / 6)
    table = metrics.table(rows)
    assert list(table.index) == list(METRICS) and list(table.columns) == list(models)
    (row,) = [r for r in rows if r["name"] == "accuracy" and r["model"] == "final"]
    assert table.loc["accuracy", "final"] == f"0.833 [{row['low']:.3f}, {row['high']:.3f}]"
    line = comparison.in_words(rows, dataset="gold", split="test")
    assert line.startswith("Macro-F1, gold, test, 6 texts: base 0.413 [") and "final - base" in line
    assert comparison.in_words(rows, dataset="audit", split="audit") == "audit, audit: no texts"


def test_each_source_alone(frame):
    rows = comparison.compare_by_source(frame, **ABOUT)
    table = metrics.table(rows, "dataset", "texts")
    assert list(table.index) == ["отзывы, 3", "соцсети, 3"]
    part = frame[frame["source"] == "отзывы"]
    expected = f1_score(part["label"], part["base_predicted"], average="macro")
    assert table.loc["отзывы, 3", "base"].startswith(f"{expected:.3f} [")
    assert comparison.compare_by_source(frame.head(0), **ABOUT) == []


def test_the_mean_over_sources_counts_each_alike():
    rng = np.random.default_rng(0)
    sources = np.repeat(["отзывы", "соцсети", "мало"], [400, 60, 49])
    frame = pd.DataFrame({"source": sources, "label": rng.integers(0, 3, len(sources))})
    for name, right in {"base": 0.5, "final": 0.8}.items():
        other = rng.integers(0, 3, len(sources))
        frame[f"{name}_predicted"] = np.where(
            rng.random(len(sources)) < right, frame["label"], other
        )
    rows = {row["model"]: row for row in comparison.mean_over_sources(frame, **ABOUT)}
    for name in comparison.MODELS:
        each = [
            f1_score(part["label"], part[f"{name}_predicted"], average="macro")
            for source, part in frame.groupby("source")
            if source != "мало"  # fewer than 50 texts
        ]
        assert rows[name]["value"] == pytest.approx(np.mean(each))
        assert rows[name]["low"] < rows[name]["value"] < rows[name]["high"]
        assert rows[name]["texts"] == 460 and rows[name]["dataset"] == comparison.DOMAINS
    paired = rows["final - base"]
    assert paired["value"] == pytest.approx(rows["final"]["value"] - rows["base"]["value"])
    assert paired["low"] > 0
    assert comparison.mean_over_sources(frame.tail(49), **ABOUT) == []


def test_a_source_called_as_a_whole_set_is_told_apart(frame):
    frame["source"] = frame["source"].replace("соцсети", "gold")
    rows = comparison.compare_by_source(frame, **ABOUT)
    assert {row["dataset"] for row in rows} == {"отзывы", "gold (source)"}
    whole = comparison.compare_models(frame, dataset="gold", **ABOUT)
    line = front.side_by_side(front.headline([*whole, *rows]), ("dataset", "split"), "model")
    assert line["gold", "test"]["final"]["texts"] == 6


def test_shares_and_matrices(frame):
    shares = comparison.share_table({"gold": frame, "audit": frame.head(0)})
    assert list(shares.index) == ["gold: labels", "gold: base", "gold: final"]
    np.testing.assert_allclose(shares.loc["gold: base"], [5 / 6, 0, 1 / 6])
    assert comparison.matrices(frame)["final"].tolist() == [[2, 0, 0], [0, 2, 0], [0, 1, 1]]


@pytest.fixture
def inputs(tiny_checkpoint: str, tmp_path: Path) -> dict[str, object]:
    """Files as steps 01, 02 and 05 leave them: four gold texts, two audit texts, two held out."""
    for seed, name in enumerate(comparison.MODELS):
        model = new_classifier(tiny_checkpoint, pooling="mean", max_tokens=64, seed=seed)
        save_classifier(model, tmp_path / name)
    gold = pd.DataFrame({"text": SENTENCES[:4], "label": [0, 1, 2, 0], "source": "g"})
    gold["text_id"], gold["original_label"] = list("abcd"), ""
    gold["split"] = ["test", "train", "validation", "test"]
    gold.to_parquet(tmp_path / "gold.parquet")
    corpus = pd.DataFrame({"text_id": list("123"), "text": SENTENCES[4:7], "source": "c"})
    corpus["audit_label"] = pd.array([None, 2, 0], dtype="Int8")
    (tmp_path / "corpus").mkdir()
    write_corpus(corpus, tmp_path / "corpus" / "part-00000.parquet")
    gold.iloc[:2].to_parquet(tmp_path / "heldout.parquet")
    paths = {name: tmp_path / f"{name}.parquet" for name in ("gold", "heldout")}
    paths |= {name: tmp_path / name for name in ("corpus", "base", "final")}
    return paths | {"max_tokens": 64, "precision": "float32", "device": "cpu"}


def test_predictions_are_those_of_the_models(inputs, tmp_path):
    folder = tmp_path / "predictions"
    folder.mkdir()
    comparison.predict(folder, **inputs)
    tables = comparison.read(folder)
    assert {name: table["text_id"].tolist() for name, table in tables.items()} == {
        "test": ["a", "d"],
        "validation": ["c"],
        "audit": ["2"],
        "audit validation": ["3"],
        "heldout": ["a", "b"],
    }
    assert tables["audit"]["label"].tolist() == [2]
    with np.load(folder / "vectors.npz") as vectors:
        for name in comparison.MODELS:
            encoder = load_classifier(inputs[name], 64)
            texts = tables["test"]["text"].tolist()
            given = encoder.tokenizer(texts, padding=True, return_tensors="pt")
            with torch.no_grad():
                output = encoder.model(**given, output_hidden_states=True)
            columns = [f"{name}_p{i}" for i in range(3)]
            found = tables["test"][columns].to_numpy()
            np.testing.assert_allclose(found, output.logits.softmax(-1), atol=1e-5)
            pooled = pool(output.hidden_states[-1], given["attention_mask"], "mean")
            np.testing.assert_allclose(vectors[name], pooled, atol=2e-3)
            assert tables["test"][f"{name}_predicted"].tolist() == found.argmax(1).tolist()


def test_some_texts_of_a_sorted_source_have_all_its_classes(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "MOST_TEXTS", 15)
    gold = pd.DataFrame({"text": [f"текст {i}" for i in range(60)], "label": np.arange(60) // 20})
    gold["text_id"] = [cleaning.text_id(text) for text in gold["text"]]
    gold.assign(source="g", split="test").to_parquet(tmp_path / "gold.parquet")
    found = comparison.some_texts(tmp_path / "gold.parquet", inputs["corpus"], ["test"])
    assert len(found) == 15 and set(found["label"]) == {0, 1, 2}
    lowest = sorted(gold["text_id"])[:15]
    assert found["text_id"].tolist() == [each for each in gold["text_id"] if each in lowest]


def test_an_interrupted_call_is_gone_on_with(inputs, tmp_path):
    folder = tmp_path / "predictions"
    folder.mkdir()
    comparison.predict(folder, **inputs)
    before = (folder / "test.parquet").stat().st_mtime_ns
    (folder / "audit.parquet").unlink()
    comparison.predict(folder, **inputs)
    assert (folder / "test.parquet").stat().st_mtime_ns == before
    assert len(comparison.read(folder)["audit"]) == 1


def test_without_audit_texts(inputs, tmp_path):
    for path in inputs["corpus"].iterdir():
        path.unlink()
    folder = tmp_path / "predictions"
    folder.mkdir()
    comparison.predict(folder, **inputs)
    audit = comparison.read(folder)["audit"]
    assert audit.empty and "final_predicted" in audit
