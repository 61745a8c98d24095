"""Figures of the clusters: purity, the filter's frontier, the map."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import seaborn as sns
from matplotlib.figure import Figure

from lib import LABELS
from lib.style import (
    CLUSTER_COLORS,
    COLORS,
    HOVER_CHARACTERS,
    MARK,
    done,
    hover_text,
    map_layout,
)

HOVERS_CHARACTERS = 6_000_000  # of all hovers of a map together: 60 each at 100,000 texts


def purity_histogram(table: pd.DataFrame, min_purity: float) -> Figure:
    """Clusters (of `purity_table`) by purity, stacked by dominant class, with the threshold."""
    figure, axes = plt.subplots(figsize=(8, 4))
    data = table.dropna(subset="purity")
    sns.histplot(
        x=data["purity"],
        hue=data["dominant"].map(dict(enumerate(LABELS))),
        hue_order=LABELS,
        palette=COLORS,
        multiple="stack",
        bins=np.linspace(1 / 3, 1, 41),
        ax=axes,
    )
    axes.axvline(min_purity, color="black", linestyle="--", linewidth=1)
    kept = int((data["purity"] >= min_purity).sum())
    axes.set(
        title=f"Cluster purity: {kept} of {len(data)} clusters at or above {min_purity:g}",
        xlabel="purity (share of the dominant predicted class)",
        ylabel="clusters",
    )
    sns.move_legend(axes, "best", title="dominant class")
    return done(figure)


def frontier(table: pd.DataFrame, min_purity: float) -> Figure:
    """Share kept against precision (of `filter.frontier`), with the purity threshold in use.

    A line per purity threshold, a point per confidence threshold.
    """
    panels = {"expected_precision": "expected (mean confidence of the kept texts)"}
    if table["audited"].any():
        panels["measured_precision"] = "measured on audit labels, 95% intervals"
    size = (6 * len(panels) + 1, 4.5)
    figure, axes = plt.subplots(1, len(panels), figsize=size, squeeze=False)
    shades = sns.color_palette("viridis", table["min_purity"].nunique())
    star = table[table["chosen"]]
    for axis, (column, title) in zip(axes[0], panels.items(), strict=True):
        for color, (purity, line) in zip(shades, table.groupby("min_purity"), strict=True):
            line, in_use = line.dropna(subset=column), purity == min_purity
            style = {"color": color, "markersize": 3, "linewidth": 2.5 if in_use else 1}
            axis.plot(line["kept_share"], line[column], "o-", label=f"{purity:g}", **style)
            if in_use and column == "measured_precision":
                axis.fill_between("kept_share", "low", "high", data=line, color=color, alpha=0.25)
        axis.plot(star["kept_share"], star[column], "*", markersize=16, color=MARK, label="in use")
        axis.set(title=f"Precision {title}", xlabel="share of texts kept", ylabel="precision")
    axes[0, 0].legend(title="purity at least", fontsize="small")
    return done(figure)


def umap_view(points: np.ndarray, frame: pd.DataFrame, title: str) -> go.Figure:
    """Interactive map of the corpus; buttons switch between class, purity and cluster colours.

    Args:
        points: float [n, 2].
        frame: `text`, `source`, `cluster`, `predicted` (class index), `confidence`, `purity`,
            in the order of points. Many texts get shorter hovers, so that the page stays small.
    """
    characters = int(np.clip(HOVERS_CHARACTERS // max(1, len(frame)), 40, HOVER_CHARACTERS))
    figure = go.Figure()
    purity, cluster = [], []
    for label, name in enumerate(LABELS):
        rows = (frame["predicted"] == label).to_numpy()
        part, places = frame[rows], np.asarray(points[rows], np.float32)  # half the page's bytes
        about = zip(part["text"], part["source"].astype(str), strict=True)
        figure.add_scattergl(
            x=places[:, 0],
            y=places[:, 1],
            mode="markers",
            name=name,
            marker={"size": 4, "color": COLORS[name], "opacity": 0.75},
            text=[f"{hover_text(text, characters)}<br>{hover_text(of)}" for text, of in about],
            customdata=part[["cluster", "purity", "confidence"]].to_numpy(np.float32),
            hovertemplate="%{text}<br>cluster %{customdata[0]}, purity %{customdata[1]:.2f}<br>"
            f"{name}, confidence %{{customdata[2]:.2f}}<extra></extra>",
        )
        purity.append(part["purity"].astype(float).round(2).tolist())
        cluster.append([CLUSTER_COLORS[c % len(CLUSTER_COLORS)] for c in part["cluster"]])
    scale = {"colorscale": "Viridis", "cmin": 1 / 3, "cmax": 1, "colorbar.title.text": "purity"}
    buttons = {
        "predicted class": {"color": [COLORS[name] for name in LABELS], "showscale": False},
        "purity": {"color": purity, "showscale": [False, False, True], **scale},
        "cluster": {"color": cluster, "showscale": False},
    }
    traces = list(range(len(LABELS)))  # more may be added to the figure
    changes = {
        name: [{f"marker.{key}": value for key, value in change.items()}, traces]
        for name, change in buttons.items()
    }
    menu = {
        "type": "buttons",
        "direction": "right",
        "x": 0,
        "y": 1.08,
        "xanchor": "left",
        "buttons": [{"label": n, "method": "restyle", "args": of} for n, of in changes.items()],
    }
    legend = {"title": "predicted", "itemsizing": "constant", "orientation": "h", "y": -0.08}
    figure.update_layout(updatemenus=[menu], legend=legend)
    return map_layout(figure, title)


def umap_static(points: np.ndarray, frame: pd.DataFrame, title: str) -> Figure:
    """The same map for print: predicted class on the left, purity on the right."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 5.5))
    for label, name in enumerate(LABELS):
        rows = (frame["predicted"] == label).to_numpy()
        left.scatter(*points[rows].T, s=5, color=COLORS[name], label=name, alpha=0.7)
    left.legend(title="predicted class", markerscale=3)
    shown = right.scatter(*points.T, s=5, c=frame["purity"], cmap="viridis", vmin=1 / 3, vmax=1)
    figure.colorbar(shown, ax=right, label="purity of the text's cluster")
    for axes, what in ((left, "predicted class"), (right, "cluster purity")):
        axes.set(title=f"{title}: {what}", xlabel="UMAP 1 (no unit)", ylabel="UMAP 2 (no unit)")
        axes.set(xticks=[], yticks=[])
    return done(figure)
