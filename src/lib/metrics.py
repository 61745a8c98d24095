"""Metrics, intervals and the comparison of two models.

Intervals are percentile bootstraps over texts. Every metric here depends only on how many texts
fall into each cell (true class, predicted class[, other model's predicted class]), and resampling
n texts with replacement draws these counts from a multinomial distribution: the bootstrap is
exact, and 10,000 resamples cost milliseconds.

Reference: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from lib import LABELS

K = len(LABELS)


def confusion(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Counts int64 [3, 3]: rows true class, columns predicted class."""
    cells = np.asarray(true, dtype=np.int64) * K + np.asarray(predicted, dtype=np.int64)
    return np.bincount(cells, minlength=K * K).reshape(K, K)


def paired_confusion(true: np.ndarray, base: np.ndarray, final: np.ndarray) -> np.ndarray:
    """Counts int64 [3, 3, 3]: true class, what base predicts, what final predicts."""
    cells = np.ravel_multi_index((true, base, final), (K, K, K))
    return np.bincount(cells, minlength=K**3).reshape(K, K, K)


def f1_per_class(matrix: np.ndarray) -> np.ndarray:
    """F1 of each class from confusion counts [..., 3, 3] -> [..., 3].

    A class that is neither true nor predicted anywhere has F1 0, as in scikit-learn.
    """
    right = np.diagonal(matrix, axis1=-2, axis2=-1).astype(float)
    total = matrix.sum(-1) + matrix.sum(-2)
    return np.divide(2 * right, total, out=np.zeros_like(right), where=total > 0)


def macro_f1(true: np.ndarray, predicted: np.ndarray) -> float:
    """Mean of the three classes' F1."""
    return float(f1_per_class(confusion(true, predicted)).mean())


def accuracy(matrix: np.ndarray) -> np.ndarray:
    """Share of right predictions from confusion counts [..., 3, 3] -> [...]."""
    return np.trace(matrix, axis1=-2, axis2=-1) / matrix.sum((-2, -1))


def _f1_of(label: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda matrix: f1_per_class(matrix)[..., label]


METRICS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "macro_f1": lambda matrix: f1_per_class(matrix).mean(-1),
    "accuracy": accuracy,
    **{f"f1_{name}": _f1_of(label) for label, name in enumerate(LABELS)},
}
"""Name -> function of confusion counts [..., 3, 3]."""


def evaluate(
    true: np.ndarray,
    predicted: np.ndarray,
    *,
    dataset: str,
    split: str,
    model: str,
    samples: int,
    seed: int,
) -> list[dict[str, Any]]:
    """All METRICS of one model on one set of texts, with 95% intervals.

    Returns:
        Rows of metrics.json: name, model, dataset, split, texts, value, low, high.
    """
    matrix = confusion(true, predicted)
    resampled = resample(matrix.ravel(), samples, seed).reshape(samples, K, K)
    about = {"model": model, "dataset": dataset, "split": split, "texts": int(matrix.sum())}
    return [
        with_quantiles(name, about, metric(matrix), metric(resampled))
        for name, metric in METRICS.items()
    ]


def compare(
    true: np.ndarray,
    base: np.ndarray,
    final: np.ndarray,
    *,
    dataset: str,
    split: str,
    samples: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Paired difference final - base of all METRICS, with 95% intervals.

    Both models are resampled on the same texts, so what is hard for both cancels out.
    """
    cube = paired_confusion(true, base, final)
    resampled = resample(cube.ravel(), samples, seed).reshape(samples, K, K, K)
    about = {"model": "final - base", "dataset": dataset, "split": split, "texts": int(cube.sum())}

    def difference(metric: Callable[[np.ndarray], np.ndarray], counts: np.ndarray) -> np.ndarray:
        return metric(counts.sum(-2)) - metric(counts.sum(-1))

    return [
        with_quantiles(name, about, difference(metric, cube), difference(metric, resampled))
        for name, metric in METRICS.items()
    ]


def with_quantiles(
    name: str, about: dict[str, Any], value: np.ndarray, resampled: np.ndarray
) -> dict[str, Any]:
    """A row of metrics.json: a value with the percentile interval of its resamples."""
    low, high = np.quantile(resampled, [0.025, 0.975])
    return {"name": name, **about, "value": float(value), "low": float(low), "high": float(high)}


def resample(counts: np.ndarray, samples: int, seed: int | list[int]) -> np.ndarray:
    """Bootstrap of cell counts: int64 [cells] -> int64 [samples, cells], each summing to n."""
    total = counts.sum()
    return np.random.default_rng(seed).multinomial(total, counts / total, size=samples)


def t_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean of independent values, float [n], with its 95% t interval (NaN for n < 2)."""
    if len(values) < 2:
        return (float(values.mean()) if len(values) else float("nan")), float("nan"), float("nan")
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)


def with_interval(value: float, low: float, high: float) -> str:
    """A value and its interval as text, with what there is of them."""
    if np.isnan(value):
        return "–"
    return f"{value:.3f}" if np.isnan(low) else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def class_shares(predictions: dict[str, np.ndarray]) -> pd.DataFrame:
    """Share of each class, one row per name: shows a shift of what a model predicts."""
    shares = {
        name: np.bincount(labels, minlength=K) / max(1, len(labels))
        for name, labels in predictions.items()
    }
    return pd.DataFrame.from_dict(shares, orient="index", columns=list(LABELS))


def label_counts(frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Number of texts per class (rows) and frame (columns), from the frames' `label`."""
    counts = {
        name: np.bincount(frame["label"].to_numpy(dtype=np.int64), minlength=K)
        for name, frame in frames.items()
    }
    return pd.DataFrame(counts, index=list(LABELS))


def table(rows: list[dict[str, Any]], *lines: str) -> pd.DataFrame:
    """Rows of metrics.json for reading, one column per model, with intervals where there are any.

    Args:
        lines: keys of the rows that name a line; without them a line is a metric, with them only
            macro-F1 is shown.
    """
    cells: dict[str, dict[str, str]] = {}
    for row in rows:
        if lines and row["name"] != "macro_f1":
            continue
        line = ", ".join(str(row[key]) for key in lines or ("name",))
        ends = (row.get("low", np.nan), row.get("high", np.nan))
        cells.setdefault(line, {})[row["model"]] = with_interval(row["value"], *ends)
    return pd.DataFrame.from_dict(cells, orient="index").fillna("")
