from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from conftest import SENTENCES
from lib import LABELS
from lib.encoder import new_classifier
from lib.evaluation import METRICS, macro_f1
from lib.final_eval import (
    all_metrics_table,
    audit_texts,
    compare_by_source,
    compare_models,
    matrices,
    predict_both,
    share_table,
)

ABOUT = {"split": "test", "samples": 300, "seed": 0}


@pytest.fixture
def frame() -> pd.DataFrame:
    """Base is right on 3 of 6 texts, final on 5."""
    return pd.DataFrame(
        {
            "source": ["отзывы", "отзывы", "отзывы", "соцсети", "соцсети", "соцсети"],
            "label": [0, 1, 2, 0, 1, 2],
            "base_predicted": [0, 0, 2, 0, 0, 0],
            "final_predicted": [0, 1, 2, 0, 1, 1],
        }
    )


def values_of(rows: list[dict]) -> dict[tuple[str, str], float]:
    return {(row["name"], row["model"]): row["value"] for row in rows}


def test_base_final_and_difference_of_every_metric(frame):
    rows = compare_models(frame, dataset="gold", **ABOUT)
    values = values_of(rows)
    assert values.keys() == {(n, m) for n in METRICS for m in ("base", "final", "final - base")}
    assert values["accuracy", "base"] == pytest.approx(3 / 6)
    assert values["accuracy", "final"] == pytest.approx(5 / 6)
    assert values["accuracy", "final - base"] == pytest.approx(2 / 6)
    # base: negative 2 right of 5 predicted and 2 true; neutral none; positive 1 of 1 and of 2
    assert values["macro_f1", "base"] == pytest.approx((4 / 7 + 0 + 2 / 3) / 3)
    # final: negative all; neutral 2 right of 3 predicted and 2 true; positive 1 of 1 and of 2
    assert values["macro_f1", "final"] == pytest.approx((1 + 4 / 5 + 2 / 3) / 3)
    for row in rows:
        assert row["dataset"] == "gold" and row["split"] == "test" and row["texts"] == 6


def test_each_source_alone(frame):
    rows = compare_by_source(frame, **ABOUT)
    assert len(rows) == 2 * 3 * len(METRICS)
    for source, part in frame.groupby("source"):
        values = values_of([row for row in rows if row["dataset"] == source])
        expected = macro_f1(part["label"].to_numpy(), part["final_predicted"].to_numpy())
        assert values["macro_f1", "final"] == pytest.approx(expected)
        assert {row["texts"] for row in rows if row["dataset"] == source} == {3}


def test_no_texts_give_no_rows(frame):
    nothing = frame.head(0)
    assert compare_models(nothing, dataset="audit", **ABOUT) == []
    assert compare_by_source(nothing, **ABOUT) == []
    shares = share_table({"gold": frame, "audit": nothing})
    assert list(shares.index) == ["gold: labels", "gold: base", "gold: final"]


def test_share_table_and_matrices(frame):
    shares = share_table({"gold": frame})
    np.testing.assert_allclose(shares.loc["gold: labels"], [1 / 3] * 3)
    np.testing.assert_allclose(shares.loc["gold: base"], [5 / 6, 0, 1 / 6])
    np.testing.assert_allclose(shares.loc["gold: final"], [2 / 6, 3 / 6, 1 / 6])
    assert list(shares.columns) == list(LABELS)
    found = matrices(frame)
    assert found["base"].tolist() == [[2, 0, 0], [2, 0, 0], [1, 0, 1]]
    assert found["final"].tolist() == [[2, 0, 0], [0, 2, 0], [0, 1, 1]]


def test_all_metrics_table_has_a_column_per_model(frame):
    rows = compare_models(frame, dataset="gold", **ABOUT)
    table = all_metrics_table(rows)
    assert list(table.index) == list(METRICS)
    assert list(table.columns) == ["base", "final", "final - base"]
    row = next(r for r in rows if r["name"] == "accuracy" and r["model"] == "final")
    assert table.loc["accuracy", "final"] == f"0.833 [{row['low']:.3f}, {row['high']:.3f}]"


def test_audit_texts_are_those_with_a_label():
    corpus = pd.DataFrame(
        {
            "text": ["раз", "два", "три"],
            "source": "отзывы",
            "audit_label": pd.array([2, None, 0], dtype="Int64"),
        }
    )
    known = audit_texts(corpus)
    assert known["text"].tolist() == ["раз", "три"]
    assert known["label"].tolist() == [2, 0] and known["label"].dtype == np.int64
    assert audit_texts(corpus.iloc[[1]]).empty


def test_predict_both_adds_the_columns_of_both_models(tiny_checkpoint):
    models = {
        name: new_classifier(tiny_checkpoint, pooling=pooling, max_tokens=64, seed=seed)
        for name, pooling, seed in (("base", "mean", 0), ("final", "cls", 1))
    }
    frame = pd.DataFrame({"text": SENTENCES, "label": 1}, index=range(10, 17))
    given = frame.copy()
    result, vectors = predict_both(
        models, frame, {"dtype": torch.float32, "device": torch.device("cpu")}
    )
    assert frame.equals(given)  # the input is left alone
    assert result["text"].tolist() == SENTENCES
    for name, encoder in models.items():
        columns = [f"{name}_p{i}" for i in range(3)]
        inputs = encoder.tokenizer(SENTENCES, padding=True, return_tensors="pt")
        with torch.no_grad():
            output = encoder.model.eval()(**inputs)
        np.testing.assert_allclose(result[columns], output.logits.softmax(-1), atol=1e-5)
        np.testing.assert_allclose(vectors[name], output.pooled, atol=1e-5)
        assert (result[f"{name}_predicted"] == result[columns].to_numpy().argmax(1)).all()
    assert not np.allclose(result["base_p0"], result["final_p0"])
