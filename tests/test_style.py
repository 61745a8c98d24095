"""One look: colours that mean one thing, labels that are no formulas, hovers that run nothing."""

import html

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from lib import LABELS, style


def test_a_colour_means_one_thing():
    """Nothing but a class has a class's colour, nothing but a model a model's."""
    classes, models = set(style.COLORS.values()), {style.BASE_COLOR, style.FINAL_COLOR}
    others = {style.MARK, style.LINE_COLOR, style.TRAIN_COLOR, style.VALIDATION_COLOR}
    assert len(classes | models) == 5
    assert not (classes | models) & (others | set(style.CLUSTER_COLORS))


def test_confusion_matrices_show_counts_and_row_shares():
    matrix = np.array([[8, 1, 1], [0, 5, 5], [0, 0, 0]])
    figure = style.confusion_matrices({"base": matrix, "final": matrix.T}, "gold test, 20 texts")
    cells = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert cells[0] == [str(n) for n in matrix.ravel()]
    assert cells[2] == ["0.80", "0.10", "0.10", "0.00", "0.50", "0.50", "0.00", "0.00", "0.00"]
    assert figure.axes[0].get_title() == "base: texts\ngold test, 20 texts"
    assert plt.get_fignums() == [], "a figure is left open"


def test_class_share_bars_keep_the_rows_and_dollars(tmp_path):
    name = r"$\price$ in $"  # as a formula it would stop the drawing
    shares = pd.DataFrame([[0.2, 0.3, 0.5], [0.6, 0.4, 0.0]], [name, "вторая"], list(LABELS))
    figure = style.class_share_bars(shares, "Доли")
    figure.savefig(tmp_path / "figure.png", dpi=30)
    second, first = (label.get_text() for label in figure.axes[0].get_yticklabels())
    assert first.replace("\\$", "$") == name and second == "вторая"
    widths = [[bar.get_width() for bar in bars] for bars in figure.axes[0].containers]
    np.testing.assert_allclose(widths, [[0.6, 0.2], [0.4, 0.3], [0.0, 0.5]])


@given(st.text(max_size=500))
def test_a_hover_is_the_beginning_of_its_text_and_no_markup(text):
    shown = style.hover_text(text)
    lines = shown.split("<br>")
    assert not any("<" in line or ">" in line for line in lines)
    plain = "".join(html.unescape(shown.replace("<br>", "")).split())
    whole = "".join(text.split())
    assert whole.startswith(plain.removesuffix("…")) and all(len(line) <= 600 for line in lines)


def test_a_table_of_texts_is_escaped_and_no_formula():
    frame = pd.DataFrame({"text": ["<script>1</script>", "за $5\nи $6"], "value": [0.123, 1.0]})
    page = style.text_table(frame).to_html()
    assert "<script" not in page and "&lt;script&gt;" in page and ">0.12</td>" in page
    assert "mathjax_ignore" in page and "pre-wrap" in page
