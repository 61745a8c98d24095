"""The gold table: one row per labelled text, splits without leaks, near-duplicates removed."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd

from lib import LABELS
from lib.cleaning import normalise
from lib.counts import Counts
from lib.duplicates import near_duplicate_pairs
from lib.errors import UserError

SPLITS = ("train", "validation", "test")
RANKS = {"test": 0, "validation": 1, "train": 2}
"""Which of two similar texts stays: the one with the lower rank. Corpus texts come last."""
NEAR_REASONS = {
    0: "near-duplicate of a test text",
    1: "near-duplicate of a validation text",
    2: "near-duplicate of a train text",
}


def build_gold(
    gold: pd.DataFrame,
    counts: Counts,
    *,
    seed: int,
    validation_share: float,
    test_share: float,
    near_duplicate_similarity: float,
    max_gold_train: int | None,
    surplus_gold: str,
) -> pd.DataFrame:
    """Cleaned gold rows in, the gold table out.

    Args:
        gold: columns text_id, text, label (class name), source, group, split (`test` or None).
        counts: every dropped row is counted here.
        others: see `lib.schema.GoldDataParams`.
    Returns:
        the rows kept, label as int64 (index in LABELS), split one of SPLITS, ordered by RANKS;
        with surplus_gold "corpus" also what is over max_gold_train, with split "corpus".
    Raises:
        UserError: no gold text, or a class without texts in a split.
    """
    gold = drop_gold_duplicates(gold, counts)
    gold = gold.assign(label=gold["label"].map(LABELS.index))
    gold = split_gold(gold, validation_share, test_share, seed)
    gold = drop_near_duplicates(gold, near_duplicate_similarity, seed, counts)
    if max_gold_train:
        over = over_limit(gold, max_gold_train, seed)
        if surplus_gold == "corpus":
            gold.loc[over, "split"] = "corpus"
        else:
            gold = counts.drop(gold, over, "over max_gold_train")
    gold["label"] = gold["label"].astype("int64")
    check_classes(gold)
    return gold


def drop_gold_duplicates(gold: pd.DataFrame, counts: Counts) -> pd.DataFrame:
    """One row per gold text; texts with contradicting labels go.

    Rows of an official test split all stay, so that figures remain comparable with published
    ones; every other row with the text of one of them goes.
    """
    is_test = (gold["split"] == "test").to_numpy()
    twin_of_test = ~is_test & gold["text_id"].isin(gold.loc[is_test, "text_id"])
    gold = counts.drop(gold, twin_of_test, "twin of a test text")
    is_test = (gold["split"] == "test").to_numpy()
    labels_per_text = gold.groupby("text_id")["label"].transform("nunique")
    gold = counts.drop(gold, (labels_per_text > 1) & ~is_test, "contradicting labels")
    is_test = (gold["split"] == "test").to_numpy()
    return counts.drop(gold, gold["text_id"].duplicated() & ~is_test, "duplicate in gold")


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
    gold["_key"] = _keys(gold, seed)
    free = gold[gold["split"].isna()].sort_values("_key")
    for (_, group, _), rows in free.groupby(["source", "group", "label"], sort=True):
        count = len(rows)
        tests = 0 if group in has_official else round(count * test_share)
        validations = round(count * validation_share)
        gold.loc[rows.index, "split"] = (
            ["test"] * tests
            + ["validation"] * validations
            + ["train"] * (count - tests - validations)
        )
    return gold.drop(columns="_key")


def drop_near_duplicates(
    gold: pd.DataFrame, similarity: float, seed: int, counts: Counts
) -> pd.DataFrame:
    """Remove every gold text that is a near-duplicate of a kept, higher-ranked one.

    Test texts are all kept; validation texts go only for a twin in test.
    """
    rank = gold["split"].map(RANKS)
    gold = gold.loc[rank.sort_values(kind="stable").index].reset_index(drop=True)
    rank = gold["split"].map(RANKS).to_numpy()
    twin_rank = np.full(len(gold), -1)
    normalised = [normalise(text) for text in gold["text"]]
    for low, high in near_duplicate_pairs(normalised, similarity, seed):
        # pairs come ordered by their second text, so `low` is already decided
        same_heldout = rank[low] == rank[high] and rank[high] < 2
        if twin_rank[low] < 0 and twin_rank[high] < 0 and not same_heldout:
            twin_rank[high] = rank[low]
    for value, reason in NEAR_REASONS.items():
        counts.add(reason, gold.loc[twin_rank == value, "source"])
    return gold[twin_rank < 0].reset_index(drop=True)


def over_limit(gold: pd.DataFrame, limit: int, seed: int) -> np.ndarray:
    """Which train texts are too many: within each label the last by a seeded hash, bool [n]."""
    train = gold[gold["split"] == "train"]
    rank = train.assign(key=_keys(train, seed)).groupby("label")["key"].rank("first", pct=True)
    over = pd.Series(False, index=gold.index)
    over[rank.index] = rank > limit / max(len(train), 1)
    return over.to_numpy()


def _keys(gold: pd.DataFrame, seed: int) -> list[str]:
    """A seeded hash of each text: an order that does not depend on files."""
    return [
        hashlib.blake2b(f"{seed}:{i}".encode(), digest_size=8).hexdigest() for i in gold["text_id"]
    ]


def check_classes(gold: pd.DataFrame) -> None:
    """Raises UserError if there is no gold text, or a class without texts in a split."""
    if gold.empty:
        raise UserError("the sources give no gold text (a text with a label); add a gold source")
    for split in SPLITS:
        present = set(gold.loc[gold["split"] == split, "label"])
        absent = [name for i, name in enumerate(LABELS) if i not in present]
        if absent:
            raise UserError(
                f"gold has no {split} text of class {', '.join(absent)} "
                f"({(gold['split'] == split).sum()} {split} texts in all); "
                "every class needs texts in train, validation and test: add labelled texts"
            )
