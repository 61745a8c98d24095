"""The corpus as a map: UMAP in two dimensions."""

from __future__ import annotations

import warnings
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd

from lib.artifacts import atomic


def umap_points(vectors: np.ndarray, neighbors: int, seed: int) -> np.ndarray:
    """UMAP with a fixed seed, on one thread: the same input gives the same map.

    The neighbours are exact: umap's own search for 4,096 points and more is approximate, and
    numba compiles it for a minute in every process.

    Args:
        vectors: float [n, d]; neighbors: as `umap_neighbors` in `lib.params`.
    Returns:
        float32 [n, 2].
    Reference:
        McInnes, Healy, Melville 2018, arXiv:1802.03426.
    """
    from sklearn.neighbors import NearestNeighbors  # the explorer reads maps without it

    umap = compiled_umap()
    vectors = np.asarray(vectors, dtype=np.float32)
    neighbors = min(neighbors, len(vectors) - 1)
    search = NearestNeighbors(n_neighbors=neighbors, algorithm="brute").fit(vectors)
    distances, places = search.kneighbors(vectors)  # of each point, as a rule itself first
    with warnings.catch_warnings():
        # a map that later points cannot be added to
        warnings.filterwarnings("ignore", message=r"precomputed_knn\[2\]")
        reducer = umap.UMAP(
            n_neighbors=neighbors,
            min_dist=0.1,
            random_state=seed,
            n_jobs=1,
            precomputed_knn=(places, distances),
        )
        return reducer.fit_transform(vectors)


@cache
def compiled_umap() -> ModuleType:
    """The module umap, whose compiled functions numba keeps on disk from one process to the next.

    Without this, every notebook with a map compiles them again, for seconds.
    """
    import umap.layouts  # seconds: only where it is used
    import umap.umap_
    from numba.core.dispatcher import Dispatcher

    for function in [*vars(umap.umap_).values(), *vars(umap.layouts).values()]:
        if isinstance(function, Dispatcher):
            with suppress(RuntimeError):  # no folder can be written: compiled each time, then
                function.enable_caching()
    return umap


def write_map(path: Path, rows: np.ndarray, points: np.ndarray) -> None:
    """Write umap.parquet, atomically: `row` in the corpus and place `x`, `y` of each text shown."""
    frame = pd.DataFrame({"row": rows, "x": points[:, 0], "y": points[:, 1]})
    with atomic(path) as temporary:
        frame.to_parquet(temporary, index=False)


def read_map(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read what `write_map` wrote: rows int64 [m], points float32 [m, 2]."""
    frame = pd.read_parquet(path)
    return frame["row"].to_numpy(), frame[["x", "y"]].to_numpy()
