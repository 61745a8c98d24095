"""Figures of step 01."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from lib import LABELS
from lib.style import COLORS, done, plain

MOST_SOURCES = 40  # files may name a source per row


def class_counts(gold: pd.DataFrame) -> Figure:
    """Stacked bars of gold texts by class, one for each `source`; the smallest ones as one bar."""
    counts = gold.groupby(["source", "label"]).size().unstack(fill_value=0)
    counts = counts.reindex(columns=range(len(LABELS)), fill_value=0)
    counts = counts.set_axis(LABELS, axis=1).rename(index=plain)
    if (more := len(counts) - MOST_SOURCES) > 0:
        rank = counts.sum(axis=1).rank(method="first", ascending=False)
        counts = counts.groupby(counts.index.where(rank <= MOST_SOURCES, f"{more} more")).sum()
    figure, axes = plt.subplots(figsize=(8, 0.5 * len(counts) + 1.6))
    counts.plot.barh(stacked=True, ax=axes, color=[COLORS[name] for name in LABELS])
    axes.set(title="Gold texts by source and class", xlabel="texts", ylabel="source")
    axes.legend(title="class")
    return done(figure)


def length_histogram(lengths: pd.DataFrame) -> Figure:
    """Histogram of text lengths in `characters` (log axis), one line per value of `table`."""
    figure, axes = plt.subplots(figsize=(8, 3.5))
    sns.histplot(
        lengths,
        x="characters",
        hue="table",
        bins=40,
        log_scale=True,
        element="step",
        fill=False,
        stat="density",
        common_norm=False,
    )
    axes.set(title="Text lengths", xlabel="characters", ylabel="density per factor of 10")
    return done(figure)
