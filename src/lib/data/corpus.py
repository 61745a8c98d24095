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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from lib import LABELS
from lib.data import duplicates, staging
from lib.data.cleaning import normalise
from lib.data.counts import NEAR, count
from lib.data.examine import examine
from lib.data.gold import RANKS, build_gold
from lib.data.sources import fingerprint
from lib.data.tables import GOLD_COLUMNS, write_corpus
from lib.errors import UserError
from lib.files import read_commits, write_json, write_parquet
from lib.parameters import GoldDataParams

SUMMARY, WORK = "prepared.json", "work"


def prepare(folder: Path, *, parameters: dict[str, Any], contents: dict[str, str]) -> None:
    """Read all sources and write `gold.parquet`, `corpus/part-*.parquet` and `prepared.json`
    (counts, contents with the hub's commits, notes of `lib.data.examine`). The corpus may be empty.

    A call that was stopped goes on after the last part that it had read and cleaned.

    Args:
        parameters: of `lib.parameters.GoldDataParams`.
        contents: as `lib.data.sources.fingerprint` gives them.
    Raises:
        UserError: bad input, a file that changed meanwhile, or a class without texts in a split.
    """
    work, commits = folder / WORK, folder / WORK / staging.COMMITS
    for path in folder.rglob(".*"):  # of a write that was killed
        path.unlink()
    if not (folder / SUMMARY).exists():
        params = GoldDataParams(**parameters)
        problem = None
        try:
            portions, notes = examine(params)
            parts = staging.stage(portions, work, params.seed)
        except UserError as error:  # a file that is being written may end anywhere
            problem = error
        now = fingerprint(params)
        if changed := [name for name, known in contents.items() if now.get(name, known) != known]:
            shutil.rmtree(work, ignore_errors=True)  # of both states
            raise UserError(
                f"{', '.join(changed)}: changed while it was read; when it is complete, the same "
                "command reads it anew"
            ) from problem
        if problem:
            raise problem
        rows = pd.concat([staging.read_rows(part, "gold") for part in parts], ignore_index=True)
        signatures = np.concatenate([staging.read_signatures(part, "gold") for part in parts])
        gold, gold_fates = build_gold(rows, signatures, params)
        write_parquet(folder / "gold.parquet", gold[GOLD_COLUMNS])
        fates = corpus_fates(gold, signatures[gold.index], parts, params)
        counts = count(_write_corpus(folder / "corpus", parts, gold_fates.to_numpy(), fates))
        for hub_id, commit in read_commits(commits).items():
            known = {f"{hub_id}@newest": f"{hub_id}@{commit}"}
            contents = {name: known.get(value, value) for name, value in contents.items()}
        write_json(folder / SUMMARY, {"counts": counts, "contents": contents, "notes": notes})
    shutil.rmtree(work, ignore_errors=True)


def corpus_fates(
    gold: pd.DataFrame, gold_signatures: np.ndarray, parts: list[Path], params: GoldDataParams
) -> np.ndarray:
    """What becomes of each corpus text: it is kept, or like gold, or like a text before it.

    Likeness to validation and test texts is decided exactly, to all other texts by signatures.

    Args:
        gold: ordered by RANKS; gold_signatures: of its texts.
        parts: of `lib.data.staging.stage`.
    Returns:
        For the corpus rows of all parts in order one of FATES, text [n].
    """
    columns = ["text_id", "source"]
    frame = pd.concat([staging.read_rows(p, "corpus", columns) for p in parts], ignore_index=True)
    fates = np.full(len(frame), "kept in corpus", dtype=object)
    kept = np.ones(len(frame), dtype=bool)

    def drop(bad: pd.Series | np.ndarray, fate: str) -> None:
        fates[kept & np.asarray(bad)] = fate
        kept[bad] = False

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
            np.append(np.zeros(heldout, int), np.where(kept[mine], heldout, -1)),
            bands=duplicates.SENSITIVE,
            similarity=params.near_duplicate_similarity - duplicates.MARGIN,
        )[heldout:]
        if (like >= 0).any():
            rows = staging.read_rows(part, "corpus", ["text"])
            likely = np.append(likely, mine[like >= 0])
            texts += [normalise(text) for text in rows.loc[like >= 0, "text"]]
        start += len(found)
    twins = duplicates.earlier_twins(
        np.concatenate([heldout_signatures, signatures[train + likely]]),
        np.repeat([0, heldout], [heldout, len(likely)]),
        bands=duplicates.SENSITIVE,
        similarity=params.near_duplicate_similarity,
        normalised=texts,
    )[heldout:]
    rank = gold["split"].map(RANKS).to_numpy()
    for split in ("test", "validation"):
        like = (twins >= 0) & (rank[twins] == RANKS[split])
        drop(np.isin(np.arange(start), likely[like]), NEAR[RANKS[split]])

    copy = frame["text_id"].where(kept).duplicated().to_numpy()
    del frame  # ids take memory
    twins = duplicates.earlier_twins(
        signatures,
        np.append(np.zeros(train, int), np.where(kept, train + np.arange(start), -1)),
        bands=duplicates.COARSE,
        similarity=params.near_duplicate_similarity,
    )[train:]
    drop((twins >= 0) & (twins < train), NEAR[RANKS["train"]])
    drop((twins >= train) & copy, "duplicate in corpus")
    drop(twins >= train, "near-duplicate in corpus")
    return fates


def _write_corpus(
    folder: Path, parts: list[Path], gold_fates: np.ndarray, fates: np.ndarray
) -> Iterator[pd.DataFrame]:
    """Write the corpus, part by part, and give each part's rows with what became of them."""
    for number, part in enumerate(tqdm(parts, desc="writing the corpus", unit="part")):
        found = staging.read_fates(part)
        gold, corpus = ((found["fate"] == "") & (found["role"] == r) for r in ("gold", "corpus"))
        found.loc[gold, "fate"], gold_fates = np.split(gold_fates, [gold.sum()])
        found.loc[corpus, "fate"], fates = np.split(fates, [corpus.sum()])
        kept = staging.read_rows(part, "corpus")[
            (found.loc[corpus, "fate"] == "kept in corpus").to_numpy()
        ]
        audit = kept["label"].map({name: label for label, name in enumerate(LABELS)})
        path = folder / f"part-{number:05d}.parquet"
        write_corpus(kept.assign(audit_label=audit.astype("Int8")), path)
        yield found
