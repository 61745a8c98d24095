from pathlib import Path

import numpy as np
import pandas as pd

from lib.data import figures, tables
from lib.runs import fingerprints
from lib.style import COLORS


def test_class_counts_are_stacked_in_the_fixed_colours():
    frame = pd.DataFrame({"source": ["a", "a", "b$"], "label": [0, 2, 2]})
    axes = figures.class_counts(frame).axes[0]
    widths = [[bar.get_width() for bar in bars] for bars in axes.containers]
    assert widths == [[1, 0], [0, 0], [1, 1]]
    colours = [bars[0].get_facecolor() for bars in axes.containers]
    assert len(set(colours)) == len(COLORS)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", r"b\$"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("texts", "source")


def test_thousands_of_sources_fit_on_one_figure(tmp_path):
    frame = pd.DataFrame({"source": [f"s{number}" for number in range(3000)], "label": 1})
    frame = pd.concat([frame, pd.DataFrame({"source": ["large"] * 9, "label": 0})])
    figure = figures.class_counts(frame)
    figure.savefig(tmp_path / "x.png", dpi=110)
    axes = figure.axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert len(names) == figures.MOST_SOURCES + 1 and {"large", "2961 more"} < set(names)
    assert sum(bar.get_width() for bars in axes.containers for bar in bars) == len(frame)


def test_lengths_have_one_line_for_each_table():
    lengths = pd.DataFrame({"table": ["gold", "corpus"] * 50, "characters": np.arange(100)})
    axes = figures.length_histogram(lengths).axes[0]
    assert {text.get_text() for text in axes.get_legend().get_texts()} == {"gold", "corpus"}
    assert axes.get_xscale() == "log" and "characters" in axes.get_xlabel()


def test_lengths_of_a_source_with_one_text(monkeypatch):
    """Of one number there is no standard deviation."""
    (cell,) = (c for c in fingerprints.code_cells("01_gold_data") if "text_lengths" in c)
    lengths = pd.DataFrame({"table": "gold", "source": list("aab"), "characters": [3, 4, 9]})
    monkeypatch.setattr(tables, "text_lengths", lambda *_: lengths)
    exec(cell, values := {"tables": tables, "gold": None, "folder": Path()})
    assert values["described"]["max"].tolist() == [4, 9]
