"""Texts and clusters together: clusters.parquet, and examples to read.

In memory a text has a few bytes: its cluster, its prediction, while its id is written. Its words
stay on disk and are read only for the texts that are shown.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lib import LABELS
from lib.data.tables import ROW_GROUP, batches, read_texts
from lib.errors import UserError
from lib.files import atomic

COLUMNS = ["cluster", "distance", "predicted", "confidence", "kept"]
EXAMPLES = 3  # texts of a cluster
CHARACTERS = 160  # of an example


def write_clusters(path: Path, corpus: Path, texts: pd.DataFrame, table: pd.DataFrame) -> None:
    """Write clusters.parquet, atomically.

    text_id, COLUMNS, and purity, purity_lower_bound and cluster_size of each text's cluster.

    Args:
        corpus: folder of the corpus of 01, for the text ids.
        texts: COLUMNS per text, in corpus order.
        table: of `lib.clusters.purity.purity_table`.
    Raises:
        UserError: the corpus has another number of texts.
    """
    ids = pa.chunked_array([batch["text_id"] for batch in batches(corpus, ["text_id"])])
    if len(ids) != len(texts):
        raise UserError(
            f"the corpus in {corpus} has {len(ids)} texts, but {len(texts)} have been "
            "clustered; run 03_embed_corpus again"
        )
    table = table[["purity", "purity_lower_bound", "size"]].rename(columns={"size": "cluster_size"})
    of_cluster = {name: values.to_numpy()[texts["cluster"]] for name, values in table.items()}
    with atomic(path) as temporary:
        content = pa.table({"text_id": ids, **texts[COLUMNS], **of_cluster})
        pq.write_table(content, temporary, row_group_size=ROW_GROUP)


def examples(
    corpus: Path, texts: pd.DataFrame, table: pd.DataFrame, words: list[list[str]]
) -> pd.DataFrame:
    """Clusters with their characteristic words and the texts nearest to the centre, for reading.

    Args:
        corpus: folder of the corpus of 01.
        texts: cluster and distance (to its centre) of each corpus text.
        table: rows of `lib.clusters.purity.purity_table`: those to show; words: of every cluster.
    Returns:
        cluster, size, purity, purity_lower_bound, dominant, words, texts (EXAMPLES, a line each).
    """
    near = texts[texts["cluster"].isin(table.index)].sort_values("distance", kind="stable")
    near = near.groupby("cluster").head(EXAMPLES)
    lines = "— " + pd.Series(read_texts(corpus, near.index.to_numpy())).str[:CHARACTERS]
    return (
        table[["size", "purity", "purity_lower_bound"]]
        .assign(
            dominant=table["dominant"].map(dict(enumerate(LABELS))),
            words=[", ".join(words[cluster]) for cluster in table.index],
            texts=lines.groupby(near["cluster"].to_numpy()).agg("\n".join),
        )
        .reset_index()
    )
