from __future__ import annotations

import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from lib import LABELS
from lib.clusters import figures
from lib.clusters import filter as filters
from lib.clusters.purity import purity_table
from lib.style import COLORS

HOSTILE = "<script>alert('$x$')</script>"


@pytest.fixture(scope="module")
def corpus():
    """Points of a map and their texts; the first text and source are hostile."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "text": [HOSTILE, *(f"текст номер {i}" for i in range(1, 60))],
            "source": [HOSTILE, *["отзывы"] * 59],
            "cluster": rng.integers(0, 20, 60),
            "predicted": np.arange(60) % 3,
            "confidence": rng.random(60),
            "purity": rng.uniform(1 / 3, 1, 60),
        }
    )
    return rng.normal(size=(60, 2)), frame


@pytest.fixture(autouse=True)
def none_stays_open():
    yield
    assert plt.get_fignums() == []


def legend(axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_purity_histogram_counts_every_cluster():
    table = pd.DataFrame(
        {"purity": [1 / 3, 0.5, 0.9, 0.95, 1.0, 1.0, np.nan], "dominant": [0, 1, 2, 2, 2, 0, 0]}
    )
    axes = figures.purity_histogram(table, 0.9).axes[0]
    by_colour = dict.fromkeys(LABELS, 0)
    names = {colour: name for name, colour in COLORS.items()}
    for patch in axes.patches:
        by_colour[names[to_hex(patch.get_facecolor()).upper()]] += round(patch.get_height())
    assert by_colour == {"negative": 2, "neutral": 1, "positive": 3}
    assert "4 of 6 clusters at or above 0.9" in axes.get_title() and axes.get_xlabel()
    assert list(axes.lines[-1].get_xdata()) == [0.9, 0.9]
    assert set(legend(axes)) == set(LABELS)


@pytest.mark.parametrize("audited", [True, False])
def test_frontier_has_a_line_per_purity_and_marks_the_filter_in_use(audited):
    rng = np.random.default_rng(0)
    assigned = rng.integers(0, 12, 300)
    probabilities = rng.dirichlet([0.3, 0.3, 0.3], 300).astype(np.float32)
    texts = pd.DataFrame({"cluster": assigned, "predicted": probabilities.argmax(1)})
    texts["confidence"] = probabilities.max(1)
    texts["audit_label"], texts["source"] = rng.integers(0, 3, 300) if audited else -1, "отзывы"
    purity = purity_table(assigned, probabilities, 12)
    options = {"min_purity": 0.45, "min_confidence": 0.7}
    table = filters.frontier(texts, purity, **options)
    axes = figures.frontier(table, 0.45).axes
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
    assert legend(axes[0]) == [*(f"{x:g}" for x in table["min_purity"].unique()), "in use"]


def test_umap_view_shows_every_point_once_by_class(corpus):
    points, frame = corpus
    figure = figures.umap_view(points, frame, "Карта")
    assert [trace.name for trace in figure.data] == list(LABELS)
    seen = []
    for label, trace in enumerate(figure.data):
        rows = np.flatnonzero(frame["predicted"] == label)
        assert trace.type == "scattergl" and trace.marker.color == COLORS[LABELS[label]]
        np.testing.assert_allclose(np.column_stack([trace.x, trace.y]), points[rows], rtol=1e-6)
        expected = frame.loc[rows, ["cluster", "purity", "confidence"]]
        np.testing.assert_allclose(trace.customdata, expected, rtol=1e-6)
        assert f"<br>{LABELS[label]}, confidence %{{customdata[2]:.2f}}" in trace.hovertemplate
        seen += list(trace.text)
    for i in range(1, len(frame)):
        assert sum(hover == f"текст номер {i}<br>отзывы" for hover in seen) == 1
    (hostile,) = (hover for hover in seen if "alert" in hover)
    assert "<" not in hostile.replace("<br>", "") and "$" not in hostile


def test_umap_view_has_three_colour_buttons(corpus):
    points, frame = corpus
    (menu,) = figures.umap_view(points, frame, "Карта").layout.updatemenus
    assert [button.label for button in menu.buttons] == ["predicted class", "purity", "cluster"]
    by_class, by_purity, by_cluster = (button.args[0] for button in menu.buttons)
    assert list(by_class["marker.color"]) == [COLORS[name] for name in LABELS]
    for label in range(3):
        part = frame[frame["predicted"] == label]
        np.testing.assert_allclose(by_purity["marker.color"][label], part["purity"], atol=6e-3)
        shown = pd.Series(by_cluster["marker.color"][label], index=part.index)
        assert (shown.groupby(part["cluster"]).nunique() == 1).all()
        assert shown.nunique() > 5
    assert list(by_purity["marker.showscale"]).count(True) == 1
    assert by_class["marker.showscale"] is by_cluster["marker.showscale"] is False


def test_umap_static_shows_classes_and_purity(corpus):
    points, frame = corpus
    left, right = figures.umap_static(points, frame, "Карта").axes[:2]
    sizes = [len(c.get_offsets()) for c in left.collections]
    assert sizes == np.bincount(frame["predicted"], minlength=3).tolist()
    np.testing.assert_allclose(right.collections[0].get_array(), frame["purity"])
    np.testing.assert_allclose(right.collections[0].get_offsets(), points)


def test_a_map_of_many_texts_stays_small(monkeypatch):
    """250 bytes a text at most, hovers of long Russian texts included: 25 MB at 100,000 texts."""
    count, rng = 10_000, np.random.default_rng(0)
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
    per_text = figures.HOVERS_CHARACTERS / 100_000
    monkeypatch.setattr(figures, "HOVERS_CHARACTERS", per_text * count)
    figure = json.loads(figures.umap_view(points, frame, "Карта").to_json())
    assert len(json.dumps(figure, ensure_ascii=False).encode("utf-8")) / count < 250
