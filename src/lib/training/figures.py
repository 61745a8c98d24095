"""Figures of training: curves of F1 and losses."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from lib.style import MARK, TRAIN_COLOR, VALIDATION_COLOR, done


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
