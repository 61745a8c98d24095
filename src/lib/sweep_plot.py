"""The figure of a sweep: macro-F1 with intervals, over a numeric parameter or line by line."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.plots import CLUSTER_COLORS, done


def comparison(table: pd.DataFrame, axes: list[str], title: str) -> Figure:
    """One panel per data set; intervals over seeds where there are seeds, else over texts.

    Args:
        table: comparison.csv or seeds.csv of `lib.sweep_table`.
        axes: `variant` and the grid's parameters without the seed. One numeric parameter becomes
            the horizontal axis, with a line per variant; otherwise each row has its own line.
    """
    panels = list(table.groupby(["dataset", "split"], sort=False))
    numeric = numeric_axis(table, axes)
    names = table[[a for a in axes if a != numeric]].astype(str).agg(", ".join, axis=1)
    names = names.str.strip(", ")
    lines = 1 if numeric else names.nunique()
    height = (3.2 if numeric else 0.35 * lines + 1.4) * len(panels)
    figure, places = plt.subplots(len(panels), figsize=(8, height), squeeze=False)
    for place, ((dataset, split), part) in zip(places[:, 0], panels, strict=True):
        for number, (name, rows) in enumerate(part.groupby(names[part.index], sort=False)):
            color = CLUSTER_COLORS[number % len(CLUSTER_COLORS)]
            if numeric:
                rows = rows.assign(**{numeric: rows[numeric].astype(float)}).sort_values(numeric)
                _bars(place, rows[numeric], rows, color, name)
            else:
                place.errorbar(
                    rows["macro_f1"], [number] * len(rows), xerr=_ends(rows), fmt="o", color=color
                )
        place.set_title(f"{title}: {dataset}, {split}, {round(part['texts'].mean()):,} texts")
        if numeric:
            place.set(xlabel=numeric, ylabel="macro-F1 (95% interval)")
            if (names != "").any():
                place.legend()
        else:
            labels = list(dict.fromkeys(names[part.index]))
            place.set(xlabel="macro-F1 (95% interval)", yticks=range(len(labels)))
            place.set_yticklabels(labels)
            place.set_ylim(len(labels) - 0.5, -0.5)  # the first one on top
    return done(figure)


def numeric_axis(table: pd.DataFrame, axes: list[str]) -> str | None:
    """The only grid parameter, if its values are several numbers."""
    grid = [axis for axis in axes if axis != "variant"]
    if len(grid) != 1 or table[grid[0]].nunique() < 2:
        return None
    numbers = pd.to_numeric(table[grid[0]], errors="coerce")
    return grid[0] if numbers.notna().all() else None


def _bars(place: Axes, x: pd.Series, rows: pd.DataFrame, color: str, name: str) -> None:
    place.errorbar(x, rows["macro_f1"], yerr=_ends(rows), fmt="o-", color=color, label=name)


def _ends(rows: pd.DataFrame) -> list[pd.Series]:
    """Distances of the interval's ends from the value; none where there is no interval.

    A t interval of few seeds may reach beyond what macro-F1 can be: it is drawn to 0 or 1.
    """
    low = rows["macro_f1"] - rows["macro_f1_low"].clip(lower=0)
    high = rows["macro_f1_high"].clip(upper=1) - rows["macro_f1"]
    return [low.fillna(0).clip(lower=0), high.fillna(0).clip(lower=0)]
