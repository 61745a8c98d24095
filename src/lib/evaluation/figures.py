"""Figures of the evaluation; every function returns its figure."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import plotly.express as px
import plotly.graph_objects as go
from matplotlib.figure import Figure

from lib import LABELS
from lib.style import BASE_COLOR, COLORS, FINAL_COLOR, done, hover_text, map_layout, plain

MODEL_COLORS = {"base": BASE_COLOR, "final": FINAL_COLOR}


def embedding_spaces(points: pd.DataFrame, test: pd.DataFrame, title: str) -> go.Figure:
    """Maps of the same gold test texts side by side, coloured by true class.

    Args:
        points: umap.parquet of `lib.evaluation.spaces.project`; test: `text` and `label`.
    """
    texts = test.iloc[points["row"]]
    about = {"true class": np.array(LABELS)[texts["label"]], "hover": texts["text"].map(hover_text)}
    maps = [
        pd.DataFrame(about | {"model": m, "x": points[f"{m}_x"].array, "y": points[f"{m}_y"].array})
        for m in MODEL_COLORS
    ]
    figure = px.scatter(
        pd.concat(maps).round(3),
        x="x",
        y="y",
        color="true class",
        color_discrete_map=COLORS,
        category_orders={"true class": list(LABELS)},
        facet_col="model",
        custom_data="hover",
        opacity=0.75,
        render_mode="webgl",
    )
    figure.update_traces(marker_size=5, hovertemplate="%{customdata[0]}<extra></extra>")
    figure.for_each_annotation(lambda note: note.update(text=note.text.removeprefix("model=")))
    figure.update_xaxes(matches=None).update_yaxes(matches=None)  # each map has its own scale
    return map_layout(figure, title)


def intervals(rows: list[dict[str, Any]], title: str, *lines: str) -> Figure:
    """Macro-F1 of both models with 95% intervals; dashed: the values on the first line.

    Args:
        rows: of metrics.json; lines: keys of the rows that name a line, `dataset` or others.
    """
    named = [(", ".join(str(r[key]) for key in lines), r) for r in rows if r["name"] == "macro_f1"]
    places = list(dict.fromkeys(name for name, _ in named))
    figure, axes = plt.subplots(figsize=(9, 0.6 * len(places) + 1.8))
    for shift, (model, color) in zip((-0.14, 0.14), MODEL_COLORS.items(), strict=True):
        chosen = [(name, row) for name, row in named if row["model"] == model]
        y = [places.index(name) + shift for name, _ in chosen]
        low, value, high = (np.array([r[e] for _, r in chosen]) for e in ("low", "value", "high"))
        axes.errorbar(value, y, xerr=[value - low, high - value], fmt="o", color=color, label=model)
        axes.axvline(value[0], color=color, linestyle="--", linewidth=1)
    axes.set(title=title, xlabel="macro-F1 (95% interval)", ylabel="set of texts")
    axes.set_yticks(range(len(places)), [plain(place) for place in places])
    axes.invert_yaxis()
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return done(figure)


def reliability(curves: dict[str, pd.DataFrame], title: str) -> Figure:
    """Accuracy by confidence; the area of a dot is its share of texts, the diagonal is perfect.

    Args:
        curves: as `lib.evaluation.calibration.compare_calibration` gives them.
    """
    figure, axes = plt.subplots(figsize=(6, 5))
    axes.plot([0, 1], [0, 1], ":", color="black", linewidth=1)
    for model, table in curves.items():
        x, y, color = table["confidence"], table["accuracy"], MODEL_COLORS[model]
        axes.plot(x, y, color=color, label=model)
        axes.scatter(x, y, s=400 * table["texts"] / table["texts"].sum() + 8, color=color)
    axes.set(title=title, xlabel="confidence", ylabel="accuracy", xlim=(0.3, 1.02))
    axes.legend(loc="lower right")
    return done(figure)
