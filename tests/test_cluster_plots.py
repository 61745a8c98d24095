from __future__ import annotations

import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from lib import LABELS, cluster_plots
from lib.plots import CLUSTER_COLORS, COLORS
from lib.purity import purity_table
from lib.reliability import frontier
from lib.report_chapter import plotly_html
from test_plots import HOSTILE, corpus_frame, texts_of


def predictions(audited: bool) -> tuple:
    """Arguments of `frontier`: cluster, probabilities, purity table, audit labels."""
    rng = np.random.default_rng(0)
    assigned = rng.integers(0, 12, 300)
    probabilities = rng.dirichlet([0.3, 0.3, 0.3], 300).astype(np.float32)
    labels = rng.integers(0, 3, 300) if audited else np.full(300, -1)
    return assigned, probabilities, purity_table(assigned, probabilities, 12), labels


def frontier_table(audited: bool = True) -> pd.DataFrame:
    options = {"min_purity": 0.45, "min_confidence": 0.7, "require_dominant": False}
    return frontier(*predictions(audited), **options)


def counts_table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "clusters": [10, 20, 40],
            "inertia": [3.0, 2.0, 1.5],
            "silhouette": [0.1, 0.2, 0.15],
            "mean_purity": [0.7, 0.8, 0.9],
            "mean_purity_lower_bound": [0.65, 0.7, 0.6],
            "kept_share": [0.1, 0.3, 0.4],
        }
    )


def all_figures() -> dict:
    """One figure of each kind, as functions without arguments."""
    points, frame = corpus_frame()
    table = predictions(True)[2]
    return {
        "purity_histogram": lambda: cluster_plots.purity_histogram(table, 0.9),
        "frontier": lambda: cluster_plots.frontier(frontier_table(), 0.45),
        "cluster_counts": lambda: cluster_plots.cluster_counts(counts_table(), 20),
        "umap_view": lambda: cluster_plots.umap_view(points, frame, "Карта"),
        "umap_static": lambda: cluster_plots.umap_static(points, frame, "Карта"),
    }


@pytest.mark.parametrize("name", sorted(all_figures()))
def test_every_function_returns_its_figure_and_leaves_none_open(name, tmp_path):
    figure = all_figures()[name]()
    assert plt.get_fignums() == []
    if isinstance(figure, go.Figure):
        assert figure.layout.title.text and figure.layout.xaxis.title.text
    else:
        assert isinstance(figure, Figure)
        figure.savefig(tmp_path / "figure.png", dpi=30)
        assert all(axes.get_title() for axes in figure.axes if axes.get_label() != "<colorbar>")
        drawn = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
        assert all(axes.get_xlabel() and axes.get_ylabel() for axes in drawn)


def test_every_figure_of_the_module_is_tested():
    returning = {
        name
        for name, function in vars(cluster_plots).items()
        if getattr(function, "__module__", "") == cluster_plots.__name__
        and function.__annotations__.get("return") in ("Figure", "go.Figure")
    }
    assert returning == set(all_figures())


def test_purity_histogram_counts_every_cluster():
    table = pd.DataFrame(
        {"purity": [1 / 3, 0.5, 0.9, 0.95, 1.0, 1.0, np.nan], "dominant": [0, 1, 2, 2, 2, 0, 0]}
    )
    axes = cluster_plots.purity_histogram(table, 0.9).axes[0]
    by_colour = dict.fromkeys(LABELS, 0)
    names = {colour: name for name, colour in COLORS.items()}
    for patch in axes.patches:
        colour = to_hex(patch.get_facecolor()).upper()
        by_colour[names[colour]] += round(patch.get_height())
    assert by_colour == {"negative": 2, "neutral": 1, "positive": 3}
    assert "4 of 6 clusters at or above 0.9" in axes.get_title()
    line = axes.lines[-1]
    assert list(line.get_xdata()) == [0.9, 0.9]
    assert set(texts_of(axes)) == set(LABELS)


def test_umap_view_shows_every_point_once_by_class():
    points, frame = corpus_frame()
    frame.loc[0, "text"] = HOSTILE
    frame.loc[0, "source"] = HOSTILE
    figure = cluster_plots.umap_view(points, frame, "Карта")
    assert [trace.name for trace in figure.data] == list(LABELS)
    seen = []
    for label, trace in enumerate(figure.data):
        rows = np.flatnonzero(frame["predicted"] == label)
        assert len(trace.x) == len(trace.text) == len(rows)
        np.testing.assert_allclose(np.column_stack([trace.x, trace.y]), points[rows], rtol=1e-6)
        assert trace.marker.color == COLORS[LABELS[label]]
        for row, hover in zip(frame.iloc[rows].itertuples(), trace.text, strict=True):
            assert hover.endswith("<br>отзывы") or row.Index == 0
        expected = frame.loc[rows, ["cluster", "purity", "confidence"]]
        np.testing.assert_allclose(trace.customdata, expected, rtol=1e-6)
        assert f"<br>{LABELS[label]}, confidence %{{customdata[2]:.2f}}" in trace.hovertemplate
        seen += list(trace.text)
    for i in range(1, len(frame)):
        assert sum(hover.startswith(f"текст номер {i}<br>") for hover in seen) == 1
    hostile = next(hover for hover in seen if "hacked" in hover)
    assert "<" not in hostile.replace("<br>", "")


def test_umap_view_has_three_colour_buttons():
    points, frame = corpus_frame()
    figure = cluster_plots.umap_view(points, frame, "Карта")
    (menu,) = figure.layout.updatemenus
    assert [button.label for button in menu.buttons] == [
        "predicted class",
        "purity",
        "cluster",
    ]
    by_class, by_purity, by_cluster = (button.args[0] for button in menu.buttons)
    assert list(by_class["marker.color"]) == [COLORS[name] for name in LABELS]
    for label in range(3):
        part = frame[frame["predicted"] == label]
        np.testing.assert_allclose(by_purity["marker.color"][label], part["purity"], atol=6e-3)
        assert len(by_cluster["marker.color"][label]) == len(part)
        shown = pd.Series(by_cluster["marker.color"][label], index=part.index)
        assert (shown.groupby(part["cluster"]).nunique() == 1).all()
        assert shown.nunique() > 5
    assert by_purity["marker.showscale"].count(True) == 1
    (scale,) = by_cluster["marker.colorscale"]
    low, high = by_cluster["marker.cmin"], by_cluster["marker.cmax"]
    for number, color in enumerate(CLUSTER_COLORS):  # both ends of a step have its colour
        place = (number - low) / (high - low)
        (step,) = {
            c for (a, c), (b, _) in zip(scale[::2], scale[1::2], strict=True) if a < place < b
        }
        assert step == color
    assert by_class["marker.showscale"] is False


def test_umap_static_shows_classes_and_purity():
    points, frame = corpus_frame()
    left, right = cluster_plots.umap_static(points, frame, "Карта").axes[:2]
    assert [len(c.get_offsets()) for c in left.collections] == np.bincount(
        frame["predicted"], minlength=3
    ).tolist()
    np.testing.assert_allclose(right.collections[0].get_array(), frame["purity"])
    np.testing.assert_allclose(right.collections[0].get_offsets(), points)


def test_the_histogram_can_show_the_lower_bound():
    table = pd.DataFrame({"purity_lower_bound": [0.1, 0.5, 0.95], "dominant": [0, 1, 2]})
    axes = cluster_plots.purity_histogram(table, 0.9, "purity_lower_bound").axes[0]
    assert "1 of 3 clusters" in axes.get_title() and "lower bound" in axes.get_xlabel()
    assert sum(patch.get_height() for patch in axes.patches) == 3


@pytest.mark.parametrize("audited", [True, False])
def test_frontier_has_a_line_per_purity_and_marks_the_filter_in_use(audited):
    table = frontier_table(audited)
    axes = cluster_plots.frontier(table, 0.45).axes
    assert len(axes) == 1 + audited
    for axis, column in zip(axes, ("expected_precision", "measured_precision"), strict=False):
        *lines, star = axis.lines
        for line, (_, rows) in zip(lines, table.groupby("min_purity"), strict=True):
            rows = rows.dropna(subset=column)
            np.testing.assert_array_equal(line.get_xdata(), rows["kept_share"])
            np.testing.assert_array_equal(line.get_ydata(), rows[column])
        chosen = table[table["chosen"]]
        assert list(star.get_xdata()) == chosen["kept_share"].tolist()
        assert list(star.get_ydata()) == chosen[column].tolist()
    assert texts_of(axes[0]) == [*(f"{x:g}" for x in table["min_purity"].unique()), "in use"]


def test_cluster_counts_show_every_measure_and_the_number_in_use():
    table = counts_table()
    axes = cluster_plots.cluster_counts(table, 20).axes
    for axis, column in zip(
        axes, ("inertia", "silhouette", "mean_purity", "kept_share"), strict=True
    ):
        assert axis.lines[0].get_ydata().tolist() == table[column].tolist()
        assert list(axis.lines[-1].get_xdata()) == [20, 20]
    assert [t.get_text() for t in axes[0].get_xticklabels()] == ["10", "20", "40"]
    assert axes[2].lines[1].get_ydata().tolist() == table["mean_purity_lower_bound"].tolist()


def test_a_map_of_many_texts_stays_small(monkeypatch):
    """250 bytes a text at most, hovers of long Russian texts included: 25 MB at 100,000 texts."""
    count = 30_000
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "text": "Очень хорошее место, были с друзьями, всем понравилось! <3 " * 20,
            "source": "sentirueval2016_telecom",
            "cluster": rng.integers(0, 2000, count),
            "predicted": rng.integers(0, 3, count),
            "confidence": rng.random(count),
            "purity": rng.random(count),
        }
    )
    points = rng.normal(size=(count, 2)) * 10
    per_text = cluster_plots.HOVERS_CHARACTERS / 100_000
    monkeypatch.setattr(cluster_plots, "HOVERS_CHARACTERS", per_text * count)
    figure = cluster_plots.umap_view(points, frame, "Карта")
    page = plotly_html(json.loads(figure.to_json()), "map")
    assert len(page.encode("utf-8")) / count < 250
    assert all(trace.type == "scattergl" for trace in figure.data)
