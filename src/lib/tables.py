"""The tables that step 01 leaves: gold, foreign gold, texts labelled twice, the corpus in parts."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lib.artifacts import atomic

GOLD_COLUMNS = ["text_id", "text", "label", "source", "original_label", "split"]
FOREIGN_COLUMNS = ["text_id", "text", "label", "source"]
TWICE_COLUMNS = ["text_id", "source", "text", "label", "other_text", "other_label", "same_marks"]
CORPUS_SCHEMA = pa.schema(
    [
        ("text_id", pa.string()),
        ("text", pa.string()),
        ("source", pa.string()),
        ("audit_label", pa.int8()),
    ]
)


def write_gold(gold: pd.DataFrame, path: Path) -> None:
    """Write gold.parquet (GOLD_COLUMNS), atomically."""
    _write(gold[GOLD_COLUMNS], path)


def write_foreign(foreign: pd.DataFrame, path: Path) -> None:
    """Write foreign.parquet (FOREIGN_COLUMNS), atomically."""
    _write(foreign[FOREIGN_COLUMNS], path)


def write_labelled_twice(pairs: pd.DataFrame, path: Path) -> None:
    """Write labelled_twice.parquet (TWICE_COLUMNS), atomically."""
    _write(pairs[TWICE_COLUMNS], path)


def _write(frame: pd.DataFrame, path: Path) -> None:
    with atomic(path) as temporary:
        frame.to_parquet(temporary, index=False)


def write_corpus(corpus: pd.DataFrame, path: Path, note: bytes = b"") -> None:
    """Write one part of the corpus (CORPUS_SCHEMA), atomically.

    Args:
        note: kept in the file, see `read_note`.
    """
    columns = [pa.array(corpus[f.name], f.type, from_pandas=True) for f in CORPUS_SCHEMA]
    table = pa.Table.from_arrays(columns, schema=CORPUS_SCHEMA.with_metadata({b"note": note}))
    with atomic(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_note(path: Path) -> bytes:
    """The note that a part of the corpus was written with."""
    return pq.read_schema(path).metadata[b"note"]


def corpus_parts(directory: Path) -> list[Path]:
    """The files of a corpus, in order. A part may be empty."""
    return sorted(Path(directory).glob("part-*.parquet"))


def read_corpus(
    directory: Path, *, text_ids: Collection[str] | None = None, audited: bool = False
) -> pd.DataFrame:
    """Corpus texts in order, read part by part, so that only the chosen ones are in memory.

    Args:
        text_ids: only these texts; None: all.
        audited: only texts with an audit label.
    Returns:
        the columns of CORPUS_SCHEMA; audit_label is Int8, <NA> if unknown.
    """
    wanted = None if text_ids is None else pa.array(sorted(text_ids), pa.string())
    tables = [CORPUS_SCHEMA.empty_table()]
    for path in corpus_parts(directory):
        table = pq.read_table(path, schema=CORPUS_SCHEMA)
        if audited:
            table = table.filter(pc.is_valid(table["audit_label"]))
        if wanted is not None:
            table = table.filter(pc.is_in(table["text_id"], wanted))
        tables.append(table)
    return pa.concat_tables(tables).to_pandas().astype({"audit_label": "Int8"})


def text_lengths(gold: pd.DataFrame, directory: Path) -> pd.DataFrame:
    """Length of every text, read part by part: table (gold or corpus), source, characters."""

    def lengths(frame: pd.DataFrame, table: str) -> pd.DataFrame:
        characters = frame["text"].str.len().astype("int32")
        return pd.DataFrame({"table": table, "source": frame["source"], "characters": characters})

    frames = [lengths(gold, "gold")]
    for path in corpus_parts(directory):
        frames.append(lengths(pd.read_parquet(path, columns=["source", "text"]), "corpus"))
    return pd.concat(frames, ignore_index=True)
