"""Cluster purity: how far the texts of a cluster get one predicted class.

The purity of a cluster is the share of its dominant *predicted* class: where neighbours in the
embedding space get one prediction, a single prediction is more to be trusted (Manning, Raghavan,
Schütze 2008, "Introduction to Information Retrieval", section 16.3, with predictions instead of
true classes). A small cluster looks pure by chance, so the lower bound of its 95% interval is
given too (Wilson 1927, "Probable inference, the law of succession, and statistical inference").
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import entropy

from lib import LABELS

K = len(LABELS)
Z = 1.959964  # of a two-sided 95% interval


def wilson_interval(
    successes: np.ndarray | float, trials: np.ndarray | float
) -> tuple[np.ndarray, np.ndarray]:
    """95% interval of a share, by Wilson's score; NaN where there is no trial.

    Args:
        successes, trials: of any one shape.
    Returns:
        Lower and upper bounds in [0, 1], float64 of that shape.
    """
    successes, trials = np.asarray(successes, float), np.asarray(trials, float)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = successes / trials
        middle = (share + Z**2 / (2 * trials)) / (1 + Z**2 / trials)
        half = np.sqrt(share * (1 - share) / trials + (Z / (2 * trials)) ** 2)
        half *= Z / (1 + Z**2 / trials)
    return np.clip(middle - half, 0, 1), np.clip(middle + half, 0, 1)


def purity_table(assigned: np.ndarray, probabilities: np.ndarray, clusters: int) -> pd.DataFrame:
    """One row per cluster.

    Args:
        assigned: int [n], cluster of each text; probabilities: float [n, 3].
    Returns:
        index cluster; size, one count per predicted class, dominant (class index),
        purity in [1/3, 1] and purity_lower_bound (of its 95% interval), mean_confidence, and
        mean_entropy of the texts' probabilities in nats (at most ln 3 = 1.10). An empty cluster
        has NaN in the last four.
    """
    cells = np.bincount(assigned * K + probabilities.argmax(1), minlength=clusters * K)
    counts = cells.reshape(clusters, K)
    size, most = counts.sum(1), counts.max(1)
    values = {
        "mean_confidence": probabilities.max(1),
        "mean_entropy": entropy(probabilities, axis=1),
    }
    table = pd.DataFrame({"size": size, **dict(zip(LABELS, counts.T, strict=True))})
    table["dominant"] = counts.argmax(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        table["purity"], table["purity_lower_bound"] = most / size, wilson_interval(most, size)[0]
        for name, of_text in values.items():
            table[name] = np.bincount(assigned, weights=of_text, minlength=clusters) / size
    return table.rename_axis("cluster")
