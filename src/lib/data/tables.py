"""The tables that step 01 leaves, gold and the corpus in parts, and how later steps read them.

A corpus may be larger than memory: its texts are streamed, and only the chosen ones are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from lib.errors import UserError
from lib.files import atomic

GOLD_COLUMNS = ["text_id", "text", "label", "source", "original_label", "split"]
CORPUS_SCHEMA = pa.schema(
    {"text_id": pa.string(), "text": pa.string(), "source": pa.string(), "audit_label": pa.int8()}
)
ROW_GROUP = 100_000  # texts


def write_corpus(corpus: pd.DataFrame, path: Path) -> None:
    """Write one part of the corpus (CORPUS_SCHEMA), atomically."""
    columns = [pa.array(corpus[f.name], f.type, from_pandas=True) for f in CORPUS_SCHEMA]
    with atomic(path) as temporary:
        table = pa.Table.from_arrays(columns, schema=CORPUS_SCHEMA)
        pq.write_table(table, temporary, compression="zstd")


def corpus_parts(corpus: Path) -> list[Path]:
    """The files of a corpus, in order. A part may be empty."""
    return sorted(Path(corpus).glob("part-*.parquet"))


def batches(corpus: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """These columns of a corpus, in its order, in pieces of at most ROW_GROUP texts."""
    for part in corpus_parts(corpus):
        with pq.ParquetFile(part) as file:
            yield from file.iter_batches(batch_size=ROW_GROUP, columns=columns)


def read_corpus(corpus: Path, *, audited: bool = False) -> pd.DataFrame:
    """Corpus texts in order, all or only those with an audit label.

    Returns:
        the columns of CORPUS_SCHEMA; audit_label is Int8, <NA> if unknown.
    """
    chosen = pc.field("audit_label").is_valid() if audited else None
    return _dataset(corpus).to_table(filter=chosen).to_pandas().astype({"audit_label": "Int8"})


def read_sources(corpus: Path) -> pd.DataFrame:
    """What is known of every corpus text but its words: source (category), audit_label (int8).

    audit_label is -1 where it is unknown, or for the final evaluation only (`in_audit_test`).

    Raises:
        UserError: there are none.
    """
    table = _dataset(corpus).to_table(columns=["source", "audit_label", "text_id"])
    if not len(table):
        raise UserError(
            f"{corpus} has no texts, and 03 needs texts without gold labels: add files to data_dir "
            "(01_gold_data.corpus_files) or a corpus source, or stop with --to 02"
        )
    label = table["audit_label"].fill_null(-1).to_numpy().copy()
    known = np.flatnonzero(label >= 0)
    label[known[in_audit_test(table["text_id"].take(pa.array(known)).to_pylist())]] = -1
    frame = table.select(["source"]).to_pandas(categories=["source"])
    return frame.assign(audit_label=label)


def labelled_texts(gold: Path, corpus: Path) -> pd.DataFrame:
    """Gold texts and corpus texts with an audit label: text_id, text, source, label (int), split.

    Args:
        gold: gold.parquet; corpus: its folder. Splits of its texts are `audit`, for the final
            evaluation alone, and `audit validation`.
    """
    audit = read_corpus(corpus, audited=True).astype({"audit_label": "int64"})
    audit["split"] = np.where(audit_test(audit), "audit", "audit validation")
    both = [pd.read_parquet(gold), audit.rename(columns={"audit_label": "label"})]
    return pd.concat(both, ignore_index=True)[["text_id", "text", "source", "label", "split"]]


def in_audit_test(text_ids: Iterable[str]) -> np.ndarray:
    """Which texts are audit test if they have an audit label: two of three, by their id; bool [n].

    They measure at the end and are never trained on, not even with a pseudo-label. The others are
    audit validation: by their labels anything may be chosen.
    """
    return np.array([int(text_id, 16) % 3 > 0 for text_id in text_ids], dtype=bool)


def read_texts(corpus: Path, rows: np.ndarray) -> list[str]:
    """The texts of these rows (int, any order, within the corpus)."""
    return _dataset(corpus).take(pa.array(rows), columns=["text"])["text"].to_pylist()


def audit_test(texts: pd.DataFrame) -> np.ndarray:
    """Which corpus texts have a label that is for the final evaluation alone, bool [n]."""
    return in_audit_test(texts["text_id"]) & texts["audit_label"].notna().to_numpy()


def text_lengths(gold: pd.DataFrame, corpus: Path) -> pd.DataFrame:
    """Length of every text: table (gold or corpus), source, characters."""
    ours = pd.DataFrame({"source": gold["source"], "characters": gold["text"].str.len()})
    columns = {"source": ds.field("source"), "characters": pc.utf8_length(ds.field("text"))}
    others = _dataset(corpus).to_table(columns=columns).to_pandas()
    frames = [ours.assign(table="gold"), others.assign(table="corpus")]
    return pd.concat(frames, ignore_index=True)


def _dataset(corpus: Path) -> ds.Dataset:
    return ds.dataset([str(part) for part in corpus_parts(corpus)], CORPUS_SCHEMA)
