"""How far labels agree where gold has a text twice: what labelling the same texts again would give.

Short posts come up again in a data set, other in case, punctuation or emoji, and are labelled anew.
One label against the other, scored like a model's prediction, is what one more annotation would
reach on the first. It is no strict limit: a model that has learnt what most annotators say can be
better than one more of them. But a test figure far above it is hardly won on clean texts.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd

from lib import LABELS
from lib.evaluation import evaluate
from lib.tables import TWICE_COLUMNS

_NO_MARK = re.compile(r"[\w\s.,;:\-–—\"«»…'#/%©]")


def labelled_twice(gold: pd.DataFrame) -> pd.DataFrame:
    """Pairs of labels of one text: the first two of each text that a source has in two forms.

    Texts that are equal to the letter are no pair: they may be one row, copied with its label.

    Args:
        gold: cleaned gold rows before any of them is dropped: text_id (equal up to case,
            punctuation and emoji), text, label (class name), source, group (registry entry).
    Returns:
        TWICE_COLUMNS: text_id, source, text, label and other_text, other_label (labels int64, index
        in LABELS), and same_marks, bool: both have the same emoji, brackets, ! and ?.
    """
    gold = gold.drop_duplicates(["group", "text"])
    place = gold.groupby(["group", "text_id"]).cumcount()
    other = gold[place == 1].rename(columns={"text": "other_text", "label": "other_label"})
    other = other[["group", "text_id", "other_text", "other_label"]]
    pairs = gold[place == 0].merge(other, on=["group", "text_id"])
    for column in ("label", "other_label"):
        pairs[column] = pairs[column].map(LABELS.index).astype("int64")
    both = zip(pairs["text"], pairs["other_text"], strict=True)
    same = np.array([marks(one) == marks(two) for one, two in both], dtype=bool)
    return pairs.assign(same_marks=same)[TWICE_COLUMNS]


def marks(text: str) -> frozenset[str]:
    """The set of characters that may carry a mood without words: emoji, brackets, ! and ?."""
    return frozenset(_NO_MARK.sub("", text))


def score(pairs: pd.DataFrame, *, samples: int, seed: int) -> list[dict[str, Any]]:
    """Rows of metrics.json: the other label scored against the first, with 95% intervals.

    Args:
        pairs: as `labelled_twice` gives them; samples, seed: of the bootstrap over texts.
    Returns:
        all metrics of `lib.evaluation` for all pairs, and for those with the same marks; none for
        no pairs.
    """
    same = pairs[pairs["same_marks"]]
    return [
        row
        for split, part in (("labelled twice", pairs), ("twice, same marks", same))
        if len(part)
        for row in evaluate(
            part["label"].to_numpy(),
            part["other_label"].to_numpy(),
            dataset="gold",
            split=split,
            model="another label",
            samples=samples,
            seed=seed,
        )
    ]
