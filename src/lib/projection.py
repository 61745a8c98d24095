"""The corpus as a map: UMAP in two dimensions."""

from __future__ import annotations

import numpy as np


def umap_points(vectors: np.ndarray, neighbors: int, seed: int) -> np.ndarray:
    """UMAP with a fixed seed, on one thread: the same input gives the same map.

    Args:
        vectors: float [n, d]; neighbors: as `umap_neighbors` in `lib.params`.
    Returns:
        float32 [n, 2].
    Reference:
        McInnes, Healy, Melville 2018, arXiv:1802.03426.
    """
    import umap  # compiles for seconds: only where it is used

    reducer = umap.UMAP(
        n_neighbors=min(neighbors, len(vectors) - 1), min_dist=0.1, random_state=seed, n_jobs=1
    )
    return reducer.fit_transform(np.asarray(vectors, dtype=np.float32))
