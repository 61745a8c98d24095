"""How many clusters: what finished K-Means with several numbers of clusters give, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib.clusters.filter import passes
from lib.clusters.kmeans import KMeans
from lib.clusters.purity import purity_table


def compare(
    folders: dict[int, Path], texts: pd.DataFrame, probabilities: np.ndarray, **options: Any
) -> pd.DataFrame:
    """Measure and filter the corpus once per number of clusters.

    Inertia always falls and purity always rises with more clusters; purity's lower bound and the
    share kept need not.

    Args:
        folders: number of clusters -> folder that `lib.clusters.kmeans.cluster` has filled.
        texts: predicted, confidence; n rows. probabilities: float32 [n, 3].
        options: of `lib.clusters.filter.passes`.
    Returns:
        One row per number: clusters, inertia (mean squared distance), mean_purity and
        mean_purity_lower_bound (means over texts), kept_share.
    """
    rows = []
    for clusters, folder in sorted(folders.items()):
        assigned = np.load(folder / "assigned.npy")
        table = purity_table(assigned, probabilities, clusters)
        row = {"clusters": clusters, "inertia": KMeans.load(folder / "kmeans.npz").inertia}
        for name in ("purity", "purity_lower_bound"):
            row[f"mean_{name}"] = table[name].to_numpy()[assigned].mean()
        kept = passes(texts.assign(cluster=assigned), table, **options)
        rows.append(row | {"kept_share": kept.mean()})
    return pd.DataFrame(rows)
