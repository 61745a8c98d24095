"""The corpus as a map: UMAP in two dimensions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from lib.artifacts import atomic


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


def write_map(path: Path, rows: np.ndarray, points: np.ndarray) -> None:
    """Write umap.parquet, atomically: `row` in the corpus and place `x`, `y` of each text shown."""
    frame = pd.DataFrame({"row": rows, "x": points[:, 0], "y": points[:, 1]})
    with atomic(path) as temporary:
        frame.to_parquet(temporary, index=False)


def read_map(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read what `write_map` wrote: rows int64 [m], points float32 [m, 2]."""
    frame = pd.read_parquet(path)
    return frame["row"].to_numpy(), frame[["x", "y"]].to_numpy()
