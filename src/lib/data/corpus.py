"""Step 01 as a whole: source rows in, leak-free gold and corpus tables out, in bounded memory.

The leak-free protocol:

1. An official test split stays test, whole. Other gold texts are split by a hash of their text,
   stratified by source and label.
2. Texts are ranked test > validation > gold train > corpus. A text that equals a higher-ranked
   one up to case, punctuation and emoji, or is a near-duplicate of it, is dropped, so no test or
   validation text has a twin in gold train or in the corpus.
3. Every drop is counted, by source and reason.

Gold texts fit in memory. Corpus texts pass through in parts; what stays of each in memory is its
id and its MinHash signature (see `lib.data.duplicates`).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from lib import LABELS
from lib.data import duplicates, sources, staging
from lib.data.cleaning import normalise
from lib.data.counts import Counts
from lib.data.gold import NEAR_REASONS, RANKS, build_gold
from lib.data.tables import GOLD_COLUMNS, write_corpus
from lib.errors import UserError
from lib.files import read_json, write_json, write_parquet
from lib.parameters import GoldDataParams

SUMMARY, WORK = "prepared.json", "work"
DUPLICATES = ("duplicate in corpus", "near-duplicate in corpus")
REASONS = [*NEAR_REASONS, "twin of a gold text", "over max_corpus", *DUPLICATES]
"""Why a corpus text is dropped."""
LEAKS = ["twin of a test text", "twin of a gold text", *NEAR_REASONS]
"""The reasons for which a text would be a leak if it were kept."""


def prepare(
    folder: Path,
    *,
    parameters: dict[str, Any],
    contents: dict[str, str],
    on_part: Callable[[str, int], None] = lambda stage, rows: None,
) -> None:
    """Read all sources and write `gold.parquet`, `corpus/part-*.parquet` and `prepared.json`
    (counts, sources that were unavailable and why, contents with the hub's commits).

    A call that was stopped goes on after the last part that it had read and cleaned.

    Args:
        parameters: of `lib.parameters.GoldDataParams`.
        contents: as `lib.data.sources.fingerprint` gives them.
        on_part: called with a stage and its rows: after each part that was `read`, then after
            `gold`, each part to `compare` with it, `deduplicate`, and each part to `write`.
    Raises:
        UserError: bad input, a class without texts in a split, or no corpus text.
    """
    work, commits = folder / WORK, folder / WORK / staging.COMMITS
    if (folder / SUMMARY).exists():  # it was stopped while it tidied up
        shutil.rmtree(work, ignore_errors=True)
        return
    params = GoldDataParams(**parameters)
    portions, unavailable = sources.portions(params)
    with tqdm(desc="reading and cleaning", unit="text") as bar:

        def report(rows: int) -> None:
            bar.update(rows)
            on_part("read", rows)

        parts, missing = staging.stage(
            portions, work, **params.only("seed", "skip_unavailable"), on_part=report
        )
    unavailable |= missing
    if not parts:
        raise UserError("the sources give no text at all: " + "; ".join(unavailable.values()))
    counts = Counts()
    for part in parts:
        counts.merge(staging.read_counts(part))
    rows = pd.concat([staging.read_rows(part, "gold") for part in parts], ignore_index=True)
    signatures = np.concatenate([staging.read_signatures(part, "gold") for part in parts])
    gold = build_gold(rows, signatures, counts, params)
    counts.add("kept as gold", gold["source"])
    write_parquet(folder / "gold.parquet", gold[GOLD_COLUMNS])
    on_part("gold", len(gold))
    reasons = drop_reasons(gold, signatures[gold["row"]], parts, params, on_part)
    if (reasons >= 0).all():
        raise UserError("the sources give no corpus text (a text without a gold label)")
    for number, part in enumerate(tqdm(parts, desc="writing the corpus", unit="part")):
        rows = staging.read_rows(part, "corpus")
        mine, reasons = np.split(reasons, [len(rows)])
        for value, reason in enumerate(REASONS):
            counts.add(reason, rows.loc[mine == value, "source"])
        kept = rows[mine < 0]
        counts.add("kept in corpus", kept["source"])
        audit = kept["label"].map(dict(zip(LABELS, range(3), strict=True))).astype("Int8")
        path = folder / "corpus" / f"part-{number:05d}.parquet"
        write_corpus(kept.assign(audit_label=audit), path)
        on_part("write", len(rows))
    for hub_id, commit in (read_json(commits) if commits.exists() else {}).items():
        contents = {
            name: f"{hub_id}@{commit}" if value.startswith(f"{hub_id}@") else value
            for name, value in contents.items()
        }
    summary = {"counts": counts.to_json(), "unavailable": unavailable, "contents": contents}
    write_json(folder / SUMMARY, summary)
    shutil.rmtree(work)


def drop_reasons(
    gold: pd.DataFrame,
    gold_signatures: np.ndarray,
    parts: list[Path],
    params: GoldDataParams,
    on_part: Callable[[str, int], None],
) -> np.ndarray:
    """Why each corpus text is dropped: it is like gold, or like a text before it.

    Likeness to validation and test texts is decided exactly, to all other texts by signatures.

    Args:
        gold: ordered by RANKS; gold_signatures: of its texts.
        parts: of `lib.data.staging.stage`.
    Returns:
        For the corpus rows of all parts in order a row of REASONS, or -1 for a text to keep, int8.
    """
    columns = ["text_id", "source"]
    frame = pd.concat([staging.read_rows(p, "corpus", columns) for p in parts], ignore_index=True)
    reasons = np.full(len(frame), -1, dtype=np.int8)

    def drop(bad: pd.Series | np.ndarray, reason: str) -> None:
        reasons[np.asarray(bad) & (reasons < 0)] = REASONS.index(reason)

    if params.max_corpus:
        drop(frame.groupby("source").cumcount() >= params.max_corpus, "over max_corpus")
    drop(frame["text_id"].isin(gold["text_id"]), "twin of a gold text")
    heldout = int((gold["split"] != "train").sum())
    heldout_signatures, train = gold_signatures[:heldout], len(gold) - heldout
    signatures = np.empty((train + len(frame), duplicates.VALUES), dtype=np.uint16)
    signatures[:train] = gold_signatures[heldout:]

    # who may be like a held-out text, by signatures; then these few exactly
    likely, texts = np.empty(0, dtype=int), [normalise(text) for text in gold["text"][:heldout]]
    start = 0
    for part in tqdm(parts, desc="comparing with validation and test", unit="part"):
        found = staging.read_signatures(part, "corpus")
        mine = np.arange(start, start + len(found))
        signatures[train + mine] = found
        like = duplicates.earlier_twins(
            np.concatenate([heldout_signatures, found]),
            np.append(np.zeros(heldout, int), np.where(reasons[mine] < 0, heldout, -1)),
            bands=duplicates.SENSITIVE,
            similarity=params.near_duplicate_similarity - duplicates.MARGIN,
        )[heldout:]
        if (like >= 0).any():
            rows = staging.read_rows(part, "corpus", ["text"])
            likely = np.append(likely, mine[like >= 0])
            texts += [normalise(text) for text in rows.loc[like >= 0, "text"]]
        start += len(found)
        on_part("compare", len(found))
    twins = duplicates.earlier_twins(
        np.concatenate([heldout_signatures, signatures[train + likely]]),
        np.repeat([0, heldout], [heldout, len(likely)]),
        bands=duplicates.SENSITIVE,
        similarity=params.near_duplicate_similarity,
        normalised=texts,
    )[heldout:]
    rank = gold["split"].map(RANKS).to_numpy()
    reasons[likely[twins >= 0]] = rank[twins[twins >= 0]]  # NEAR_REASONS come first

    copy = frame["text_id"].where(reasons < 0).duplicated().to_numpy()
    del frame  # ids take memory
    twins = duplicates.earlier_twins(
        signatures,
        np.append(np.zeros(train, int), np.where(reasons < 0, train + np.arange(start), -1)),
        bands=duplicates.COARSE,
        similarity=params.near_duplicate_similarity,
        title="near-duplicates in the corpus",
    )[train:]
    drop((twins >= 0) & (twins < train), NEAR_REASONS[RANKS["train"]])
    drop((twins >= train) & copy, DUPLICATES[0])
    drop(twins >= train, DUPLICATES[1])
    on_part("deduplicate", len(reasons))
    return reasons
