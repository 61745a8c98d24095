"""Clean texts, stable ids, no duplicates, no leaks: from source rows to gold and corpus tables.

The leak-free protocol:

1. An official test split stays test, whole. Other gold texts are split by a hash of their text,
   stratified by source and label.
2. Texts are ranked test > validation > gold train > corpus. A text that equals a higher-ranked
   one up to case, punctuation and emoji, or is a near-duplicate of it, is dropped, so no test or
   validation text has a twin in gold train or in the corpus.
3. Every drop is counted, by source and reason.
"""

from __future__ import annotations

import hashlib
import html
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from rensa import RMinHash, RMinHashLSH
from tqdm import tqdm

from lib import LABELS
from lib.artifacts import atomic
from lib.errors import UserError

SPLITS = ("train", "validation", "test")
GOLD_COLUMNS = ["text_id", "text", "label", "source", "original_label", "split"]
CORPUS_COLUMNS = ["text_id", "text", "source", "audit_label"]
PERMUTATIONS = 128
BANDS = 32  # 32 bands of 4 rows find 98.8% of the pairs at Jaccard 0.6, 99.98% at 0.7
CHUNK = 20_000  # texts per MinHash batch; bounds memory

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\ufeff\ufffe]")
_SPACE = re.compile(r"\s+")
_STRESS = re.compile(r"[\u0300-\u036f]")  # combining marks: за́мок is замок
_NOT_WORD = re.compile(r"[\W_]+")


PREPARE_OPTIONS = (
    "seed",
    "validation_share",
    "test_share",
    "min_characters",
    "max_characters",
    "near_duplicate_similarity",
    "max_gold_train",
    "max_corpus",
)
"""Parameters of step 01 that `prepare` takes."""


def clean(text: str) -> str:
    """The text as the model sees it: NFC, HTML entities decoded, no control characters, white
    space folded. Case, emoji, punctuation and typos stay: they carry sentiment."""
    while (decoded := html.unescape(text)) != text:  # some sources escape twice
        text = decoded
    text = unicodedata.normalize("NFC", text)
    text = _CONTROL.sub(" ", text)
    return _SPACE.sub(" ", text).strip()


def normalise(text: str) -> str:
    """The text as duplicates are compared: letters and digits only, lower case, ё as е.

    A text without any letter or digit (emoji, brackets) stays as it is.
    """
    folded = unicodedata.normalize("NFKC", text).lower().replace("ё", "е")
    words = _NOT_WORD.sub(" ", _STRESS.sub("", folded)).strip()
    return words or _SPACE.sub("", text)


def text_id(text: str) -> str:
    """Stable id of a text: 64-bit BLAKE2 of its normalised form, 16 hex digits."""
    return hashlib.blake2b(normalise(text).encode("utf-8"), digest_size=8).hexdigest()


class DropCounts:
    """Counts texts per source, from reading to keeping.

    `table` has one row per source and one column per reason.
    """

    def __init__(self) -> None:
        self._counts: dict[str, dict[str, int]] = {}

    def add(self, reason: str, sources: pd.Series) -> None:
        """Count one text for each entry of `sources`."""
        for source, count in sources.value_counts().items():
            row = self._counts.setdefault(str(source), {})
            row[reason] = row.get(reason, 0) + int(count)

    def drop(self, frame: pd.DataFrame, bad: pd.Series | np.ndarray, reason: str) -> pd.DataFrame:
        """`frame` without the rows marked in `bad`, which are counted under `reason`."""
        bad = np.asarray(bad, dtype=bool)
        self.add(reason, frame.loc[bad, "source"])
        return frame.loc[~bad].reset_index(drop=True)

    def table(self) -> pd.DataFrame:
        """Counts as a table, sources as rows, reasons as columns in the order they came up."""
        reasons = list(dict.fromkeys(r for row in self._counts.values() for r in row))
        frame = pd.DataFrame.from_dict(self._counts, orient="index", columns=reasons)
        return frame.fillna(0).astype(int).rename_axis("source")


def prepare(
    rows: Iterable[pd.DataFrame],
    *,
    seed: int,
    validation_share: float,
    test_share: float,
    min_characters: int,
    max_characters: int,
    near_duplicate_similarity: float,
    max_gold_train: int | None = None,
    max_corpus: int | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Source rows in, leak-free gold and corpus out.

    Args:
        rows: frames as `lib.sources.read` gives them.
        others: see `lib.params.GoldDataParams`.
    Returns:
        gold [GOLD_COLUMNS], corpus [CORPUS_COLUMNS], and the counts per source: read, dropped by
        reason, kept.
    Raises:
        UserError: no gold text, a class without texts in a split, or no corpus text.
    """
    counts = DropCounts()
    frame = pd.concat(list(rows), ignore_index=True)
    counts.add("read", frame["source"])
    frame["text"] = [clean(text) for text in frame["text"]]
    length = frame["text"].str.len()
    # a text of an official test split is never dropped for its length
    official = (frame["split"] == "test").to_numpy()
    frame = counts.drop(frame, (length < min_characters) & ~official, "too short")
    length, official = frame["text"].str.len(), (frame["split"] == "test").to_numpy()
    frame = counts.drop(frame, (length > max_characters) & ~official, "too long")
    frame["text_id"] = [text_id(text) for text in frame["text"]]

    is_gold = (frame["role"] == "gold").to_numpy()
    gold, corpus = frame[is_gold].reset_index(drop=True), frame[~is_gold].reset_index(drop=True)
    gold = drop_gold_duplicates(gold, counts)
    gold["label"] = gold["label"].map(LABELS.index)
    gold = split_gold(gold, validation_share, test_share, seed)

    corpus = counts.drop(corpus, corpus["text_id"].duplicated(), "duplicate in corpus")
    corpus = counts.drop(corpus, corpus["text_id"].isin(gold["text_id"]), "twin of a gold text")
    gold, corpus = drop_near_duplicates(gold, corpus, near_duplicate_similarity, seed, counts)
    if max_gold_train:
        gold = _limit_train(gold, max_gold_train, counts)
    if max_corpus:
        rank = corpus.groupby("source")["text_id"].rank(method="first")
        corpus = counts.drop(corpus, rank > max_corpus, "over max_corpus")
    gold["label"] = gold["label"].astype("int64")
    _check_classes(gold)
    if corpus.empty:
        raise UserError("the sources give no corpus text (a text without a gold label); add one")
    counts.add("kept as gold", gold["source"])
    counts.add("kept in corpus", corpus["source"])
    corpus["audit_label"] = (
        corpus["label"]
        .map(lambda name: LABELS.index(name) if name in LABELS else pd.NA)
        .astype("Int8")
    )
    return gold[GOLD_COLUMNS], corpus[CORPUS_COLUMNS], counts.table()


def drop_gold_duplicates(gold: pd.DataFrame, counts: DropCounts) -> pd.DataFrame:
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
    key = [
        hashlib.blake2b(f"{seed}:{i}".encode(), digest_size=8).hexdigest() for i in gold["text_id"]
    ]
    gold["_key"] = key
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
    gold: pd.DataFrame, corpus: pd.DataFrame, similarity: float, seed: int, counts: DropCounts
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Remove every text that is a near-duplicate of a kept, higher-ranked one.

    Test texts are all kept; validation texts go only for a twin in test.
    """
    ranked = gold.assign(_rank=gold["split"].map({"test": 0, "validation": 1, "train": 2}))
    ranked = ranked.sort_values("_rank", kind="stable")
    frame = pd.concat([ranked, corpus.assign(_rank=3)], ignore_index=True)
    rank = frame["_rank"].to_numpy()
    kept = np.ones(len(frame), dtype=bool)
    twin_rank = np.full(len(frame), -1)
    for low, high in near_duplicate_pairs(frame["text"].tolist(), similarity, seed):
        # pairs come ordered by their second text, so `low` is already decided
        same_heldout = rank[low] == rank[high] and rank[high] < 2
        if kept[low] and kept[high] and not same_heldout:
            kept[high], twin_rank[high] = False, rank[low]
    reasons = {
        0: "near-duplicate of a test text",
        1: "near-duplicate of a validation text",
        2: "near-duplicate of a train text",
        3: "near-duplicate in corpus",
    }
    for value, reason in reasons.items():
        counts.add(reason, frame.loc[twin_rank == value, "source"])
    frame = frame[kept].drop(columns="_rank")
    is_gold = (frame["role"] == "gold").to_numpy()
    return frame[is_gold].reset_index(drop=True), frame[~is_gold].reset_index(drop=True)


def near_duplicate_pairs(
    texts: list[str], similarity: float, seed: int
) -> Iterable[tuple[int, int]]:
    """Pairs of texts whose character 3-grams have a Jaccard similarity of at least `similarity`.

    Candidates come from MinHash LSH; each is checked exactly, so no pair is wrong, and few are
    missed (see BANDS).

    Yields:
        (low, high), low < high, ordered by high.
    Reference: Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", chapter 3.
    """
    index = RMinHashLSH(threshold=similarity, num_perm=PERMUTATIONS, num_bands=BANDS)
    grams: list[frozenset[str]] = []
    progress = tqdm(total=len(texts), desc="near-duplicates", unit="text")
    for start in range(0, len(texts), CHUNK):
        chunk = [shingles(text) for text in texts[start : start + CHUNK]]
        grams += chunk
        hashes = RMinHash.from_token_sets(
            [sorted(s) for s in chunk], num_perm=PERMUTATIONS, seed=seed
        )
        index.insert_many(hashes, start_key=start)
        for offset, candidates in enumerate(index.query_all(hashes)):
            high = start + offset
            for low in sorted(candidates):
                if low < high and jaccard(grams[low], grams[high]) >= similarity:
                    yield low, high
        progress.update(len(chunk))
    progress.close()


def shingles(text: str) -> frozenset[str]:
    """Character 3-grams of the normalised text, with a space at both ends."""
    padded = f" {normalise(text)} "
    return frozenset(padded[i : i + 3] for i in range(max(1, len(padded) - 2)))


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """Size of the intersection over size of the union, in [0, 1]; two empty sets are equal."""
    common = len(one & other)
    union = len(one) + len(other) - common
    return common / union if union else 1.0


def write_gold(gold: pd.DataFrame, path: Path) -> None:
    """Write gold.parquet (GOLD_COLUMNS), atomically."""
    with atomic(path) as temporary:
        gold[GOLD_COLUMNS].to_parquet(temporary, index=False)


def write_corpus(corpus: pd.DataFrame, path: Path) -> None:
    """Write one part of the corpus (CORPUS_COLUMNS), atomically."""
    with atomic(path) as temporary:
        corpus[CORPUS_COLUMNS].to_parquet(temporary, index=False)


def read_corpus(directory: Path) -> pd.DataFrame:
    """All parts of a corpus in order: CORPUS_COLUMNS; audit_label is Int8, <NA> if unknown."""
    parts = sorted(Path(directory).glob("part-*.parquet"))
    return pd.concat([pd.read_parquet(part) for part in parts], ignore_index=True)


def count_metrics(gold: pd.DataFrame, corpus: pd.DataFrame) -> list[dict[str, object]]:
    """Rows of metrics.json: numbers of texts by source and split."""
    rows = [
        {"name": "texts", "dataset": source, "split": split, "value": int(count)}
        for (source, split), count in gold.groupby(["source", "split"]).size().items()
    ]
    return rows + [
        {"name": "texts", "dataset": source, "split": "corpus", "value": int(count)}
        for source, count in corpus.groupby("source").size().items()
    ]


def _limit_train(gold: pd.DataFrame, limit: int, counts: DropCounts) -> pd.DataFrame:
    """A stratified subset of the train texts: first by text id within each label."""
    train = gold["split"] == "train"
    rank = gold[train].groupby("label")["text_id"].rank(method="first", pct=True)
    over = pd.Series(False, index=gold.index)
    over[rank.index] = rank > limit / max(int(train.sum()), 1)
    return counts.drop(gold, over, "over max_gold_train")


def _check_classes(gold: pd.DataFrame) -> None:
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
