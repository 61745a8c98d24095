from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from lib import LABELS
from lib.evaluation import calibration, figures

HOSTILE = "<script>window.hacked=1</script><img src=x onerror=alert(1)>"


def rows_of(*datasets: str) -> list[dict]:
    return [
        {"name": name, "model": model, "dataset": dataset, "split": "test", "value": value}
        | {"low": value - 0.05, "high": value + 0.04}
        for name, shift in (("macro_f1", 0.0), ("accuracy", 0.1))
        for dataset in datasets
        for model, value in (("base", 0.6 + shift), ("final", 0.7 + shift), ("final - base", 0.1))
    ]


def test_embedding_spaces_show_the_same_texts_twice():
    rng = np.random.default_rng(0)
    test = pd.DataFrame({"text": [f"текст {i}" for i in range(40)], "label": np.arange(40) % 3})
    test.loc[3, "text"] = HOSTILE
    points = pd.DataFrame({"row": np.arange(1, 31)})
    for model, sign in (("base", 1), ("final", -1)):
        points[f"{model}_x"], points[f"{model}_y"] = sign * rng.normal(size=(2, 30))
    figure = figures.embedding_spaces(points, test, "Два пространства")
    assert sorted(trace.name for trace in figure.data) == sorted(LABELS * 2)
    assert sum(trace.showlegend for trace in figure.data) == 3
    assert {note.text for note in figure.layout.annotations} == {"base", "final"}
    shown = [
        (model, hover, x)
        for trace in figure.data
        for model in [{"x": "base", "x2": "final"}[trace.xaxis]]
        for (hover,), x in zip(trace.customdata, trace.x, strict=True)
    ]
    texts = test["text"][points["row"]].tolist()
    for model in ("base", "final"):
        place = texts.index("текст 7")
        (x,) = [x for m, hover, x in shown if m == model and hover == "текст 7"]
        assert x == pytest.approx(points[f"{model}_x"][place], abs=1e-3)
    assert len(shown) == 60
    assert not any("<" in hover.replace("<br>", "") for _, hover, _ in shown)


def test_intervals_show_both_models_per_line(tmp_path):
    name = r"$\price$ in $"  # as a formula it would stop the drawing
    figure = figures.intervals(rows_of("gold", name), "Сравнение", "dataset", "split")
    figure.savefig(tmp_path / "figure.png", dpi=30)
    (axes,) = figure.axes
    assert plt.get_fignums() == []
    labels = [label.get_text().replace("\\$", "$") for label in axes.get_yticklabels()]
    assert labels == ["gold, test", f"{name}, test"]
    for bars, value in zip(axes.containers, (0.6, 0.7), strict=True):
        dots, _, (segments,) = bars
        assert list(dots.get_xdata()) == pytest.approx([value] * 2)
        ends = np.array(segments.get_segments())[:, :, 0]
        np.testing.assert_allclose(ends, [[value - 0.05, value + 0.04]] * 2)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["base", "final"]


def test_reliability_shows_every_bin_with_its_texts():
    rng = np.random.default_rng(0)
    table = calibration.reliability(rng.dirichlet([1, 1, 1], 100), rng.integers(0, 3, 100))
    (axes,) = figures.reliability({"base": table, "final": table}, "gold test").axes
    for line, dots in zip(axes.lines[1:], axes.collections, strict=True):
        np.testing.assert_allclose(line.get_ydata(), table["accuracy"])
        np.testing.assert_allclose(dots.get_offsets()[:, 0], table["confidence"])
        assert np.argmax(dots.get_sizes()) == table["texts"].argmax()
