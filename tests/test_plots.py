from __future__ import annotations

import html

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from lib import LABELS
from lib import style as plots

HOSTILE = "<script>window.hacked=1</script><img src=x onerror=alert(1)>"


def corpus_frame(rows: int = 60) -> tuple[np.ndarray, pd.DataFrame]:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "text": [f"текст номер {i}" for i in range(rows)],
            "source": "отзывы",
            "cluster": rng.integers(0, 20, rows),
            "predicted": rng.integers(0, 3, rows),
            "confidence": rng.uniform(0.4, 1, rows),
            "purity": rng.uniform(0.4, 1, rows),
        }
    )
    return rng.normal(size=(rows, 2)), frame


def history_frame(**columns) -> pd.DataFrame:
    values = {
        "step": [10, 20, 30],
        "train_class_loss": [1.0, 0.6, 0.3],
        "train_metric_loss": [2.0, 1.9, 1.8],
        "validation_loss": [0.9, 0.7, 0.8],
        "validation_macro_f1": [0.4, 0.72, 0.7],
        "best": [False, True, False],
    }
    return pd.DataFrame(values | columns)


def metric_rows() -> list[dict]:
    return [
        {
            "name": name,
            "model": model,
            "dataset": dataset,
            "split": "test",
            "texts": 50,
            "value": value,
            "low": value - 0.05,
            "high": value + 0.04,
        }
        for name, shift in (("macro_f1", 0.0), ("accuracy", 0.1))
        for dataset in ("gold", "отзывы")
        for model, value in (("base", 0.6 + shift), ("final", 0.7 + shift), ("final - base", 0.1))
    ]


def segments(bars) -> list[list[float]]:
    """Widths of stacked horizontal bars, one list per class."""
    return [[patch.get_width() for patch in container] for container in bars]


def texts_of(axes) -> list[str]:
    return [label.get_text() for label in axes.get_legend().get_texts()]


def all_figures() -> dict:
    """One figure of each kind, as functions without arguments."""
    points, frame = corpus_frame()
    labels = frame["predicted"].to_numpy()
    gold = frame.assign(label=labels)
    matrix = np.arange(9).reshape(3, 3)
    shares = pd.DataFrame([[0.2, 0.3, 0.5]], index=["gold"], columns=list(LABELS))
    return {
        "class_counts": lambda: plots.class_counts(gold, "label", "Классы"),
        "length_histogram": lambda: plots.length_histogram(
            pd.DataFrame({"table": ["gold", "corpus"], "characters": [10, 20]})
        ),
        "training_curves": lambda: plots.training_curves(history_frame(), 20, "02"),
        "lambda_curves": lambda: plots.lambda_curves({0.0: history_frame(), 0.5: history_frame()}),
        "confidence_histogram": lambda: plots.confidence_histogram(labels, gold["confidence"]),
        "confusion_matrices": lambda: plots.confusion_matrices({"base": matrix}, "gold test"),
        "explained_variance": lambda: plots.explained_variance(np.array([0.5, 0.3])),
        "embedding_spaces": lambda: plots.embedding_spaces(
            {"base": points, "final": -points}, gold, "Два пространства"
        ),
        "class_share_bars": lambda: plots.class_share_bars(shares, "Доли"),
        "intervals": lambda: plots.intervals(metric_rows(), "macro_f1", "Сравнение"),
    }


@pytest.mark.parametrize("name", sorted(all_figures()))
def test_every_function_returns_its_figure_and_leaves_none_open(name, tmp_path):
    figure = all_figures()[name]()
    assert plt.get_fignums() == []
    if isinstance(figure, go.Figure):
        assert figure.layout.title.text and len(figure.data) > 0
        assert figure.layout.xaxis.title.text and figure.layout.yaxis.title.text
    else:
        assert isinstance(figure, Figure)
        figure.savefig(tmp_path / "figure.png", dpi=30)
        assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
        assert all(axes.get_title() for axes in figure.axes if axes.get_label() != "<colorbar>")
        drawn = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
        assert all(axes.get_xlabel() and axes.get_ylabel() for axes in drawn)


def test_a_colour_means_one_thing():
    """Nothing but a class has a class's colour, nothing but a model a model's."""
    classes, models = set(plots.COLORS.values()), {plots.BASE_COLOR, plots.FINAL_COLOR}
    others = {plots.MARK, plots.LINE_COLOR, plots.TRAIN_COLOR, plots.VALIDATION_COLOR}
    assert len(classes | models) == 5
    assert not (classes | models) & (others | set(plots.CLUSTER_COLORS))
    assert len(set(plots.CLUSTER_COLORS)) == len(plots.CLUSTER_COLORS)
    used = set()
    for figure in (plots.training_curves(history_frame(), 20, "02"), all_curves()):
        used |= {to_hex(line.get_color()).upper() for axes in figure.axes for line in axes.lines}
    assert len(used) > 3 and not used & (classes | models)


def all_curves() -> Figure:
    return plots.lambda_curves({0.0: history_frame(), 0.5: history_frame()})


def test_dollars_in_names_are_no_formula(tmp_path):
    name = r"$\price$ in $"  # as a formula it would stop the drawing
    frame = pd.DataFrame({"source": [name], "label": [0]})
    shares = pd.DataFrame([[0.2, 0.3, 0.5]], index=[name], columns=list(LABELS))
    rows = [{**row, "dataset": name} for row in metric_rows()]
    for figure in (
        plots.class_counts(frame, "label", "Классы"),
        plots.class_share_bars(shares, "Доли"),
        plots.intervals(rows, "macro_f1", "Сравнение"),
    ):
        figure.savefig(tmp_path / "figure.png", dpi=30)
        (label,) = figure.axes[0].get_yticklabels()
        assert label.get_text().replace("\\$", "$").startswith(name)


def test_every_figure_of_the_module_is_tested():
    returning = {
        name
        for name, function in vars(plots).items()
        if getattr(function, "__module__", "") == plots.__name__
        and function.__annotations__.get("return") in ("Figure", "go.Figure")
    }
    assert returning - {"done", "map_layout"} == set(all_figures())


def test_class_counts_are_those_of_the_frame():
    frame = pd.DataFrame({"source": ["а"] * 4 + ["б"] * 2, "label": [0, 0, 2, 2, 2, 2]})
    axes = plots.class_counts(frame, "label", "Классы").axes[0]
    assert segments(axes.containers) == [[2, 0], [0, 0], [2, 2]]  # no neutral: still a bar of 0
    assert texts_of(axes) == list(LABELS)
    colours = [to_hex(container[0].get_facecolor()).upper() for container in axes.containers]
    assert colours == [plots.COLORS[name] for name in LABELS]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["а", "б"]


def test_length_histogram_has_a_line_per_frame():
    tables = ["gold", "gold", "corpus", "corpus"]
    lengths = pd.DataFrame({"table": tables, "characters": [10, 100, 1000, 0]})
    axes = plots.length_histogram(lengths).axes[0]
    assert sorted(texts_of(axes)) == ["corpus", "gold"]
    assert axes.get_xscale() == "log" and len(axes.patches) == 2
    ends = [patch.get_xy()[:, 0].max() for patch in axes.patches]
    assert ends == pytest.approx([100, 1000])


def test_training_curves_mark_the_kept_checkpoint_and_overfitting():
    left, right = plots.training_curves(history_frame(), 20, "02").axes
    curve, star, line = left.lines
    assert list(curve.get_xdata()) == [10, 20, 30]
    assert list(curve.get_ydata()) == [0.4, 0.72, 0.7]
    assert (list(star.get_xdata()), list(star.get_ydata())) == ([20], [0.72])
    assert star.get_label() == "kept: step 20, 0.720"
    assert list(line.get_xdata()) == [20, 20]
    train, validation, line = right.lines
    assert list(train.get_ydata()) == [1.0, 0.6, 0.3]
    assert list(validation.get_ydata()) == [0.9, 0.7, 0.8]
    without = plots.training_curves(history_frame(), None, "02")
    assert [len(axes.lines) for axes in without.axes] == [2, 2]


def test_lambda_curves_have_one_line_per_value():
    other = history_frame(validation_macro_f1=[0.5, 0.6, 0.8])
    figure = plots.lambda_curves({0.0: history_frame(), 0.25: other})
    assert [len(axes.lines) for axes in figure.axes] == [2, 2, 2]
    assert texts_of(figure.axes[0]) == ["λ_metric = 0", "λ_metric = 0.25"]
    assert list(figure.axes[2].lines[1].get_ydata()) == [0.5, 0.6, 0.8]
    assert list(figure.axes[1].lines[0].get_ydata()) == [2.0, 1.9, 1.8]


def test_confidence_histogram_counts_every_text():
    predicted = np.array([0, 0, 1, 2, 2, 2])
    confidence = np.array([1 / 3, 0.5, 0.7, 0.9, 1.0, 1.0])
    axes = plots.confidence_histogram(predicted, confidence).axes[0]
    heights = [sum(patch.get_height() for patch in bars) for bars in axes.containers]
    assert heights == [2, 1, 3]
    assert texts_of(axes) == list(LABELS)


def test_confusion_matrices_show_counts_and_row_shares():
    matrix = np.array([[8, 1, 1], [0, 5, 5], [0, 0, 0]])
    figure = plots.confusion_matrices({"base": matrix, "final": matrix.T}, "gold test, 20 texts")
    cells = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert cells[0] == [str(n) for n in matrix.ravel()]
    assert cells[1] == [str(n) for n in matrix.T.ravel()]
    assert cells[2] == ["0.80", "0.10", "0.10", "0.00", "0.50", "0.50", "0.00", "0.00", "0.00"]
    assert cells[3] == ["1.00", "0.00", "0.00", "0.17", "0.83", "0.00", "0.17", "0.83", "0.00"]
    assert figure.axes[0].get_title() == "base: texts\ngold test, 20 texts"
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == list(LABELS)
    labels = (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel())
    assert labels == ("predicted class", "true class")


def test_explained_variance_is_cumulative():
    axes = plots.explained_variance(np.array([0.5, 0.3, 0.1])).axes[0]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [0.5, 0.8, 0.9])
    assert "3 components explain 90.0%" in axes.get_title()


def test_embedding_spaces_show_the_same_texts_twice():
    points, frame = corpus_frame(30)
    gold = pd.DataFrame({"text": frame["text"], "label": frame["predicted"]})
    gold.loc[3, "text"] = HOSTILE
    figure = plots.embedding_spaces({"base": points, "final": -points}, gold, "Пространства")
    assert [trace.name for trace in figure.data] == list(LABELS) * 2
    assert [trace.showlegend for trace in figure.data] == [True] * 3 + [False] * 3
    assert {trace.xaxis for trace in figure.data[:3]} != {trace.xaxis for trace in figure.data[3:]}
    for base, final in zip(figure.data[:3], figure.data[3:], strict=True):
        assert list(base.text) == list(final.text)
        np.testing.assert_allclose(base.x, -np.array(final.x))
    assert sum(len(trace.x) for trace in figure.data) == 60
    hovers = [hover for trace in figure.data for hover in trace.text]
    assert not any("<" in hover.replace("<br>", "") for hover in hovers)


def test_class_share_bars_keep_the_rows():
    shares = pd.DataFrame(
        [[0.2, 0.3, 0.5], [0.6, 0.4, 0.0]], index=["первая", "вторая"], columns=list(LABELS)
    )
    axes = plots.class_share_bars(shares, "Доли").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["вторая", "первая"]
    np.testing.assert_allclose(segments(axes.containers), [[0.6, 0.2], [0.4, 0.3], [0.0, 0.5]])


def test_intervals_show_both_models_per_data_set():
    axes = plots.intervals(metric_rows(), "macro_f1", "Сравнение").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "gold (test, 50 texts)",
        "отзывы (test, 50 texts)",
    ]
    bars = sorted(tuple(line.get_xdata()) for line in axes.lines if len(line.get_xdata()) == 2)
    assert np.array(bars) == pytest.approx(np.array([(0.55, 0.64)] * 2 + [(0.65, 0.74)] * 2))
    values = sorted(line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 1)
    assert values == pytest.approx([0.6, 0.6, 0.7, 0.7])
    assert texts_of(axes) == ["base", "final"]


def test_hover_text_escapes_markup():
    shown = plots.hover_text(HOSTILE)
    assert "&lt;script&gt;" in shown
    assert "<" not in shown.replace("<br>", "") and ">" not in shown.replace("<br>", "")
    assert plots.hover_text("") == ""


@given(st.text(st.sampled_from("абвгд <>&\"'ёЁ-\n;b r/"), max_size=400))
def test_hover_text_keeps_the_text_in_short_lines(text):
    lines = plots.hover_text(text).split("<br>")
    shown = [html.unescape(line) for line in lines]
    assert all(len(line) <= 60 for line in shown)
    letters = "".join("".join(shown).split())
    expected = "".join(text.split())
    if len(text) <= 200:
        assert letters == expected
    else:
        assert letters.endswith("…") and expected.startswith(letters[:-1])
        assert len(letters) <= 200
    assert not any("<" in line or ">" in line for line in lines)
