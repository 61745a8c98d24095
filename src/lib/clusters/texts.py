"""Texts and clusters together: clusters.parquet, and examples to read.

In memory a text has a few bytes: its cluster, its prediction, while its id is written. Its words
stay on disk and are read only for the texts that are shown.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lib import LABELS
from lib.data.tables import ROW_GROUP, batches, read_texts
from lib.errors import UserError
from lib.files import atomic

EXAMPLES = 3  # texts of a cluster
CHARACTERS = 160  # of an example
OF_CLUSTER = {
    "purity": "purity",
    "purity_lower_bound": "purity_lower_bound",
    "size": "cluster_size",
}


def write_clusters(
    path: Path, corpus: Path, columns: dict[str, np.ndarray], table: pd.DataFrame
) -> None:
    """Write clusters.parquet, atomically: text_id, `columns`, and OF_CLUSTER from the table.

    Args:
        corpus: folder of the corpus of 01, for the text ids.
        columns: `cluster` and others per text, in corpus order, each of shape [n].
        table: of `lib.clusters.purity.purity_table`.
    Raises:
        UserError: the corpus has another number of texts.
    """
    clusters = columns["cluster"]
    ids = pa.chunked_array([batch["text_id"] for batch in batches(corpus, ["text_id"])])
    if len(ids) != len(clusters):
        raise UserError(
            f"the corpus in {corpus} has {len(ids)} texts, but {len(clusters)} have been "
            "clustered; run 03_embed_corpus again"
        )
    of_cluster = {name: table[column].to_numpy()[clusters] for column, name in OF_CLUSTER.items()}
    with atomic(path) as temporary:
        content = pa.table({"text_id": ids, **columns, **of_cluster})
        pq.write_table(content, temporary, row_group_size=ROW_GROUP)


def examples(
    corpus: Path,
    assigned: np.ndarray,
    distances: np.ndarray,
    table: pd.DataFrame,
    words: list[list[str]],
    clusters: np.ndarray,
) -> pd.DataFrame:
    """Clusters with their characteristic words and the texts nearest to the centre, for reading.

    Args:
        corpus: folder of the corpus of 01.
        assigned, distances: cluster of each text and distance to its centre, each [n].
        table: as `lib.clusters.purity.purity_table` gives it; words: of every cluster.
        clusters: int [m], those to show.
    Returns:
        cluster, size, purity, purity_lower_bound, dominant, words, texts (EXAMPLES, a line each).
    """
    rows = table.loc[clusters, ["size", "purity", "purity_lower_bound", "dominant"]].reset_index()
    rows["dominant"] = rows["dominant"].map(dict(enumerate(LABELS)))
    rows["words"] = [", ".join(words[cluster]) for cluster in clusters]
    wanted = pd.DataFrame({"cluster": assigned, "distance": distances})
    wanted = wanted[wanted["cluster"].isin(clusters)].sort_values("distance", kind="stable")
    wanted = wanted.groupby("cluster").head(EXAMPLES)
    texts = pd.Series(read_texts(corpus, wanted.index.to_numpy()), wanted["cluster"], dtype=object)
    lines = ("— " + texts.str[:CHARACTERS]).groupby(level=0).agg("\n".join)
    return rows.assign(texts=rows["cluster"].map(lines))
