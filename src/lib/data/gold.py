"""The gold table: one row per labelled text, splits without leaks, near-duplicates removed."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd

from lib import LABELS
from lib.data import duplicates
from lib.data.cleaning import normalise
from lib.data.counts import Counts
from lib.errors import UserError
from lib.parameters import GoldDataParams

SPLITS = ("train", "validation", "test")
RANKS = {"test": 0, "validation": 1, "train": 2}
"""Which of two similar texts stays: the one with the lower rank. Corpus texts come last."""
NEAR_REASONS = [f"near-duplicate of a {split} text" for split in RANKS]


def build_gold(
    gold: pd.DataFrame, signatures: np.ndarray, counts: Counts, params: GoldDataParams
) -> pd.DataFrame:
    """Cleaned gold rows in, the gold table out.

    Args:
        gold: columns text_id, text, label (class name), source, group, split (`test` or None).
        signatures: of its texts, uint16 [n, VALUES].
        counts: every dropped row is counted here.
    Returns:
        the rows kept, label as int64 (index in LABELS), split one of SPLITS, ordered by RANKS;
        column `row`: the row's number in the given ones.
    Raises:
        UserError: a class without texts in a split.
    """
    gold = drop_gold_duplicates(gold.assign(row=np.arange(len(gold))), counts)
    gold["label"] = gold["label"].map(LABELS.index).astype("int64")
    gold = split_gold(gold, params.validation_share, params.test_share, params.seed)
    gold = drop_near_duplicates(gold, signatures, params.near_duplicate_similarity, counts)
    if params.max_gold_train:
        # within each label the last by a seeded hash
        train = gold[gold["split"] == "train"].assign(key=lambda rows: _keys(rows, params.seed))
        rank = train.groupby("label")["key"].rank("first", pct=True)
        over = gold.index.isin(rank.index[rank > params.max_gold_train / max(len(train), 1)])
        gold = counts.drop(gold, over, "over max_gold_train")
    check_classes(gold)
    return gold


def drop_gold_duplicates(gold: pd.DataFrame, counts: Counts) -> pd.DataFrame:
    """One row per gold text; texts with contradicting labels go.

    Rows of an official test split all stay, so that figures remain comparable with published
    ones; every other row with the text of one of them goes.
    """

    def drop(bad: pd.Series, reason: str) -> pd.DataFrame:
        return counts.drop(gold, bad & (gold["split"] != "test"), reason)

    tests = gold.loc[gold["split"] == "test", "text_id"]
    gold = drop(gold["text_id"].isin(tests), "twin of a test text")
    labels_per_text = gold.groupby("text_id")["label"].transform("nunique")
    gold = drop(labels_per_text > 1, "contradicting labels")
    return drop(gold["text_id"].duplicated(), "duplicate in gold")


def split_gold(
    gold: pd.DataFrame, validation_share: float, test_share: float, seed: int
) -> pd.DataFrame:
    """Give every gold text its split; rows that have one keep it.

    Within each source and label, texts are ordered by a seeded hash of their id, and the first
    shares become test (only in sources without an official test split) and validation: the split
    of a text does not depend on the order of the files.
    """
    gold = gold.copy()
    has_official = set(gold.loc[gold["split"] == "test", "group"])
    free = gold[gold["split"].isna()].assign(key=lambda rows: _keys(rows, seed)).sort_values("key")
    for (_, group, _), rows in free.groupby(["source", "group", "label"]):
        tests = 0 if group in has_official else round(len(rows) * test_share)
        heldout = tests + round(len(rows) * validation_share)
        gold.loc[rows.index, "split"] = "train"
        gold.loc[rows.index[:heldout], "split"] = "validation"
        gold.loc[rows.index[:tests], "split"] = "test"
    return gold


def drop_near_duplicates(
    gold: pd.DataFrame, signatures: np.ndarray, similarity: float, counts: Counts
) -> pd.DataFrame:
    """Remove every gold text that is a near-duplicate of a kept, higher-ranked one.

    Test texts are all kept; validation texts go only for a twin in test.
    """
    gold = gold.loc[gold["split"].map(RANKS).sort_values(kind="stable").index]
    gold = gold.reset_index(drop=True)
    rank = gold["split"].map(RANKS).to_numpy()
    twins = duplicates.earlier_twins(
        signatures[gold["row"]],
        np.where(rank == RANKS["train"], np.arange(len(gold)), np.searchsorted(rank, rank)),
        bands=duplicates.SENSITIVE,
        similarity=similarity,
        normalised=[normalise(text) for text in gold["text"]],
        title="near-duplicates in gold",
    )
    for value, reason in enumerate(NEAR_REASONS):
        counts.add(reason, gold.loc[(twins >= 0) & (rank[twins] == value), "source"])
    return gold[twins < 0].reset_index(drop=True)


def _keys(gold: pd.DataFrame, seed: int) -> list[str]:
    """A seeded hash of each text: an order that does not depend on files."""
    return [
        hashlib.blake2b(f"{seed}:{i}".encode(), digest_size=8).hexdigest() for i in gold["text_id"]
    ]


def check_classes(gold: pd.DataFrame) -> None:
    """Raises UserError if a class has no texts in a split."""
    for split in SPLITS:
        labels = gold.loc[gold["split"] == split, "label"]
        absent = [name for i, name in enumerate(LABELS) if i not in set(labels)]
        if absent:
            raise UserError(
                f"gold has no {split} text of class {', '.join(absent)} ({len(labels)} {split} "
                "texts in all); every class needs texts in train, validation and test: add "
                "labelled texts"
            )
