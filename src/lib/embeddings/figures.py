"""Figures of the embeddings: confidence on the corpus, what PCA keeps."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from lib import LABELS
from lib.style import COLORS, LINE_COLOR, done


def confidence_histogram(predicted: np.ndarray, confidence: np.ndarray) -> Figure:
    """Texts by probability of their predicted class, stacked by that class."""
    figure, axes = plt.subplots(figsize=(8, 3.5))
    axes.hist(
        [confidence[predicted == i] for i in range(len(LABELS))],
        bins=np.linspace(1 / 3, 1, 41).tolist(),
        stacked=True,
        label=LABELS,
        color=[COLORS[name] for name in LABELS],
    )
    axes.set(
        title="Confidence of the base classifier on the corpus",
        xlabel="probability of the predicted class",
        ylabel="texts",
    )
    axes.legend(title="predicted")
    return done(figure)


def explained_variance(ratio: np.ndarray) -> Figure:
    """Cumulative explained variance by number of components."""
    figure, axes = plt.subplots(figsize=(7, 3.5))
    total = np.cumsum(ratio)
    axes.plot(np.arange(1, len(total) + 1), total, color=LINE_COLOR)
    axes.set(
        title=f"PCA: {len(total)} components explain {total[-1]:.1%} of the variance",
        xlabel="components",
        ylabel="cumulative share of variance",
        ylim=(0, 1.02),
    )
    return done(figure)
