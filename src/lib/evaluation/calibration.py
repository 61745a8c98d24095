"""Calibration: whether a model that says 0.8 is right in 80% of such texts.

A classifier is confident by the probability of its predicted class. The expected calibration error
(ECE) is the mean distance between confidence and accuracy over bins of texts with like confidence.

Reference: Naeini, Cooper and Hauskrecht 2015, "Obtaining Well Calibrated Probabilities Using
Bayesian Binning" (ECE).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss

from lib import LABELS
from lib.evaluation.comparison import MODELS

BINS = 15


def reliability(probabilities: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """Confidence and accuracy in BINS bins of equal width between 0 and 1.

    Args:
        probabilities: float [n, classes], n > 0; labels: int [n].
    Returns:
        confidence (mean), accuracy and texts of each bin that has texts, in order of confidence.
    """
    confidence = np.minimum(probabilities.max(1), 1.0)  # float32: may be just above
    right = (probabilities.argmax(1) == labels).astype(int)
    accuracy, mean = calibration_curve(right, confidence, pos_label=1, n_bins=BINS)
    inner = np.linspace(0, 1, BINS + 1)[1:-1]
    texts = np.bincount(np.searchsorted(inner, confidence))
    return pd.DataFrame({"confidence": mean, "accuracy": accuracy, "texts": texts[texts > 0]})


def compare_calibration(
    test: pd.DataFrame, *, dataset: str, split: str
) -> tuple[list[dict[str, Any]], dict[str, pd.DataFrame]]:
    """Calibration of both models.

    Args:
        test: `label` and <model>_p0..2 of both models; dataset, split: its names.
    Returns:
        Rows of metrics.json: ece, and nll (nats per text). Model -> `reliability` table.
    """
    about = {"dataset": dataset, "split": split, "texts": len(test)}
    rows, curves = [], {}
    true = test["label"].to_numpy()
    for model in MODELS:
        given = test[[f"{model}_p{i}" for i in range(len(LABELS))]].to_numpy(np.float64)
        probabilities = given / given.sum(1, keepdims=True)  # float32 sums are not quite 1
        curve = curves[model] = reliability(probabilities, true)
        gaps = (curve["confidence"] - curve["accuracy"]).abs()
        values = {
            "ece": np.average(gaps, weights=curve["texts"]),
            "nll": log_loss(true, probabilities, labels=range(len(LABELS))),
        }
        for name, value in values.items():
            rows.append({"name": name, "model": model, **about, "value": float(value)})
    return rows, curves
