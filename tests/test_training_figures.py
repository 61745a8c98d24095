"""Figures of training and of the embeddings: what they show is what they are given."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from lib.embeddings.figures import confidence_histogram, explained_variance
from lib.training.figures import lambda_curves, training_curves


def history(**columns) -> pd.DataFrame:
    values = {
        "step": [10, 20, 30],
        "train_class_loss": [1.0, 0.6, 0.3],
        "train_metric_loss": [2.0, 1.9, 1.8],
        "validation_loss": [0.9, 0.7, 0.8],
        "validation_macro_f1": [0.4, 0.72, 0.7],
        "best": [False, True, False],
    }
    return pd.DataFrame(values | columns)


def test_training_curves_mark_the_kept_checkpoint_and_overfitting():
    left, right = training_curves(history(), 20, "02").axes
    curve, star, line = left.lines
    assert list(curve.get_ydata()) == [0.4, 0.72, 0.7]
    assert (list(star.get_xdata()), list(star.get_ydata())) == ([20], [0.72])
    assert star.get_label() == "kept: step 20, 0.720" and list(line.get_xdata()) == [20, 20]
    assert [list(line.get_ydata()) for line in right.lines[:2]] == [
        [1.0, 0.6, 0.3],
        [0.9, 0.7, 0.8],
    ]
    assert [len(axes.lines) for axes in training_curves(history(), None, "02").axes] == [2, 2]
    assert plt.get_fignums() == []


def test_lambda_curves_have_one_line_per_value():
    figure = lambda_curves({0.0: history(), 0.25: history(validation_macro_f1=[0.5, 0.6, 0.8])})
    assert [len(axes.lines) for axes in figure.axes] == [2, 2, 2]
    labels = [label.get_text() for label in figure.axes[0].get_legend().get_texts()]
    assert labels == ["λ_metric = 0", "λ_metric = 0.25"]
    assert list(figure.axes[2].lines[1].get_ydata()) == [0.5, 0.6, 0.8]
    assert list(figure.axes[1].lines[0].get_ydata()) == [2.0, 1.9, 1.8]


def test_confidence_histogram_counts_every_text():
    predicted = np.array([0, 0, 1, 2, 2, 2])
    confidence = np.array([1 / 3, 0.5, 0.7, 0.9, 1.0, 1.0])
    axes = confidence_histogram(predicted, confidence).axes[0]
    assert [sum(patch.get_height() for patch in bars) for bars in axes.containers] == [2, 1, 3]


def test_explained_variance_is_cumulative():
    axes = explained_variance(np.array([0.5, 0.3, 0.1])).axes[0]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [0.5, 0.8, 0.9])
    assert "3 components explain 90.0%" in axes.get_title()
