from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from lib import calibration, quality_plots, space_quality

PERTURBED = [
    {
        "perturbation": name,
        "model": model + suffix,
        "value": value,
        "low": value - 0.05,
        "high": value + 0.04,
    }
    for name, shift in (("unchanged", 0.0), ("typos", -0.1))
    for model, value in (("base", 0.6 + shift), ("final", 0.7 + shift))
    for suffix in ("", ": change")
]


def test_robustness_shows_both_models_and_no_changes():
    axes = quality_plots.robustness(PERTURBED, "Устойчивость").axes[0]
    assert plt.get_fignums() == []
    assert [label.get_text() for label in axes.get_yticklabels()] == ["unchanged", "typos"]
    points = [line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 1]
    assert points == pytest.approx([0.6, 0.5, 0.7, 0.6])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["base", "final"]
    dashed = [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "--"]
    assert dashed == pytest.approx([0.6, 0.7])
    assert axes.get_title() and axes.get_xlabel() and axes.get_ylabel()


def test_reliability_shows_every_bin_with_its_texts():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([1, 1, 1], 100)
    table = calibration.reliability(probabilities, rng.integers(0, 3, 100))
    curves = {(model, when): table for model in ("base", "final") for when in ("before", "after")}
    figure = quality_plots.reliability(curves, "gold test")
    assert plt.get_fignums() == []
    assert [axes.get_title() for axes in figure.axes] == ["base: gold test", "final: gold test"]
    for axes in figure.axes:
        diagonal, *lines = axes.lines
        assert list(diagonal.get_xdata()) == list(diagonal.get_ydata()) == [0, 1]
        for line, dots in zip(lines, axes.collections, strict=True):
            np.testing.assert_allclose(line.get_ydata(), table["accuracy"])
            np.testing.assert_allclose(dots.get_offsets()[:, 0], table["confidence"])
            assert np.argmax(dots.get_sizes()) == table["texts"].argmax()
        names = [text.get_text() for text in axes.get_legend().get_texts()]
        assert names == ["before scaling", "after scaling"]


def test_space_quality_has_a_bar_per_value():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60)
    spaces = {"base": rng.normal(size=(60, 4)), "final": np.eye(3, 4)[labels] + 0.1}
    about = {"dataset": "gold", "split": "test", "samples": 100, "seed": 0}
    rows = space_quality.compare_spaces(spaces, labels, **about)
    figure = quality_plots.space_quality(rows, "gold test")
    assert plt.get_fignums() == []
    values = {(row["name"], row["model"]): row["value"] for row in rows}
    assert [len(axes.patches) for axes in figure.axes] == [2, 6, 6]
    heights = [bar.get_height() for bar in figure.axes[1].patches]
    names = ("negative", "neutral", "positive")
    assert heights == pytest.approx(
        [values[f"silhouette_{name}", model] for model in spaces for name in names]
    )
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == list(spaces)
    assert all(axes.get_title() and axes.get_ylabel() for axes in figure.axes)
    without = [row for row in rows if "neutral" not in row["name"]]
    assert [len(a.patches) for a in quality_plots.space_quality(without, "").axes] == [2, 4, 2]


def test_inflation_shows_curves_test_figures_and_the_mix():
    curve = pd.DataFrame({"share": [0.0, 0.5, 1.0], "base": [0.7, 0.8, 1.0]})
    curve["final"] = curve["base"] - 0.01
    test = {"base": 0.66, "final": 0.68}
    (axes,) = quality_plots.inflation(curve, 0.62, test, "gold and pseudo-labels").axes
    assert plt.get_fignums() == []
    lines = {line.get_label(): line for line in axes.lines}
    for model in ("base", "final"):
        np.testing.assert_allclose(lines[model].get_ydata(), curve[model])
        np.testing.assert_allclose(lines[f"{model}, clean gold test"].get_ydata(), test[model])
    assert list(lines["training mix: 62%"].get_xdata()) == [0.62, 0.62]
    shown = [text.get_text() for text in axes.get_legend().get_texts()]
    assert sorted(shown) == sorted(lines)
    assert axes.get_title() and axes.get_xlabel() and axes.get_ylabel()
