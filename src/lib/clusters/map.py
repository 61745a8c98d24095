"""The corpus as a map: UMAP in two dimensions (McInnes, Healy, Melville 2018, arXiv:1802.03426)."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from lib.files import write_parquet

NEIGHBORS = 15  # umap's default


def project(folder: Path, *, vectors: Path, assigned: Path, points: int, seed: int) -> None:
    """Write umap.parquet: `row` in the corpus and place `x`, `y` of each text of the map.

    Args:
        vectors: .npy file of float32 [n, d]; assigned: .npy file of int [n], clusters.
        points: texts in the map; every cluster has its share.
    """
    rows = stratified_sample(np.load(assigned), points, seed)
    x, y = umap_points(np.load(vectors, mmap_mode="r")[rows], seed).T
    write_parquet(folder / "umap.parquet", pd.DataFrame({"row": rows, "x": x, "y": y}))


def stratified_sample(assigned: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Rows of a random sample in which every cluster has its share, and one text at least.

    Args:
        assigned: int [n], cluster of each text.
        count: texts to draw; with fewer than clusters, each is of another one.
    Returns:
        Sorted row numbers, int64 [min(count, n)], without repetition.
    """
    shuffled = pd.Series(assigned).sample(frac=1, random_state=seed)
    clusters = shuffled.groupby(shuffled)
    place = clusters.cumcount()
    # one text of every cluster; of n texts, the k-th more stands at (k - 1/2) / n
    rank = ((place - 0.5) / clusters.transform("size")).where(place > 0, -1.0)
    return np.sort(rank.sort_values(kind="stable").index.to_numpy()[:count])


def read_map(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read umap.parquet: rows int64 [m], points float32 [m, 2]."""
    frame = pd.read_parquet(path)
    return frame["row"].to_numpy(), frame[["x", "y"]].to_numpy()


def umap_points(vectors: np.ndarray, seed: int) -> np.ndarray:
    """UMAP with a fixed seed, on one thread: the same input gives the same map.

    The neighbours are exact: umap's own search for 4,096 points and more is approximate, and
    numba compiles it for a minute in every process.

    Args:
        vectors: float [n, d].
    Returns:
        float32 [n, 2].
    """
    import umap.layouts  # seconds: the explorer reads maps without it
    from sklearn.neighbors import NearestNeighbors

    umap.layouts.tqdm = tqdm  # its own makes a widget, which an executed notebook cannot show
    for function in (
        umap.umap_.smooth_knn_dist,
        umap.umap_.compute_membership_strengths,
        umap.layouts._nb_optimize_layout_euclidean_single_epoch,
    ):
        function.enable_caching()  # else numba compiles them for ten seconds in every process
    vectors = np.asarray(vectors, dtype=np.float32)
    neighbors = min(NEIGHBORS, len(vectors) - 1)
    search = NearestNeighbors(n_neighbors=neighbors, algorithm="brute").fit(vectors)
    distances, places = search.kneighbors(vectors)  # of each point, as a rule itself first
    reducer = umap.UMAP(
        n_neighbors=neighbors,
        random_state=seed,
        n_jobs=1,
        precomputed_knn=(places, distances),
        tqdm_kwds={"disable": False, "desc": "UMAP", "leave": False},
    )
    with warnings.catch_warnings():
        # a map that later points cannot be added to
        warnings.filterwarnings("ignore", message=r"precomputed_knn\[2\]")
        return reducer.fit_transform(vectors)
