"""How many clusters: what K-Means with several numbers of clusters would give, side by side."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.metrics import silhouette_score
from tqdm import tqdm

from lib.kmeans import fit_kmeans
from lib.purity import purity_table
from lib.reliability import reliable

SILHOUETTE_TEXTS = 5_000  # its time and memory grow with their square


def compare_cluster_counts(
    vectors: np.ndarray,
    probabilities: np.ndarray,
    counts: list[int],
    *,
    filter_options: dict[str, object],
    iterations: int,
    restarts: int,
    sample: int,
    seed: int,
) -> pd.DataFrame:
    """Cluster, measure and filter the corpus once per number of clusters.

    Inertia always falls and purity always rises with more clusters; the silhouette (Rousseeuw
    1987) and the share kept need not.

    Args:
        vectors: float32 [n, d], may be memory-mapped; probabilities: float32 [n, 3].
        counts: numbers of clusters.
        filter_options: of `lib.reliability.reliable`.
        iterations, restarts, sample, seed: of `lib.kmeans.fit_kmeans`.
    Returns:
        One row per count: clusters, inertia, silhouette (of a random sample of texts, in
        [-1, 1]), mean_purity and mean_purity_lower_bound (means over texts), kept_share.
    """
    rng = np.random.default_rng(seed)
    shown = np.sort(
        rng.choice(len(vectors), size=min(SILHOUETTE_TEXTS, len(vectors)), replace=False)
    )
    rows = []
    for clusters in tqdm(counts, desc="numbers of clusters", disable=len(counts) < 2):
        kmeans, assigned, _ = fit_kmeans(
            vectors, clusters, iterations=iterations, restarts=restarts, sample=sample, seed=seed
        )
        table = purity_table(assigned, probabilities, clusters)
        kept = reliable(assigned, probabilities, table, **filter_options)
        weights = table["size"] / len(assigned)
        distinct = len(np.unique(assigned[shown]))
        rows.append(
            {
                "clusters": clusters,
                "inertia": kmeans.inertia,
                "silhouette": float(silhouette_score(vectors[shown], assigned[shown]))
                if 1 < distinct < len(shown)
                else np.nan,
                "mean_purity": float((table["purity"].fillna(0) * weights).sum()),
                "mean_purity_lower_bound": float(
                    (table["purity_lower_bound"].fillna(0) * weights).sum()
                ),
                "kept_share": float(kept.mean()),
            }
        )
    return pd.DataFrame(rows)
