"""Figures of step 01."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib import LABELS
from lib.style import COLORS, done, plain


def class_counts(frame: pd.DataFrame, column: str, title: str) -> Figure:
    """Stacked bars of class counts per `source`; `column` holds class indices."""
    counts = frame.groupby(["source", column]).size().unstack(fill_value=0)
    counts = counts.reindex(columns=range(len(LABELS)), fill_value=0)
    counts.columns = list(LABELS)
    figure, axes = plt.subplots(figsize=(8, 0.5 * len(counts) + 1.6))
    counts.index = [plain(source) for source in counts.index]
    counts.plot.barh(stacked=True, ax=axes, color=[COLORS[name] for name in LABELS])
    axes.set(title=title, xlabel="texts", ylabel="source")
    axes.legend(title="class")
    return done(figure)


def length_histogram(lengths: pd.DataFrame) -> Figure:
    """Histogram of text lengths in `characters` (log axis), one line per value of `table`."""
    figure, axes = plt.subplots(figsize=(8, 3.5))
    for name, rows in lengths.groupby("table", sort=False):
        characters = rows["characters"].clip(lower=1)
        bins = np.geomspace(1, max(10, characters.max()), 40)
        axes.hist(
            characters,
            bins=bins.tolist(),
            histtype="step",
            linewidth=2,
            density=True,
            label=str(name),
        )
    axes.set(
        xscale="log", title="Text lengths", xlabel="characters", ylabel="density per character"
    )
    axes.legend()
    return done(figure)
