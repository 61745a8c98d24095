"""Figures: one look and fixed class colours for all. Every function returns its figure.

Static ones are matplotlib/seaborn figures, interactive ones plotly figures. A colour means one
thing everywhere: classes and models have theirs from the Okabe-Ito palette, all else takes others,
from Paul Tol's muted scheme; both are safe for colour-blind readers. Quantities in order are
viridis. Texts are escaped before they enter a hover.
"""

from __future__ import annotations

import html
import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import plotly.io as pio
import seaborn as sns
from matplotlib.figure import Figure

from lib import LABELS

COLORS = {"negative": "#D55E00", "neutral": "#8C8C8C", "positive": "#0072B2"}
BASE_COLOR, FINAL_COLOR, MARK = "#56B4E9", "#009E73", "#CC79A7"
TRAIN_COLOR, VALIDATION_COLOR = "#999933", "#332288"
LINE_COLOR = "#332288"
"""Of a single line that is about no class and no model."""
CLUSTER_COLORS = [
    "#CC6677",
    "#332288",
    "#DDCC77",
    "#117733",
    "#88CCEE",
    "#882255",
    "#44AA99",
    "#999933",
    "#AA4499",
]
"""Nine that no class has (Paul Tol's muted scheme): for clusters, and for runs side by side."""
HOVER_CHARACTERS = 200

pio.renderers.default = "plotly_mimetype"  # JupyterLab draws it; the report has its own script
sns.set_theme(style="whitegrid", context="notebook")


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
        axes.hist(characters, bins=bins, histtype="step", linewidth=2, density=True, label=name)
    axes.set(
        xscale="log", title="Text lengths", xlabel="characters", ylabel="density per character"
    )
    axes.legend()
    return done(figure)


def training_curves(history: pd.DataFrame, overfit_step: int | None, title: str) -> Figure:
    """Macro-F1 and losses by step; the kept checkpoint and the start of overfitting are marked."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4))
    left.plot(history["step"], history["validation_macro_f1"], "o-", color=VALIDATION_COLOR)
    best = history[history["best"]].iloc[0]
    left.plot(
        best["step"],
        best["validation_macro_f1"],
        "*",
        markersize=18,
        color=MARK,
        label=f"kept: step {best['step']:.0f}, {best['validation_macro_f1']:.3f}",
    )
    left.set(title=f"{title}: macro-F1 on validation", xlabel="optimiser steps", ylabel="macro-F1")
    for column, color, name in (
        ("train_class_loss", TRAIN_COLOR, "train"),
        ("validation_loss", VALIDATION_COLOR, "validation"),
    ):
        right.plot(history["step"], history[column], "o-", color=color, label=name)
    right.set(title=f"{title}: cross-entropy", xlabel="optimiser steps", ylabel="nats per text")
    if overfit_step is not None:
        for axes in (left, right):
            axes.axvline(
                overfit_step,
                linestyle="--",
                color="black",
                linewidth=1,
                label="validation loss rises from here",
            )
    left.legend()
    right.legend()
    return done(figure)


def lambda_curves(histories: dict[float, pd.DataFrame]) -> Figure:
    """Both loss parts and validation macro-F1 by step, one shade per λ_metric."""
    figure, axes = plt.subplots(1, 3, figsize=(15, 4))
    columns = {
        "train_class_loss": ("cross-entropy (train)", "nats per text"),
        "train_metric_loss": ("SupCon (train)", "nats per text"),
        "validation_macro_f1": ("macro-F1 (validation)", "macro-F1"),
    }
    shades = sns.color_palette("viridis", len(histories))
    for color, (value, history) in zip(shades, histories.items(), strict=True):
        for axis, (column, (title, label)) in zip(axes, columns.items(), strict=True):
            axis.plot(
                history["step"],
                history[column],
                "o-",
                label=f"λ_metric = {value:g}",
                color=color,
            )
            axis.set(title=title, xlabel="optimiser steps", ylabel=label)
    axes[0].legend()
    return done(figure)


def confidence_histogram(predicted: np.ndarray, confidence: np.ndarray) -> Figure:
    """Texts by probability of their predicted class, stacked by that class."""
    figure, axes = plt.subplots(figsize=(8, 3.5))
    axes.hist(
        [confidence[predicted == i] for i in range(len(LABELS))],
        bins=np.linspace(1 / 3, 1, 41),
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


def confusion_matrices(matrices: dict[str, np.ndarray], dataset: str) -> Figure:
    """Named matrices int [3, 3] side by side: counts above, row shares below."""
    figure, axes = plt.subplots(2, len(matrices), figsize=(5 * len(matrices) + 1, 8), squeeze=False)
    for column, (name, matrix) in zip(axes.T, matrices.items(), strict=True):
        shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
        for axis, values, form, kind, top in (
            (column[0], matrix, "d", "texts", None),
            (column[1], shares, ".2f", "share of the true class", 1),
        ):
            sns.heatmap(
                values,
                annot=True,
                fmt=form,
                cmap="Blues",
                ax=axis,
                cbar=False,
                vmin=0,
                vmax=top,
                xticklabels=LABELS,
                yticklabels=LABELS,
            )
            axis.set(
                title=f"{name}: {kind}\n{dataset}", xlabel="predicted class", ylabel="true class"
            )
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


def embedding_spaces(spaces: dict[str, np.ndarray], frame: pd.DataFrame, title: str) -> go.Figure:
    """Two maps of the same gold texts side by side, coloured by true class.

    Args:
        spaces: model name -> float [n, 2]; frame: `text` and `label`, in the same order.
    """
    from plotly.subplots import make_subplots

    figure = make_subplots(cols=len(spaces), subplot_titles=list(spaces), horizontal_spacing=0.05)
    for column, points in enumerate(spaces.values(), 1):
        for label, name in enumerate(LABELS):
            rows = (frame["label"] == label).to_numpy()
            figure.add_scattergl(
                x=points[rows, 0].round(3),
                y=points[rows, 1].round(3),
                mode="markers",
                name=name,
                legendgroup=name,
                showlegend=column == 1,
                marker={"size": 5, "color": COLORS[name], "opacity": 0.75},
                text=[hover_text(text) for text in frame.loc[rows, "text"]],
                hovertemplate="%{text}<extra></extra>",
                row=1,
                col=column,
            )
    figure.update_layout(legend={"title": "true class", "itemsizing": "constant"})
    return map_layout(figure, title)


def class_share_bars(shares: pd.DataFrame, title: str) -> Figure:
    """Horizontal stacked bars, one per row of shares (see `lib.evaluation.class_shares`)."""
    figure, axes = plt.subplots(figsize=(8, 0.5 * len(shares) + 1.6))
    shares = shares[::-1].set_axis([plain(name) for name in shares.index[::-1]])
    shares.plot.barh(stacked=True, ax=axes, color=[COLORS[name] for name in LABELS])
    axes.set(title=title, xlabel="share of texts", ylabel="set of texts", xlim=(0, 1))
    axes.legend(title="class", loc="center left", bbox_to_anchor=(1, 0.5))
    return done(figure)


def intervals(rows: list[dict], name: str, title: str) -> Figure:
    """Base and final with their 95% intervals, one line per data set."""
    chosen = [row for row in rows if row["name"] == name and row["model"] in ("base", "final")]
    named = [(f"{row['dataset']} ({row['split']}, {row['texts']} texts)", row) for row in chosen]
    places = list(dict.fromkeys(place for place, _ in named))
    figure, axes = plt.subplots(figsize=(9, 0.7 * len(places) + 1.6))
    for shift, model, color in ((0.12, "base", BASE_COLOR), (-0.12, "final", FINAL_COLOR)):
        for place, row in named:
            if row["model"] == model:
                y = places.index(place) + shift
                axes.plot([row["low"], row["high"]], [y, y], color=color, linewidth=3)
                axes.plot(row["value"], y, "o", color=color, label=model if y < 0.5 else None)
    axes.set(title=title, xlabel=f"{name.replace('_', '-')} (95% interval)", ylabel="data set")
    axes.set_yticks(range(len(places)), [plain(place) for place in places])
    axes.invert_yaxis()
    axes.legend()
    return done(figure)


def hover_text(text: str, characters: int = HOVER_CHARACTERS) -> str:
    """A text for a plotly hover: cut after so many characters, escaped, in lines of 60."""
    if len(text) > characters:
        text = text[: characters - 1] + "…"
    lines = textwrap.wrap(text, 60) or [""]
    return "<br>".join(html.escape(line, quote=False) for line in lines)


def plain(text: str) -> str:
    """A text from data as a label of a static figure, where dollars would begin a formula."""
    return str(text).replace("$", r"\$")


def map_layout(figure: go.Figure, title: str) -> go.Figure:
    """The look of an interactive map; changes and returns `figure`."""
    figure.update_layout(
        title=title,
        template="plotly_white",
        height=640,
        hoverlabel={"align": "left"},
        margin={"l": 20, "r": 20, "t": 90, "b": 40},
    )
    figure.update_xaxes(showticklabels=False, title="UMAP 1 (no unit)")
    figure.update_yaxes(showticklabels=False, title="UMAP 2 (no unit)")
    return figure


def done(figure: Figure) -> Figure:
    """A finished static figure: laid out, and closed so that a notebook shows it once."""
    figure.tight_layout()
    plt.close(figure)
    return figure
