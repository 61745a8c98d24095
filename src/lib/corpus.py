"""Step 01 as a whole: source rows in, leak-free gold and corpus tables out, in bounded memory.

The leak-free protocol:

1. An official test split stays test, whole. Other gold texts are split by a hash of their text,
   stratified by source and label.
2. Texts are ranked test > validation > gold train > corpus. A text that equals a higher-ranked
   one up to case, punctuation and emoji, or is a near-duplicate of it, is dropped, so no test or
   validation text has a twin in gold train or in the corpus.
3. Every drop is counted, by source and reason.

Gold texts fit in memory. Corpus texts pass through in parts; what stays of each in memory is its
id and its MinHash signature (see `lib.duplicates`).
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from tqdm import tqdm

from lib import LABELS, duplicates, label_agreement, staging
from lib.artifacts import read_json, write_json
from lib.cleaning import normalise
from lib.counts import Counts
from lib.duplicates import COARSE, MARGIN, SENSITIVE, MinHashIndex
from lib.errors import UserError
from lib.foreign import build_foreign
from lib.gold import NEAR_REASONS, RANKS, build_gold
from lib.schema import GoldDataParams
from lib.sources import Portion
from lib.tables import read_note, write_corpus, write_foreign, write_gold, write_labelled_twice

SUMMARY = "prepared.json"
WORK = "work"


@dataclass
class Prepared:
    """What `prepare` did, besides the tables: counts, and the sources that were unavailable."""

    counts: Counts
    unavailable: dict[str, str]


def prepare(
    portions: Iterable[Portion],
    directory: Path,
    params: GoldDataParams,
    on_part: Callable[[str, int], None] = lambda stage, rows: None,
) -> Prepared:
    """Read all portions and write `gold.parquet`, `labelled_twice.parquet`, `foreign.parquet` and
    `corpus/part-*.parquet`.

    A run that was stopped goes on after the last finished part. The work folder is removed at the
    end.

    Args:
        portions: as `lib.sources.portions` gives them.
        directory: where to.
        on_part: called after each part with the stage (`read` or `deduplicate`) and its rows, and
            in between once with `gold` and the number of gold texts.
    Raises:
        UserError: bad input, no gold text, a class without texts in a split, or no corpus text.
    """
    summary, work = directory / SUMMARY, directory / WORK
    if not summary.exists():
        parts, unavailable = _stage(portions, work, params, on_part)
        counts = Counts()
        for part in parts:
            counts.merge(staging.read_counts(part))
        labelled = _rows(parts, "gold")
        twice = label_agreement.labelled_twice(labelled)
        write_labelled_twice(twice, directory / "labelled_twice.parquet")
        gold = build_gold(
            labelled,
            counts,
            **params.model_dump(include={"seed", "validation_share", "test_share"}),
            **params.model_dump(
                include={"near_duplicate_similarity", "max_gold_train", "surplus_gold"}
            ),
        )
        if params.max_corpus:
            over = gold.groupby(["split", "source"]).cumcount() >= params.max_corpus
            gold = counts.drop(gold, over & (gold["split"] == "corpus"), "over max_corpus")
        surplus = gold["split"] == "corpus"
        counts.add("kept as gold", gold.loc[~surplus, "source"])
        write_gold(gold[~surplus], directory / "gold.parquet")
        foreign = build_foreign(
            _rows(parts, "foreign"),
            gold,
            counts,
            seed=params.seed,
            max_foreign=params.max_foreign,
        )
        write_foreign(foreign, directory / "foreign.parquet")
        if surplus.any():
            counts.add("kept in corpus", gold.loc[surplus, "source"])
            rest = gold[surplus].rename(columns={"label": "audit_label"})
            write_corpus(rest, directory / "corpus" / "part-gold.parquet")
        for part_counts in write_unlike(gold, parts, directory / "corpus", params, on_part):
            counts.merge(part_counts)
        if not counts.table().get("kept in corpus", pd.Series(dtype=int)).sum():
            raise UserError("the sources give no corpus text (a text without a gold label)")
        write_json(summary, {"counts": counts.to_json(), "unavailable": unavailable})
    shutil.rmtree(work, ignore_errors=True)
    content = read_json(summary)
    return Prepared(Counts.from_json(content["counts"]), content["unavailable"])


def _stage(
    portions: Iterable[Portion],
    work: Path,
    params: GoldDataParams,
    on_part: Callable[[str, int], None],
) -> tuple[list[Path], dict[str, str]]:
    with tqdm(desc="reading and cleaning", unit="text") as bar:

        def report(rows: int) -> None:
            bar.update(rows)
            on_part("read", rows)

        parts, unavailable = staging.stage(
            portions,
            work,
            seed=params.seed,
            min_characters=params.min_characters,
            max_characters=params.max_characters,
            skip_unavailable=params.skip_unavailable,
            on_part=report,
        )
    if not parts:
        missing = "; ".join(unavailable.values())
        raise UserError(f"the sources give no text at all; {missing or 'add a source'}")
    return parts, unavailable


def _rows(parts: list[Path], role: str) -> pd.DataFrame:
    return pd.concat([staging.read_rows(part, role) for part in parts], ignore_index=True)


def write_unlike(
    gold: pd.DataFrame,
    parts: list[Path],
    directory: Path,
    params: GoldDataParams,
    on_part: Callable[[str, int], None],
) -> Iterator[Counts]:
    """Write the corpus: for each part the texts that are unlike gold and all texts before them.

    Likeness to validation and test texts is decided exactly, to all other texts by signatures.

    Yields:
        for each part the counts of what was dropped and kept.
    """
    sizes = [pq.read_metadata(part).num_rows for part in parts]
    unlike = _Unlike(gold, sum(sizes), params)
    on_part("gold", len(gold))
    with tqdm(total=sum(sizes), desc="deduplicating", unit="text") as bar:
        for number, (part, size) in enumerate(zip(parts, sizes, strict=True)):
            target = directory / f"part-{number:05d}.parquet"
            frame, signatures = staging.read_part(part, "corpus")
            if target.exists():
                unlike.remember(frame, signatures, pd.read_parquet(target, columns=["text_id"]))
            else:
                counts = Counts()
                kept = unlike.select(frame, signatures, counts)
                counts.add("kept in corpus", kept["source"])
                write_corpus(kept, target, counts.to_json().encode())
                on_part("deduplicate", size)
            bar.update(size)
            yield Counts.from_json(read_note(target).decode())


class _Unlike:
    """Chooses the corpus texts that are unlike gold and unlike each other, part by part."""

    def __init__(self, gold: pd.DataFrame, rows: int, params: GoldDataParams) -> None:
        self._similarity = params.near_duplicate_similarity
        self._limit = params.max_corpus
        self._read: Counter[str] = Counter()
        self._gold_ids = set(gold["text_id"])
        is_heldout = gold["split"].isin(["test", "validation"])
        heldout, train = gold[is_heldout], gold[~is_heldout]
        self._heldout_rank = heldout["split"].map(RANKS).to_numpy()
        self._heldout_texts = [normalise(text) for text in heldout["text"]]
        self._heldout = MinHashIndex(len(heldout), SENSITIVE)
        self._heldout.add(duplicates.signatures(self._heldout_texts, params.seed))
        self._train_rows = len(train)
        self._seen = MinHashIndex(len(train) + rows, COARSE)  # train, then kept corpus texts
        self._seen.add(duplicates.signatures([normalise(t) for t in train["text"]], params.seed))
        self._ids = np.zeros(len(train) + rows, dtype=np.uint64)

    def select(self, frame: pd.DataFrame, signatures: np.ndarray, counts: Counts) -> pd.DataFrame:
        """The rows to keep."""
        frame = frame.assign(_row=range(len(frame)))
        frame = counts.drop(frame, self._over_limit(frame["source"]), "over max_corpus")
        twin = frame["text_id"].isin(self._gold_ids)
        frame = counts.drop(frame, twin, "twin of a gold text")
        rank = self._heldout_twins(frame["text"].tolist(), signatures[frame["_row"].to_list()])
        for value in (RANKS["test"], RANKS["validation"]):
            frame, rank = (
                counts.drop(frame, rank == value, NEAR_REASONS[value]),
                rank[rank != value],
            )
        ids, start = _integers(frame["text_id"]), self._seen.rows
        twins = self._seen.add_new(signatures[frame["_row"].to_list()], self._similarity)
        self._ids[start : self._seen.rows] = ids[twins < 0]
        like_train = (twins >= 0) & (twins < self._train_rows)
        same = (twins >= self._train_rows) & (self._ids[twins] == ids)
        like_corpus = (twins >= self._train_rows) & ~same
        counts.add(NEAR_REASONS[RANKS["train"]], frame.loc[like_train, "source"])
        counts.add("duplicate in corpus", frame.loc[same, "source"])
        counts.add("near-duplicate in corpus", frame.loc[like_corpus, "source"])
        frame = frame[twins < 0]
        audit = [LABELS.index(name) if name in LABELS else None for name in frame["label"]]
        return frame.assign(audit_label=pd.array(audit, dtype="Int8"))

    def remember(self, frame: pd.DataFrame, signatures: np.ndarray, kept: pd.DataFrame) -> None:
        """Take in a part that was selected before the run was stopped."""
        self._over_limit(frame["source"])
        rows = ~frame["text_id"].duplicated() & frame["text_id"].isin(kept["text_id"])
        start = self._seen.rows
        self._seen.add(signatures[rows.to_numpy()])
        self._ids[start : self._seen.rows] = _integers(frame.loc[rows, "text_id"])

    def _over_limit(self, sources: pd.Series) -> np.ndarray:
        """Which texts are beyond the first `max_corpus` of their source."""
        before = np.array([self._read[source] for source in sources], dtype=int)
        self._read.update(sources)
        if self._limit is None:
            return np.zeros(len(sources), dtype=bool)
        return before + sources.groupby(sources).cumcount().to_numpy() >= self._limit

    def _heldout_twins(self, texts: list[str], signatures: np.ndarray) -> np.ndarray:
        """For each text the lowest rank of a held-out text that it is like, or -1."""
        ranks = np.full(len(texts), -1)
        found = self._heldout.candidates(signatures, self._similarity - MARGIN)
        for position, row in zip(*(array.tolist() for array in found), strict=True):
            rank = self._heldout_rank[row]
            if 0 <= ranks[position] <= rank:
                continue
            if duplicates.is_similar(
                normalise(texts[position]), self._heldout_texts[row], self._similarity
            ):
                ranks[position] = rank
        return ranks


def _integers(text_ids: pd.Series) -> np.ndarray:
    return np.array([int(text_id, 16) for text_id in text_ids], dtype=np.uint64)


def count_metrics(gold: pd.DataFrame, counts: pd.DataFrame) -> list[dict[str, object]]:
    """Rows of metrics.json: numbers of texts by source and split.

    Args:
        counts: as `Counts.table` gives it.
    """
    rows = [
        {"name": "texts", "dataset": source, "split": split, "value": int(count)}
        for (source, split), count in gold.groupby(["source", "split"]).size().items()
    ]
    for column, split in {"kept in corpus": "corpus", "kept as foreign gold": "foreign"}.items():
        kept = counts.get(column, pd.Series(dtype=int))
        rows += [
            {"name": "texts", "dataset": source, "split": split, "value": int(count)}
            for source, count in kept[kept > 0].sort_index().items()
        ]
    return rows
