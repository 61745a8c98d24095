"""K-Means on memory-mapped vectors: trained on a sample, every vector assigned, no empty cluster.

Lloyd's algorithm by faiss, whose search for the nearest centre is one matrix product and runs at
the speed of the processor's float32 products. What else was decided by measuring (200k x 128
vectors, 1000 clusters): k-means++ starts (Arthur and Vassilvitskii 2007) cost a quarter of the
whole training when drawn from all vectors and next to nothing from `START_TEXTS` per cluster, and
more iterations of one start lower the inertia more than restarts in the same time. Restarts pay
with few clusters.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
from scipy.sparse import csr_matrix
from tqdm import tqdm

from lib.artifacts import atomic
from lib.errors import UserError
from lib.schema import ClusterPurityParams

CHUNK = 100_000  # vectors in memory at a time; 51 MB at 128 dimensions
START_TEXTS = 30  # vectors per cluster from which k-means++ draws its start
TOLERANCE = 1e-4  # training stops when an iteration lowers the inertia by a smaller share
FINAL_ITERATIONS = 5  # the most iterations on all vectors after training on a sample
FINAL_TOLERANCE = 1e-3


@dataclass
class KMeans:
    """centroids float32 [k, d]; inertia: mean squared distance of the assigned texts."""

    centroids: np.ndarray
    inertia: float

    def save(self, path: Path) -> None:
        """Write as .npz, atomically."""
        with atomic(path) as temporary:
            np.savez(temporary, centroids=self.centroids, inertia=self.inertia)

    @classmethod
    def load(cls, path: Path) -> KMeans:
        """Read what `save` wrote."""
        with np.load(path) as content:
            return cls(content["centroids"], float(content["inertia"]))

    def assign(self, vectors: np.ndarray, chunk: int = CHUNK) -> tuple[np.ndarray, np.ndarray]:
        """Nearest centroid: vectors [n, d] -> cluster int32 [n], distance float32 [n].

        Vectors may be memory-mapped; `chunk` of them are in memory at a time.
        """
        clusters = np.empty(len(vectors), dtype=np.int32)
        distances = np.empty(len(vectors), dtype=np.float32)
        for rows, _, nearest, distance in self._nearest(vectors, chunk):
            clusters[rows], distances[rows] = nearest, distance
        return clusters, distances

    def update(self, vectors: np.ndarray) -> None:
        """One Lloyd iteration on all vectors: centroids become the means of their texts.

        `inertia` becomes that of the centroids before.
        """
        count, total = len(self.centroids), 0.0
        sums = np.zeros(self.centroids.shape)
        sizes = np.zeros(count, dtype=np.int64)
        for _, part, nearest, distance in self._nearest(vectors, CHUNK):
            ones = np.ones(len(part), dtype=np.float32)
            members = csr_matrix((ones, (nearest, np.arange(len(part)))), (count, len(part)))
            sums += members @ part
            sizes += np.bincount(nearest, minlength=count)
            total += float(np.square(distance, dtype=np.float64).sum())
        self.inertia = total / len(vectors)
        filled = sizes > 0
        self.centroids[filled] = sums[filled] / sizes[filled, None]

    def _nearest(
        self, vectors: np.ndarray, chunk: int
    ) -> Iterator[tuple[slice, np.ndarray, np.ndarray, np.ndarray]]:
        index = faiss.IndexFlatL2(self.centroids.shape[1])
        index.add(np.ascontiguousarray(self.centroids))
        starts = range(0, len(vectors), chunk)
        for start in tqdm(starts, desc="nearest centroids", leave=False, disable=len(starts) < 10):
            rows = slice(start, start + chunk)
            part = np.ascontiguousarray(vectors[rows], dtype=np.float32)
            squared, nearest = index.search(part, 1)
            yield rows, part, nearest[:, 0], np.sqrt(np.maximum(squared[:, 0], 0))


def options(params: ClusterPurityParams) -> dict[str, int]:
    """The arguments of `fit_kmeans` that are parameters of step 04, but the number of clusters."""
    return {
        "iterations": params.kmeans_iterations,
        "restarts": params.kmeans_restarts,
        "sample": params.kmeans_sample,
        "seed": params.seed,
    }


def fit_kmeans(
    vectors: np.ndarray,
    clusters: int,
    *,
    iterations: int,
    restarts: int,
    sample: int,
    seed: int,
) -> tuple[KMeans, np.ndarray, np.ndarray]:
    """K-Means of a random sample of the vectors, then a few iterations on all.

    Args:
        vectors: float32 [n, d], may be memory-mapped.
        clusters, iterations, restarts, sample: see `lib.schema.ClusterPurityParams`.
    Returns:
        The fitted KMeans; cluster int32 [n] and distance float32 [n] of every vector. No cluster
        is empty unless there are fewer distinct vectors than clusters.
    Raises:
        UserError: fewer vectors (or a smaller sample) than clusters.
    """
    count = len(vectors)
    if min(count, sample) < clusters:
        raise UserError(
            f"04_cluster_purity.clusters: {clusters} clusters need at least as many texts; the "
            f"corpus has {count} and kmeans_sample is {sample}; lower clusters or add texts"
        )
    rng = np.random.default_rng(seed)
    if sample < count:
        rows = np.sort(rng.choice(count, size=sample, replace=False))
        train = np.ascontiguousarray(vectors[rows], dtype=np.float32)
    else:
        train = np.ascontiguousarray(vectors, dtype=np.float32)
    fits = []
    for restart in tqdm(range(restarts), desc="k-means", leave=False, disable=restarts == 1):
        start = _kmeans_plus_plus(train, clusters, seed + restart)
        fits.append(_lloyd(train, start, iterations, seed))
    kmeans = min(fits, key=lambda fit: fit.inertia)
    if sample < count:
        _finish(kmeans, vectors)
    return _without_empty(kmeans, vectors)


def _kmeans_plus_plus(train: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    rows = np.arange(len(train))
    if START_TEXTS * clusters < len(train):
        rng = np.random.default_rng(seed)
        rows = np.sort(rng.choice(len(train), size=START_TEXTS * clusters, replace=False))
    part = np.ascontiguousarray(train[rows])
    start = np.empty((clusters, train.shape[1]), dtype=np.float32)
    method = faiss.ClusteringInitialization(train.shape[1], clusters)
    method.method = faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS
    method.seed = seed
    method.init_centroids(len(part), faiss.swig_ptr(part), faiss.swig_ptr(start))
    return start


def _lloyd(train: np.ndarray, start: np.ndarray, iterations: int, seed: int) -> KMeans:
    clusters = len(start)
    lloyd = faiss.Kmeans(
        train.shape[1],
        clusters,
        niter=iterations,
        seed=seed,
        early_stop_threshold=TOLERANCE,
        min_points_per_centroid=1,
        max_points_per_centroid=max(1, -(-len(train) // clusters)) + 1,  # the sample is ours
    )
    lloyd.train(train, init_centroids=start)
    return KMeans(np.asarray(lloyd.centroids), float(lloyd.obj[-1]) / len(train))


def _finish(kmeans: KMeans, vectors: np.ndarray) -> None:
    """Iterations on all vectors, which take out the noise of the sample, while they pay."""
    previous = np.inf
    for _ in range(FINAL_ITERATIONS):
        kmeans.update(vectors)
        if kmeans.inertia > previous * (1 - FINAL_TOLERANCE):
            break
        previous = kmeans.inertia


def _without_empty(kmeans: KMeans, vectors: np.ndarray) -> tuple[KMeans, np.ndarray, np.ndarray]:
    """Move the centroids of empty clusters onto the texts farthest from their own centroid.

    With fewer distinct vectors than clusters some stay empty.
    """
    for _ in range(len(kmeans.centroids)):
        assigned, distances = kmeans.assign(vectors)
        sizes = np.bincount(assigned, minlength=len(kmeans.centroids))
        empty = np.flatnonzero(sizes == 0)
        if not len(empty) or not distances.any():
            break
        distances[sizes[assigned] == 1] = -1.0  # a text alone in its cluster stays there
        farthest = np.argsort(-distances, kind="stable")[: 20 * len(empty)]
        _, first = np.unique(vectors[farthest], axis=0, return_index=True)  # copies count once
        farthest = farthest[np.sort(first)][: len(empty)]
        kmeans.centroids[empty[: len(farthest)]] = vectors[farthest]
    kmeans.inertia = float((distances.astype(np.float64) ** 2).mean())
    return kmeans, assigned, distances
