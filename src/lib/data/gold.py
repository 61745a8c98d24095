"""The gold table: one row per labelled text, splits without leaks, near-duplicates removed."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd

from lib import LABELS
from lib.data import duplicates
from lib.data.cleaning import normalise
from lib.data.counts import NEAR
from lib.errors import UserError
from lib.parameters import GoldDataParams

SPLITS = ("train", "validation", "test")
RANKS = {"test": 0, "validation": 1, "train": 2}
"""Which of two similar texts stays: the one with the lower rank. Corpus texts come last."""


def build_gold(
    rows: pd.DataFrame, signatures: np.ndarray, params: GoldDataParams
) -> tuple[pd.DataFrame, pd.Series]:
    """Cleaned gold rows in, the gold table out.

    Args:
        rows: columns text_id, text, label (class name), source, group, split (`test` or None);
            numbered from 0.
        signatures: of the texts, uint16 [n, VALUES].
    Returns:
        The rows kept with their numbers as index, ordered by RANKS, label as int64 (index in
        LABELS), split one of SPLITS; and of every given row the fate (`lib.data.counts.FATES`).
    Raises:
        UserError: a class without texts in a split.
    """
    fates = pd.Series(duplicate_fates(rows), rows.index)
    gold = split_gold(rows[fates == ""], params.validation_share, params.test_share, params.seed)
    gold = gold.loc[gold["split"].map(RANKS).sort_values(kind="stable").index]
    gold["label"] = gold["label"].map(LABELS.index).astype("int64")
    similarity = params.near_duplicate_similarity
    fates[gold.index] = near_duplicate_fates(gold, signatures[gold.index], similarity)
    if params.max_gold_train:
        # within each label the last by a seeded hash
        train = gold[(fates[gold.index] == "") & (gold["split"] == "train")]
        keys = pd.Series(_keys(train, params.seed), train.index)
        rank = keys.groupby(train["label"]).rank("first", pct=True)
        over = rank > params.max_gold_train / max(len(train), 1)
        fates[over.index[over]] = "over max_gold_train"
    gold = gold[fates[gold.index] == ""]
    check_classes(gold)
    return gold, fates.replace("", "kept as gold")


def duplicate_fates(gold: pd.DataFrame) -> np.ndarray:
    """Which rows go so that each gold text is there once, and none with contradicting labels.

    Rows of an official test split all stay, so that figures remain comparable with published
    ones; every other row with the text of one of them goes.

    Returns:
        The fate of each row, text [n]; empty: it stays.
    """
    test = gold["split"] == "test"
    labels_per_text = gold.groupby("text_id")["label"].transform("nunique")
    fates = {
        "": test,
        "twin of a test text": gold["text_id"].isin(gold.loc[test, "text_id"]),
        "contradicting labels": labels_per_text > 1,
        "duplicate in gold": gold["text_id"].duplicated(),
    }
    return np.select([*fates.values()], [*fates], "").astype(object)


def split_gold(
    gold: pd.DataFrame, validation_share: float, test_share: float, seed: int
) -> pd.DataFrame:
    """Give every gold text its split; rows that have one keep it.

    Within each source and label, texts are ordered by a seeded hash of their id, and the first
    shares become test (only in sources without an official test split) and validation: the split
    of a text does not depend on the order of the files. Sources with too few texts of a label to
    give one to each split count as one source.
    """
    free = gold[gold["split"].isna()].assign(key=lambda rows: _keys(rows, seed)).sort_values("key")
    size = free.groupby(["source", "group", "label"])["key"].transform("size")
    sources = free["source"].mask(size * min(validation_share, test_share) < 0.5, "")
    strata = free.groupby([sources, "group", "label"])["key"]
    place, size = strata.cumcount(), strata.transform("size")
    has_official = free["group"].isin(gold.loc[gold["split"] == "test", "group"])
    tests = (size * test_share).round().mask(has_official, 0)
    heldout = tests + (size * validation_share).round()
    split = np.select([place < tests, place < heldout], ["test", "validation"], "train")
    return gold.assign(split=gold["split"].fillna(pd.Series(split, free.index)))


def near_duplicate_fates(
    gold: pd.DataFrame, signatures: np.ndarray, similarity: float
) -> np.ndarray:
    """Which gold texts go because they are near-duplicates of a kept, higher-ranked one.

    Test texts are all kept; validation texts go only for a twin in test.

    Args:
        gold: ordered by RANKS; signatures: of its texts.
    Returns:
        The fate of each text, text [n]; empty: it stays.
    """
    rank = gold["split"].map(RANKS).to_numpy(dtype=int)
    twins = duplicates.earlier_twins(
        signatures,
        np.where(rank == RANKS["train"], np.arange(len(gold)), np.searchsorted(rank, rank)),
        bands=duplicates.SENSITIVE,
        similarity=similarity,
        normalised=[normalise(text) for text in gold["text"]],
    )
    return np.where(twins >= 0, np.array(NEAR, dtype=object)[rank[twins]], "")


def check_classes(gold: pd.DataFrame) -> None:
    """Raises UserError if a class has no texts in a split."""
    if absent := [name for i, name in enumerate(LABELS) if i not in set(gold["label"])]:
        raise no_class(absent)
    for split in SPLITS:
        labels = gold.loc[gold["split"] == split, "label"]
        absent = [name for i, name in enumerate(LABELS) if i not in set(labels)]
        if absent:
            raise UserError(
                f"gold has no {split} text of class {', '.join(absent)} ({len(labels)} {split} "
                "texts in all); every class needs texts in train, validation and test: add "
                "labelled texts"
            )


def no_class(absent: list[str]) -> UserError:
    """The error of gold texts without some class, and how to go on with two classes."""
    return UserError(
        f"no gold text is {' or '.join(absent)}; models, purity and figures are made for three "
        "classes. To go on with two, let another source give the third, such as the texts of this "
        "package (-p 'sources=[local, sample]') or ru_reviews, and of the predictions use only the "
        "probabilities of your two"
    )


def _keys(gold: pd.DataFrame, seed: int) -> list[str]:
    """A seeded hash of each text: an order that does not depend on files."""
    return [
        hashlib.blake2b(f"{seed}:{i}".encode(), digest_size=8).hexdigest() for i in gold["text_id"]
    ]
