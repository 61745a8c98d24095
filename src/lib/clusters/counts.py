"""How many clusters: what finished K-Means with several numbers of clusters give, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import silhouette_score
from tqdm import tqdm

from lib.clusters.filter import reliable
from lib.clusters.kmeans import KMeans
from lib.clusters.purity import purity_table

SILHOUETTE_TEXTS = 5_000  # its time and memory grow with their square


def compare(
    folders: dict[int, Path],
    vectors: np.ndarray,
    probabilities: np.ndarray,
    *,
    filter_options: dict[str, Any],
    seed: int,
) -> pd.DataFrame:
    """Measure and filter the corpus once per number of clusters.

    Inertia always falls and purity always rises with more clusters; the silhouette (Rousseeuw
    1987) and the share kept need not.

    Args:
        folders: number of clusters -> folder that `lib.clusters.kmeans.cluster` has filled.
        vectors: float32 [n, d], may be memory-mapped; probabilities: float32 [n, 3].
        filter_options: of `lib.clusters.filter.passes`; seed: of the silhouette's texts.
    Returns:
        One row per number: clusters, inertia, silhouette (in [-1, 1]), mean_purity and
        mean_purity_lower_bound (means over texts), kept_share.
    """
    size = min(SILHOUETTE_TEXTS, len(vectors))
    shown = np.sort(np.random.default_rng(seed).choice(len(vectors), size, replace=False))
    rows = []
    for clusters, folder in tqdm(sorted(folders.items()), desc="numbers of clusters", leave=False):
        assigned = np.load(folder / "assigned.npy")
        table = purity_table(assigned, probabilities, clusters)
        defined = 1 < len(np.unique(assigned[shown])) < size
        row = {
            "clusters": clusters,
            "inertia": KMeans.load(folder / "kmeans.npz").inertia,
            "silhouette": silhouette_score(vectors[shown], assigned[shown]) if defined else np.nan,
        }
        for name in ("purity", "purity_lower_bound"):
            row[f"mean_{name}"] = table[name].to_numpy()[assigned].mean()
        kept = reliable(assigned, probabilities, table, **filter_options)
        rows.append(row | {"kept_share": kept.mean()})
    return pd.DataFrame(rows)
