"""Figures of the finer evaluation: embedding spaces, robustness, calibration.

Same look and colours as `lib.plots`; every function returns its figure.
"""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from lib import LABELS
from lib.plots import BASE_COLOR, FINAL_COLOR

MODEL_COLORS = {"base": BASE_COLOR, "final": FINAL_COLOR}


def space_quality(rows: list[dict[str, Any]], title: str) -> Figure:
    """Three panels of grouped bars, base beside final: kNN macro-F1 with its interval, silhouette
    by class, distances of class centroids.

    Args:
        rows: as `lib.space_quality.compare_spaces` gives them.
    """
    values = {(row["name"], row["model"]): row for row in rows}
    pairs = [name for name, model in values if name.startswith("centroids_") and model == "base"]
    panels = {
        "kNN macro-F1": {"all classes": "knn_macro_f1"},
        "silhouette": {name: f"silhouette_{name}" for name in LABELS},
        "1 - cosine of class centroids": {
            name.removeprefix("centroids_").replace("_", "\n"): name for name in pairs
        },
    }
    widths = {"width_ratios": [1, 2, 2]}
    figure, axes = plt.subplots(1, len(panels), figsize=(13, 4), gridspec_kw=widths)
    for axis, (what, names) in zip(axes, panels.items(), strict=True):
        for shift, (model, color) in zip((-0.2, 0.2), MODEL_COLORS.items(), strict=True):
            for place, name in enumerate(names.values()):
                row = values.get((name, model))
                if row is None:
                    continue
                label = model if place == 0 else None
                axis.bar(place + shift, row["value"], 0.38, color=color, label=label)
                if "low" in row:
                    axis.plot([place + shift] * 2, [row["low"], row["high"]], color="black")
        axis.axhline(0, color="black", linewidth=0.8)
        kind = "pair of classes" if "centroids" in what else "class"
        axis.set(title=f"{what}\n{title}", xlabel=kind, ylabel=what)
        axis.set_xticks(range(len(names)), list(names))
    axes[0].legend(loc="lower right")
    return _done(figure)


def robustness(rows: list[dict[str, Any]], title: str) -> Figure:
    """Macro-F1 of both models with 95% intervals, one line per perturbation; a dashed line marks
    each model on the unchanged texts.

    Args:
        rows: as `lib.robustness.compare_perturbed` gives them.
    """
    names = list(dict.fromkeys(row["perturbation"] for row in rows))
    figure, axes = plt.subplots(figsize=(9, 0.55 * len(names) + 1.8))
    for shift, (model, color) in zip((-0.14, 0.14), MODEL_COLORS.items(), strict=True):
        for row in rows:
            if row["model"] != model:
                continue
            y = names.index(row["perturbation"]) + shift
            axes.plot([row["low"], row["high"]], [y, y], color=color, linewidth=3)
            axes.plot(row["value"], y, "o", color=color, label=model if y < 0.5 else None)
            if row["perturbation"] == names[0]:
                axes.axvline(row["value"], color=color, linestyle="--", linewidth=1)
    axes.set(title=title, xlabel="macro-F1 (95% interval)", ylabel="how the texts are written")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.legend()
    return _done(figure)


def reliability(curves: dict[tuple[str, str], pd.DataFrame], title: str) -> Figure:
    """Accuracy by confidence, one panel per model, before and after temperature scaling; the area
    of a dot is its number of texts, the dotted diagonal is perfect calibration.

    Args:
        curves: (model, "before" or "after") -> table of `lib.calibration.reliability`.
    """
    figure, axes = plt.subplots(1, len(MODEL_COLORS), figsize=(11, 5), sharey=True)
    for axis, (model, color) in zip(axes, MODEL_COLORS.items(), strict=True):
        axis.plot([0, 1], [0, 1], ":", color="black", linewidth=1)
        for when, style, face in (("before", "--", "none"), ("after", "-", color)):
            table = curves[model, when]
            x, y = table["confidence"], table["accuracy"]
            area = 400 * table["texts"] / table["texts"].sum() + 8
            axis.plot(x, y, style, color=color, label=f"{when} scaling")
            axis.scatter(x, y, s=area, edgecolors=color, facecolors=face, alpha=0.8)
        axis.set(
            title=f"{model}: {title}",
            xlabel="confidence (probability of the predicted class)",
            ylabel="accuracy",
            xlim=(0.3, 1.02),
            ylim=(-0.02, 1.02),
        )
        axis.legend(loc="lower right")
    return _done(figure)


def inflation(curve: pd.DataFrame, share: float, test: dict[str, float], title: str) -> Figure:
    """Macro-F1 of both models by the share of pseudo-labelled texts in a validation set.

    Args:
        curve: as `lib.inflation.curve` gives it.
        share: of the training mix; marked.
        test: model -> macro-F1 on clean gold test, a dashed line each.
    """
    figure, axes = plt.subplots(figsize=(8, 4.2))
    for model, color in MODEL_COLORS.items():
        axes.plot(curve["share"], curve[model], color=color, linewidth=2, label=model)
        axes.axhline(
            test[model], color=color, linestyle="--", linewidth=1, label=f"{model}, clean gold test"
        )
    axes.axvline(share, color="black", linewidth=1, label=f"training mix: {share:.0%}")
    axes.set(
        title=title,
        xlabel="share of pseudo-labelled texts in the validation set",
        ylabel="macro-F1",
        xlim=(0, 1),
    )
    axes.legend()
    return _done(figure)


def _done(figure: Figure) -> Figure:
    figure.tight_layout()
    plt.close(figure)  # shown once, where the notebook asks for it
    return figure
