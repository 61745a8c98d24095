"""Metrics against scikit-learn, intervals against resampling the texts one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics

from lib.metrics import (
    METRICS,
    accuracy,
    compare,
    confusion,
    evaluate,
    f1_per_class,
    macro_f1,
    resample,
    t_interval,
)

CLASSES = [0, 1, 2]
ABOUT = {"dataset": "gold", "split": "test"}
labels_of = hnp.arrays(np.int64, st.shared(st.integers(1, 60), key="n"), elements=st.integers(0, 2))


def noisy(true: np.ndarray, error: float, seed: int) -> np.ndarray:
    """Labels of which about `error` are replaced at random."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(len(true)) < error, rng.integers(0, 3, len(true)), true)


@given(labels_of, labels_of)
def test_metrics_agree_with_scikit_learn(true, predicted):
    matrix = confusion(true, predicted)
    assert (matrix == metrics.confusion_matrix(true, predicted, labels=CLASSES)).all()
    per_class = metrics.f1_score(true, predicted, average=None, labels=CLASSES, zero_division=0)
    np.testing.assert_allclose(f1_per_class(matrix), per_class)
    expected = metrics.f1_score(true, predicted, average="macro", labels=CLASSES, zero_division=0)
    assert macro_f1(true, predicted) == pytest.approx(expected)
    assert accuracy(matrix) == pytest.approx(metrics.accuracy_score(true, predicted))


def test_hand_computed_example():
    true = np.array([0, 0, 0, 1, 1, 2])
    predicted = np.array([0, 0, 1, 1, 2, 2])
    # precision and recall: negative 1, 2/3; neutral 1/2, 1/2; positive 1/2, 1
    assert f1_per_class(confusion(true, predicted)) == pytest.approx([0.8, 0.5, 2 / 3])
    assert macro_f1(true, predicted) == pytest.approx((0.8 + 0.5 + 2 / 3) / 3)


@given(hnp.arrays(np.int64, 9, elements=st.integers(0, 50)).filter(lambda c: c.sum() > 0))
def test_resampled_counts_keep_the_number_of_texts_and_the_empty_cells(counts):
    drawn = resample(counts, 20, seed=0)
    assert (drawn.sum(1) == counts.sum()).all()
    assert (drawn[:, counts == 0] == 0).all()


def test_intervals_equal_those_of_resampling_the_texts():
    rng = np.random.default_rng(1)
    true = rng.choice(3, size=250, p=[0.5, 0.35, 0.15])
    predicted = noisy(true, 0.4, seed=2)
    rows = evaluate(true, predicted, model="base", samples=4000, seed=3, **ABOUT)
    drawn = rng.integers(0, len(true), (2000, len(true)))
    brute = {
        "macro_f1": [macro_f1(true[i], predicted[i]) for i in drawn],
        "accuracy": [(true[i] == predicted[i]).mean() for i in drawn],
        "f1_positive": [f1_per_class(confusion(true[i], predicted[i]))[2] for i in drawn],
    }
    found = {row["name"]: row for row in rows}
    for name, values in brute.items():
        low, high = np.quantile(values, [0.025, 0.975])
        assert found[name]["low"] == pytest.approx(low, abs=0.012)
        assert found[name]["high"] == pytest.approx(high, abs=0.012)


def test_paired_difference_equals_that_of_resampling_the_texts():
    rng = np.random.default_rng(4)
    true = rng.integers(0, 3, 250)
    base = noisy(true, 0.5, seed=5)
    final = np.where(rng.random(250) < 0.3, true, base)  # right where base is, and sometimes more
    row = compare(true, base, final, samples=4000, seed=6, **ABOUT)[0]
    differences = []
    for _ in range(2000):
        i = rng.integers(0, 250, 250)
        differences.append(macro_f1(true[i], final[i]) - macro_f1(true[i], base[i]))
    low, high = np.quantile(differences, [0.025, 0.975])
    assert row["name"] == "macro_f1" and row["model"] == "final - base"
    assert row["value"] == pytest.approx(macro_f1(true, final) - macro_f1(true, base))
    assert row["low"] == pytest.approx(low, abs=0.01)
    assert row["high"] == pytest.approx(high, abs=0.01)
    # pairing matters: the difference is known better than either model's own figure
    for predicted in (base, final):
        own = evaluate(true, predicted, model="m", samples=4000, seed=7, **ABOUT)[0]
        assert row["high"] - row["low"] < own["high"] - own["low"]


@pytest.mark.parametrize("seed", range(5))
def test_interval_contains_its_value_and_narrows_with_more_texts(seed):
    rng = np.random.default_rng(seed)
    widths = []
    for count in (100, 2500):
        true = rng.integers(0, 3, count)
        rows = evaluate(true, noisy(true, 0.4, seed), model="m", samples=1000, seed=seed, **ABOUT)
        assert {row["name"] for row in rows} == set(METRICS)
        for row in rows:
            assert row["low"] <= row["value"] <= row["high"]
            assert row["texts"] == count and row["dataset"] == "gold" and row["split"] == "test"
        widths.append(rows[0]["high"] - rows[0]["low"])
    assert widths[1] == pytest.approx(widths[0] / 5, rel=0.35)  # as 1 / sqrt(n)


@given(labels_of, labels_of)
def test_equal_models_differ_by_exactly_nothing(true, predicted):
    for row in compare(true, predicted, predicted.copy(), samples=50, seed=0, **ABOUT):
        assert row["value"] == row["low"] == row["high"] == 0.0


@given(labels_of, labels_of, labels_of)
def test_swapping_the_models_turns_the_sign(true, base, final):
    there = compare(true, base, final, samples=10, seed=0, **ABOUT)
    back = compare(true, final, base, samples=10, seed=0, **ABOUT)
    for one, other in zip(there, back, strict=True):
        assert one["value"] == pytest.approx(-other["value"])


def test_t_interval_needs_two_values():
    assert np.isnan(t_interval(np.array([]))).all()
    assert t_interval(np.array([0.5]))[0] == 0.5
    assert np.isnan(t_interval(np.array([0.5]))[1:]).all()
    mean, low, high = t_interval(np.array([0.7, 0.8]))
    half = 12.706 * np.std([0.7, 0.8], ddof=1) / np.sqrt(2)  # t(0.975, 1) from the tables
    assert (mean, high - mean, mean - low) == pytest.approx((0.75, half, half), rel=1e-4)


def test_a_class_that_is_missing_counts_as_zero():
    """As in scikit-learn with all labels: two classes of three reach two thirds at most."""
    true = np.array([0, 2, 2, 0])
    rows = evaluate(true, true, model="m", samples=50, seed=0, **ABOUT)
    values = {row["name"]: (row["value"], row["low"], row["high"]) for row in rows}
    assert values["macro_f1"][0] == pytest.approx(2 / 3) and values["f1_neutral"] == (0, 0, 0)
    assert values["accuracy"] == (1, 1, 1)
