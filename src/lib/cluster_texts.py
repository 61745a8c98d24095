"""Texts and clusters together, for corpora larger than memory.

In memory a text has a few bytes: its source, audit label, cluster, prediction. Its id and its words
stay on disk, are streamed where they are written, and read only for the texts that are shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lib import LABELS
from lib.artifacts import atomic
from lib.errors import UserError
from lib.tables import corpus_parts

ROW_GROUP = 100_000  # texts


def read_sources(corpus: Path) -> pd.DataFrame:
    """What is known of every corpus text but its words: source (category), audit_label (int8).

    Args:
        corpus: folder of the corpus of 01. audit_label is -1 where unknown.
    """
    parts = []
    for batch in batches(corpus, ["source", "audit_label"]):
        labels = batch["audit_label"].fill_null(-1).to_numpy(zero_copy_only=False)
        source = batch["source"].dictionary_encode()
        names = pd.Index(source.dictionary.to_pylist(), dtype=str)
        categories = pd.Categorical.from_codes(source.indices.to_numpy(), names)
        parts.append((categories, labels.astype(np.int8)))
    if not parts:
        raise UserError(f"{corpus} holds no text; run 01_gold_data again")
    sources = pd.api.types.union_categoricals([part for part, _ in parts])
    return pd.DataFrame(
        {"source": sources, "audit_label": np.concatenate([labels for _, labels in parts])}
    )


def read_texts(corpus: Path, rows: np.ndarray) -> list[str]:
    """The texts of these rows (int, any order, within the corpus), streaming over the files."""
    order = np.argsort(rows, kind="stable")
    wanted = np.asarray(rows)[order]
    found: list[str] = []
    start = 0
    for batch in batches(corpus, ["text"]):
        first, last = np.searchsorted(wanted, [start, start + len(batch)])
        found += batch["text"].take(pa.array(wanted[first:last] - start)).to_pylist()
        start += len(batch)
    if len(found) < len(rows):
        raise UserError(f"{corpus} has {start} texts, row {wanted[-1]} is not among them")
    result = [""] * len(found)
    for place, text in zip(order, found, strict=True):
        result[place] = text
    return result


def write_clusters(
    path: Path, corpus: Path, columns: dict[str, np.ndarray], table: pd.DataFrame
) -> None:
    """Write clusters.parquet, atomically and in row groups.

    Args:
        corpus: folder of the corpus of 01, for the text ids.
        columns: `cluster` and others per text, in corpus order, each of shape [n].
        table: of `lib.purity.purity_table`; its purity, purity_lower_bound and size are written
            as the text's `purity`, `purity_lower_bound` and `cluster_size`.
    Raises:
        UserError: the corpus has another number of texts.
    """
    by_cluster = {
        "purity": table["purity"].to_numpy(),
        "purity_lower_bound": table["purity_lower_bound"].to_numpy(),
        "cluster_size": table["size"].to_numpy(),
    }
    count, start, writer = len(columns["cluster"]), 0, None
    with atomic(path) as temporary:
        try:
            for batch in batches(corpus, ["text_id"]):
                rows = slice(start, start + len(batch))
                content = {"text_id": batch["text_id"]}
                content |= {name: pa.array(values[rows]) for name, values in columns.items()}
                clusters = columns["cluster"][rows]
                content |= {name: pa.array(v[clusters]) for name, v in by_cluster.items()}
                if len(clusters) == len(batch):
                    part = pa.table(content)
                    writer = writer or pq.ParquetWriter(temporary, part.schema)
                    writer.write_table(part)
                start += len(batch)
        finally:
            if writer:
                writer.close()
        if start != count:
            raise UserError(
                f"the corpus in {corpus} has {start} texts, but {count} have been clustered; "
                "run 03_embed_corpus again"
            )


def examples(
    corpus: Path,
    assigned: np.ndarray,
    distances: np.ndarray,
    table: pd.DataFrame,
    clusters: list[int],
    count: int,
) -> pd.DataFrame:
    """Clusters with their texts nearest to the centre, for reading.

    Args:
        corpus: folder of the corpus of 01.
        assigned, distances: cluster of each text and distance to its centre, each [n].
        table: as `lib.purity.purity_table` gives it.
    Returns:
        cluster, size, purity, purity_lower_bound, dominant, and `texts` (joined by line breaks).
    """
    nearest = []
    for cluster in clusters:
        members = np.flatnonzero(assigned == cluster)
        nearest.append(members[np.argsort(distances[members], kind="stable")[:count]])
    texts = iter(read_texts(corpus, np.concatenate(nearest)))
    rows = table.loc[clusters, ["size", "purity", "purity_lower_bound", "dominant"]].copy()
    rows["dominant"] = [LABELS[i] for i in rows["dominant"]]
    rows["texts"] = ["\n".join(f"— {next(texts)[:160]}" for _ in members) for members in nearest]
    return rows.reset_index()


def stratified_sample(assigned: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Rows of a random sample in which every cluster has its share, and one text at least.

    Args:
        assigned: int [n], cluster of each text.
        count: texts to draw; all rows if there are not more. With fewer than clusters, a plain
            random sample.
    Returns:
        Sorted row numbers, int64 [min(count, n)], without repetition.
    """
    if len(assigned) <= count:
        return np.arange(len(assigned))
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(assigned))
    _, codes, sizes = np.unique(assigned[order], return_inverse=True, return_counts=True)
    if len(sizes) >= count:
        return np.sort(order[:count])
    # after one text of every cluster, the k-th of m more texts stands at (k - 1/2) / m
    by_cluster = np.argsort(codes, kind="stable")
    starts = np.cumsum(sizes) - sizes
    place = np.arange(len(assigned)) - np.repeat(starts, sizes)
    share = (place - 0.5) / np.repeat(sizes, sizes)
    chosen = np.argsort(share, kind="stable")[:count]
    return np.sort(order[by_cluster[chosen]])


def batches(corpus: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """These columns of the corpus of 01, in its order, in pieces of at most ROW_GROUP texts."""
    for part in corpus_parts(corpus):
        with pq.ParquetFile(part) as file:
            yield from file.iter_batches(batch_size=ROW_GROUP, columns=columns)
