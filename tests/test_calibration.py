from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from sklearn.metrics import log_loss

from lib import calibration
from lib.temperature import fit_temperature, with_temperature


def made_up(count: int, seed: int = 0, sharpness: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from calibrated probabilities, which are then sharpened."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, 3)) * 1.5
    true = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (true.cumsum(1) < rng.random((count, 1))).sum(1).clip(max=2)
    return with_temperature(true, 1 / sharpness), labels


def frame_of(base: np.ndarray, final: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    frame = pd.DataFrame({"label": labels})
    for model, probabilities in (("base", base), ("final", final)):
        for i in range(3):
            frame[f"{model}_p{i}"] = probabilities[:, i]
    return frame


def test_ece_by_hand():
    """Two texts at 0.62 of which one is right, one at 0.95 that is right; bins of 1/15."""
    probabilities = np.array([[0.62, 0.3, 0.08], [0.2, 0.62, 0.18], [0.95, 0.03, 0.02]])
    labels = np.array([0, 0, 0])
    table = calibration.reliability(probabilities, labels)
    assert table["texts"].tolist() == [2, 1]
    assert table["confidence"].tolist() == pytest.approx([0.62, 0.95])
    assert table["accuracy"].tolist() == [0.5, 1.0]
    ece = calibration.expected_calibration_error(probabilities, labels)
    assert ece == pytest.approx(2 / 3 * 0.12 + 1 / 3 * 0.05)


def test_bins_include_their_upper_edge():
    probabilities = np.array([[1.0, 0.0, 0.0], [0.8, 0.2, 0.0], [0.81, 0.19, 0.0]])
    table = calibration.reliability(probabilities, np.zeros(3, dtype=int), bins=5)
    assert table["texts"].tolist() == [1, 2]


@given(st.integers(1, 200), st.integers(1, 20), st.sampled_from(["width", "mass"]))
@settings(max_examples=60)
def test_bins_share_out_all_texts(count, bins, equal):
    probabilities, labels = made_up(count, seed=count)
    table = calibration.reliability(probabilities, labels, bins=bins, equal=equal)
    assert table["texts"].sum() == count and len(table) <= bins
    assert table["confidence"].is_monotonic_increasing
    right = (probabilities.argmax(1) == labels).mean()
    assert (table["accuracy"] * table["texts"]).sum() / count == pytest.approx(right)
    if equal == "mass":
        assert table["texts"].max() - table["texts"].min() <= 1
        assert len(table) == min(bins, count)
    ece = calibration.expected_calibration_error(probabilities, labels, bins=bins, equal=equal)
    whole = calibration.expected_calibration_error(probabilities, labels, bins=1)
    assert whole - 1e-9 <= ece <= 1  # finer bins never hide more


def test_nll_is_that_of_scikit_learn():
    probabilities, labels = made_up(100)
    expected = log_loss(labels, probabilities, labels=[0, 1, 2])
    assert calibration.negative_log_likelihood(probabilities, labels) == pytest.approx(expected)


def test_temperature_is_the_best_one():
    probabilities, labels = made_up(500, sharpness=2.5)
    found = fit_temperature(probabilities.astype(np.float32), labels)

    def loss(temperature: float) -> float:
        scaled = with_temperature(probabilities, temperature)
        return calibration.negative_log_likelihood(scaled, labels)

    best = minimize_scalar(loss, bounds=(0.05, 20), method="bounded", options={"xatol": 1e-6}).x
    assert found == pytest.approx(best, rel=1e-4)


def test_temperature_undoes_sharpening():
    probabilities, labels = made_up(20_000, sharpness=2.0)
    temperature = fit_temperature(probabilities, labels)
    assert temperature == pytest.approx(2.0, rel=0.05)
    scaled = with_temperature(probabilities, temperature)
    assert (scaled.argmax(1) == probabilities.argmax(1)).all()
    for equal in ("width", "mass"):
        before = calibration.expected_calibration_error(probabilities, labels, equal=equal)
        after = calibration.expected_calibration_error(scaled, labels, equal=equal)
        assert before > 0.1 and after < 0.02


def test_extreme_cases_stay_within_bounds():
    sure = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], dtype=np.float32)
    assert fit_temperature(sure * 0.9 + 0.05, np.array([0, 1])) == pytest.approx(0.05)
    assert fit_temperature(sure, np.array([2, 2])) == pytest.approx(20)
    assert np.isfinite(with_temperature(sure, 0.05)).all()


def test_calibrate_fits_on_validation_and_measures_on_test():
    sharp, labels = made_up(4000, sharpness=3.0)
    plain = with_temperature(sharp, 3.0)
    frame = frame_of(sharp, plain, labels)
    validation, test = frame[:2000], frame[2000:].reset_index(drop=True)
    table, curves = calibration.calibrate(validation, test)
    lines = table.set_index(["model", "when"])
    assert lines.loc[("base", "after"), "temperature"] == pytest.approx(3.0, rel=0.15)
    assert lines.loc[("final", "after"), "temperature"] == pytest.approx(1.0, rel=0.15)
    assert (table.loc[table["when"] == "before", "temperature"] == 1).all()
    assert lines.loc[("base", "after"), "nll"] < lines.loc[("base", "before"), "nll"]
    assert curves.keys() == set(lines.index)
    assert all(curve["texts"].sum() == len(test) for curve in curves.values())
    rows = calibration.metric_rows(table, dataset="gold", split="test", texts=len(test))
    named = {(row["name"], row["model"]): row["value"] for row in rows}
    assert named["ece_width", "base"] == lines.loc[("base", "before"), "ece_width"]
    assert named["ece_mass_scaled", "base"] == lines.loc[("base", "after"), "ece_mass"]
    assert named["temperature", "final"] == lines.loc[("final", "after"), "temperature"]
    assert len(named) == len(rows) == 14 and all(row["texts"] == 2000 for row in rows)
