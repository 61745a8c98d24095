"""Calibration: whether a model that says 0.8 is right in 80% of such texts, and what mends it.

A classifier is confident by the probability of its predicted class. The expected calibration error
(ECE) is the mean distance between confidence and accuracy over bins of texts with like confidence.
What `lib.temperature` fits is judged here.

Reference: Naeini, Cooper and Hauskrecht 2015 (ECE); Nguyen and O'Connor 2015, arXiv:1508.05154
(bins with equally many texts).
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd

from lib import LABELS
from lib.final_eval import MODELS
from lib.temperature import LEAST, fit_temperature, with_temperature

BINS = 15
Binning = Literal["width", "mass"]


def reliability(
    probabilities: np.ndarray, labels: np.ndarray, *, bins: int = BINS, equal: Binning = "width"
) -> pd.DataFrame:
    """Confidence and accuracy by bin.

    Args:
        probabilities: float [n, classes], n > 0; labels: int [n].
        equal: bins of equal `width` between 0 and 1, or of equal `mass` (number of texts).
    Returns:
        texts, confidence (mean) and accuracy of each bin that has texts, in order of confidence.
    """
    confidence = probabilities.max(1).astype(np.float64)
    right = probabilities.argmax(1) == labels
    if equal == "width":
        place = np.clip(np.ceil(confidence * bins) - 1, 0, bins - 1).astype(np.int64)
    else:
        place = np.empty(len(confidence), dtype=np.int64)
        place[np.argsort(confidence, kind="stable")] = np.arange(len(place)) * bins // len(place)
    frame = pd.DataFrame({"confidence": confidence, "accuracy": right.astype(float)})
    groups = frame.groupby(place)
    return groups.mean().assign(texts=groups.size()).reset_index(drop=True)


def expected_calibration_error(
    probabilities: np.ndarray, labels: np.ndarray, *, bins: int = BINS, equal: Binning = "width"
) -> float:
    """Mean |confidence - accuracy| over the bins of `reliability`, weighted by texts."""
    table = reliability(probabilities, labels, bins=bins, equal=equal)
    gaps = (table["confidence"] - table["accuracy"]).abs()
    return float((gaps * table["texts"]).sum() / table["texts"].sum())


def negative_log_likelihood(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean -log of the true class's probability, in nats per text."""
    chosen = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(chosen.astype(np.float64), LEAST)).mean())


def calibrate(validation: pd.DataFrame, test: pd.DataFrame) -> tuple[pd.DataFrame, dict]:
    """Temperature of both models by validation, and what it does on test.

    Args:
        validation, test: `label` and <model>_p0..2 of both models.
    Returns:
        One row per model, before and after scaling: model, temperature (1 before), both ECE, and
        nll in nats per text, all on test.
        (model, "before" or "after") -> `reliability` table on test, bins of equal width.
    """
    lines: list[dict[str, Any]] = []
    curves = {}
    true = test["label"].to_numpy()
    for model in MODELS:
        columns = [f"{model}_p{i}" for i in range(len(LABELS))]
        given = test[columns].to_numpy()
        fitted = fit_temperature(validation[columns].to_numpy(), validation["label"].to_numpy())
        for when, temperature in (("before", 1.0), ("after", fitted)):
            scaled = with_temperature(given, temperature)
            line = {"model": model, "when": when, "temperature": temperature}
            for equal in ("width", "mass"):
                line[f"ece_{equal}"] = expected_calibration_error(scaled, true, equal=equal)
            lines.append(line | {"nll": negative_log_likelihood(scaled, true)})
            curves[model, when] = reliability(scaled, true)
    return pd.DataFrame(lines), curves


def metric_rows(table: pd.DataFrame, *, dataset: str, split: str, texts: int) -> list[dict]:
    """Rows of metrics.json from the table of `calibrate`: what holds after scaling ends in
    `_scaled`."""
    about = {"dataset": dataset, "split": split, "texts": texts}
    rows = []
    for line in table.to_dict("records"):
        suffix = "" if line["when"] == "before" else "_scaled"
        names = ["ece_width", "ece_mass", "nll"] + (["temperature"] if suffix else [])
        for name in names:
            full = name if name == "temperature" else name + suffix
            rows.append({"name": full, "model": line["model"], **about, "value": line[name]})
    return rows
