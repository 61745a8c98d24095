from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.evaluation import calibration


def made_up(count: int, seed: int = 0, sharpness: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from calibrated probabilities, which are then sharpened."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, 3)) * 1.5
    true = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (true.cumsum(1) < rng.random((count, 1))).sum(1).clip(max=2)
    sharp = np.exp(logits * sharpness)
    return sharp / sharp.sum(1, keepdims=True), labels


@given(st.integers(1, 200))
@settings(max_examples=30)
def test_bins_are_those_of_a_loop(count):
    probabilities, labels = made_up(count, seed=count)
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    expected = []
    for low in np.arange(calibration.BINS) / calibration.BINS:
        inside = (confidence > low) & (confidence <= low + 1 / calibration.BINS)
        if inside.any():
            expected.append((confidence[inside].mean(), right[inside].mean(), inside.sum()))
    found = calibration.reliability(probabilities, labels)
    np.testing.assert_allclose(found, expected)


def test_a_confidence_just_above_one_is_taken():
    probabilities = np.array([[1.0000001, 0, 0], [0.4, 0.3, 0.3]], dtype=np.float32)
    assert calibration.reliability(probabilities, np.array([0, 0]))["texts"].tolist() == [1, 1]


def test_a_sharpened_model_is_found_out():
    """The base says three times the logits that it should, the final is calibrated."""
    frame = pd.DataFrame()
    for model, sharpness in (("base", 3.0), ("final", 1.0)):
        probabilities, labels = made_up(4000, sharpness=sharpness)
        frame[[f"{model}_p{i}" for i in range(3)]] = probabilities.astype(np.float32)
        frame["label"] = labels
    test = frame[2000:].reset_index(drop=True)
    rows, curves = calibration.compare_calibration(test, dataset="gold", split="test")
    values = {(row["name"], row["model"]): row["value"] for row in rows}
    assert len(values) == len(rows) == 4 and all(row["texts"] == 2000 for row in rows)
    assert values["ece", "base"] > 0.15 and values["ece", "final"] < 0.05
    of_true = test[["final_p0", "final_p1", "final_p2"]].to_numpy()[range(2000), test["label"]]
    assert values["nll", "final"] == pytest.approx(-np.log(of_true).mean(), rel=1e-5)
    curve = curves["base"]
    gaps = (curve["confidence"] - curve["accuracy"]).abs() * curve["texts"]
    assert values["ece", "base"] == pytest.approx(gaps.sum() / 2000)
