"""The look of all figures: fixed colours, shared helpers, and the figures that several rooms draw.

Static ones are matplotlib/seaborn figures, interactive ones plotly figures. A colour means one
thing everywhere: classes and models have theirs from the Okabe-Ito palette, all else takes others,
from Paul Tol's muted scheme; both are safe for colour-blind readers. Quantities in order are
viridis. Texts are escaped before they enter a hover.
"""

from __future__ import annotations

import html
import textwrap
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import plotly.io as pio
import seaborn as sns
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from lib import LABELS

warnings.filterwarnings("ignore", "Glyph .* missing from font")  # sources may have any name
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
LABEL_CHARACTERS = 60

pio.renderers.default = "plotly_mimetype"  # JupyterLab draws it; the report has its own script
sns.set_theme(style="whitegrid", context="notebook")
# texts in tables hold dollars, which JupyterLab would read as formulas
pd.set_option("display.html.use_mathjax", False)
pd.set_option("styler.html.mathjax", False)


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


def class_share_bars(shares: pd.DataFrame, title: str) -> Figure:
    """Horizontal stacked bars, one per row of shares (see `lib.metrics.class_shares`)."""
    figure, axes = plt.subplots(figsize=(8, 0.5 * len(shares) + 1.6))
    shares = shares[::-1].set_axis([plain(name) for name in shares.index[::-1]])
    shares.plot.barh(stacked=True, ax=axes, color=[COLORS[name] for name in LABELS])
    axes.set(title=title, xlabel="share of texts", ylabel="set of texts", xlim=(0, 1))
    axes.legend(title="class", loc="center left", bbox_to_anchor=(1, 0.5))
    return done(figure)


def text_table(frame: pd.DataFrame) -> Styler:
    """A table with texts from data, for a notebook: escaped, with their line breaks."""
    look = {"text-align": "left", "white-space": "pre-wrap"}
    return frame.style.hide().set_properties(**look).format(precision=2, escape="html")


def hover_text(text: str, characters: int = HOVER_CHARACTERS) -> str:
    """A text for a plotly hover: cut after so many characters, escaped, in lines of 60.

    Dollars are escaped, too: between two of them plotly would draw a formula.
    """
    if len(text) > characters:
        text = text[: characters - 1] + "…"
    lines = textwrap.wrap(text, 60) or [""]
    return "<br>".join(html.escape(line, quote=False).replace("$", "&#36;") for line in lines)


def plain(text: str) -> str:
    """A text from data as a label of a static figure: cut, and its dollars begin no formula."""
    text = str(text)
    if len(text) > LABEL_CHARACTERS:
        text = text[: LABEL_CHARACTERS - 1] + "…"
    return text.replace("$", r"\$")


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
