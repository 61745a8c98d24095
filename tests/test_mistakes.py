from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lib.evaluation.mistakes import MARK, SHOWN, SURE, most_confident, show

HOSTILE = "<script>window.hacked=1</script><img src=x onerror=window.hacked=1>"
# label, base's probabilities, final's probabilities
ROWS = [
    ("верно", 1, (0.1, 0.8, 0.1), (0.1, 0.8, 0.1)),
    ("оба уверены", 1, (0.0, 0.05, 0.95), (0.02, 0.06, 0.92)),
    ("оба, но base не уверен", 1, (0.1, 0.25, 0.65), (0.0, 0.0, 1.0)),
    ("уверены в разном", 1, (0.95, 0.05, 0.0), (0.0, 0.05, 0.95)),
    ("только final", 0, (0.9, 0.1, 0.0), (0.0, 0.1, 0.9)),
    (HOSTILE, 2, (0.99, 0.01, 0.0), (0.96, 0.04, 0.0)),
]


@pytest.fixture
def frame() -> pd.DataFrame:
    texts, labels, base, final = zip(*ROWS, strict=True)
    frame = pd.DataFrame({"text": texts, "label": labels, "source": "гости"})
    for name, values in (("base", base), ("final", final)):
        frame[[f"{name}_p{i}" for i in range(3)]] = np.array(values, dtype=np.float32)
    return frame


def test_mistakes_are_sorted_by_confidence(frame):
    table = most_confident(frame)
    assert table["confidence"].tolist() == pytest.approx([1, 0.96, 0.95, 0.92, 0.9])
    row = table.loc[1]
    assert row[["true", "predicted", "base predicts"]].tolist() == [
        "positive",
        "negative",
        "negative",
    ]
    assert row["text"] == HOSTILE and row["base confidence"] == np.float32(0.99)
    assert set(table["text"][table[MARK]]) == {"оба уверены", HOSTILE}


def test_marks_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"label": rng.integers(0, 3, 400), "text": "т", "source": "с"})
    chances = {name: rng.dirichlet([0.1] * 3, 400) for name in ("base", "final")}
    for name, values in chances.items():
        frame[[f"{name}_p{i}" for i in range(3)]] = values
    expected = [
        b.argmax() == f.argmax() != label and b.max() >= SURE and f.max() >= SURE
        for b, f, label in zip(chances["base"], chances["final"], frame["label"], strict=True)
    ]
    table = most_confident(frame)
    assert 10 < table[MARK].sum() == sum(expected) < len(table)
    assert len(table) == (chances["final"].argmax(1) != frame["label"]).sum()


def test_the_most_confident_of_each_pair_of_classes_are_shown(frame):
    page = show(most_confident(pd.concat([frame] * 10, ignore_index=True))).to_html()
    assert page.count("<tr>") == 1 + 3 * SHOWN
    assert page.count(">оба, но base не уверен</td>") == SHOWN
    assert "уверены в разном" not in page and "p(neutral)" in page and ">0.96</td>" in page


def test_hostile_texts_are_escaped_and_no_formula(frame):
    frame.loc[4, "text"] = "длинный $x$ " * 100
    page = show(most_confident(frame)).to_html()
    assert "&lt;script&gt;window.hacked=1" in page
    assert "<script" not in page and "<img" not in page
    assert "длинный $x$ " * 99 in page and "mathjax_ignore" in page
    assert show(most_confident(frame[:1])).to_html().count("<tr>") == 1
