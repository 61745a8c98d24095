from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lib import LABELS
from lib.mistakes import MARK, likely_annotation_errors, most_confident, pairs, to_html

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
def frame():
    texts, labels, base, final = zip(*ROWS, strict=True)
    frame = pd.DataFrame({"text": texts, "label": labels, "source": "гости"})
    for name, values in (("base", base), ("final", final)):
        for i in range(3):
            frame[f"{name}_p{i}"] = np.array(values)[:, i].astype(np.float32)
    return frame


def test_mistakes_are_sorted_by_confidence(frame):
    table = most_confident(frame, "final", 0.9)
    assert table["text"].tolist() == [
        "оба, но base не уверен",
        HOSTILE,
        "уверены в разном",
        "оба уверены",
        "только final",
    ]
    row = table.loc[1]
    assert (row["true"], row["predicted"], row["base predicts"]) == (
        "positive",
        "negative",
        "negative",
    )
    assert row["confidence"] == row["p(negative)"] == np.float32(0.96)
    assert row["base confidence"] == np.float32(0.99)
    assert most_confident(frame, "base", 0.9)["text"].tolist()[0] == HOSTILE
    assert "только final" not in most_confident(frame, "base", 0.9)["text"].tolist()


def test_a_label_is_doubtful_if_both_models_are_sure_of_the_same_other_class(frame):
    marked = likely_annotation_errors(frame, 0.9)
    assert frame["text"][marked].tolist() == ["оба уверены", HOSTILE]
    marked = likely_annotation_errors(frame, 0.6)
    assert "оба, но base не уверен" in frame["text"][marked].tolist()
    assert likely_annotation_errors(frame, 0.95).sum() == 1
    for model in ("base", "final"):  # whoever is asked, the same texts are marked
        table = most_confident(frame, model, 0.9)
        assert set(table["text"][table[MARK]]) == {"оба уверены", HOSTILE}


def test_marks_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"label": rng.integers(0, 3, 400), "text": "т", "source": "с"})
    chances = {name: rng.dirichlet([0.2] * 3, 400) for name in ("base", "final")}
    for name, values in chances.items():
        frame[[f"{name}_p{i}" for i in range(3)]] = values
    expected = [
        b.argmax() == f.argmax() != label and b.max() >= 0.8 and f.max() >= 0.8
        for b, f, label in zip(chances["base"], chances["final"], frame["label"], strict=True)
    ]
    assert 10 < sum(expected) < 200
    assert likely_annotation_errors(frame, 0.8).tolist() == expected
    table = most_confident(frame, "final", 0.8)
    assert len(table) == (chances["final"].argmax(1) != frame["label"]).sum()
    counted = pairs(table)
    assert counted["mistakes"].sum() == len(table) and counted["marked"].sum() == sum(expected)
    assert len(counted) == 6 and counted["mistakes"].is_monotonic_decreasing


def test_each_pair_of_classes_is_a_part_of_its_own(frame):
    page = to_html(most_confident(frame, "final", 0.9), count=2)
    assert page.count("<details") == page.count("</details>") == 3
    assert page.count("<details open>") == 1
    assert "neutral, predicted positive: 3 mistakes, 1 of them likely annotation errors" in page
    assert "the 2 most confident" in page and "positive, predicted negative: 1 mistakes" in page
    assert "оба уверены" not in page  # the third of its pair
    for name in LABELS:
        assert f"<th>p({name})</th>" in page
    assert "0.960" in page


def test_hostile_texts_are_escaped_and_long_ones_whole(frame):
    frame.loc[4, "text"] = "длинный " * 100
    page = to_html(most_confident(frame, "final", 0.9), count=10)
    assert "&lt;script&gt;window.hacked=1" in page
    assert "<script" not in page and "<img" not in page
    assert "длинный " * 99 in page


def test_without_mistakes_it_says_so(frame):
    assert to_html(most_confident(frame[:1], "final", 0.9), 5) == "<p>No mistakes.</p>"
