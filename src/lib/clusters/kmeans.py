"""K-Means on memory-mapped vectors: trained on a sample, every vector assigned.

Lloyd's algorithm by faiss, whose search for the nearest centre is one matrix product; faiss also
draws the sample, restarts and stops early. It starts with AFK-MC2, which is as good as k-means++ at
a fraction of its time: 0.6 s against 4 s for 1,000 centres from 250,000 x 128 vectors on two cores,
where the iterations take 8 s. More iterations of one start lower the inertia more than restarts in
the same time; restarts pay with few clusters. A few iterations on all vectors take out the noise of
the sample. A cluster may stay empty, above all where texts repeat: nothing later minds.

Reference: Bachem, Lucic, Hassani, Krause 2016, "Fast and Provably Good Seedings for k-Means".
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from tqdm import tqdm

from lib.errors import UserError
from lib.files import atomic

CHUNK = 100_000  # vectors in memory at a time; 51 MB at 128 dimensions
START = {"init_method": faiss.ClusteringInitMethod_AFK_MC2, "afkmc2_chain_length": 200}
TRAINING = {"niter": 100, "early_stop_threshold": 1e-4}  # of the inertia; ends it after about 40
FINAL = {"niter": 5, "early_stop_threshold": 1e-3}  # on all vectors


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

    def assign(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Nearest centroid: [n, d], may be memory-mapped -> cluster int32 [n], distance float32."""
        index = faiss.IndexFlatL2(self.centroids.shape[1])
        index.add(np.ascontiguousarray(self.centroids))
        clusters = np.empty(len(vectors), dtype=np.int32)
        distances = np.empty(len(vectors), dtype=np.float32)
        starts = range(0, len(vectors), CHUNK)
        for start in tqdm(starts, desc="nearest centroids", leave=False, disable=len(starts) < 10):
            rows = slice(start, start + CHUNK)
            squared, nearest = index.search(np.ascontiguousarray(vectors[rows], np.float32), 1)
            clusters[rows], distances[rows] = nearest[:, 0], np.sqrt(squared[:, 0].clip(0))
        return clusters, distances


def cluster(
    folder: Path, *, vectors: Path, clusters: int, restarts: int, sample: int, seed: int
) -> None:
    """Write kmeans.npz, assigned.npy (int32 [n]) and distance.npy (float32 [n], to the centre).

    Args:
        vectors: .npy file of float32 [n, d].
        restarts: number of starts, of which the best counts; sample: vectors to train on.
    Raises:
        UserError: fewer vectors (or a smaller sample) than clusters.
    """
    points = np.load(vectors, mmap_mode="r")
    if min(len(points), sample) < clusters:
        raise UserError(
            f"04_cluster_purity.clusters: {clusters} clusters need at least as many texts; the "
            f"corpus has {len(points)} and kmeans_sample is {sample}; lower clusters or add texts"
        )
    options = {"nredo": restarts, "seed": seed, **START, **TRAINING}
    centroids = _lloyd(points, clusters, sample, None, **options)
    if sample < len(points):
        centroids = _lloyd(points, clusters, len(points), centroids, **FINAL)
    fitted = KMeans(centroids, np.inf)
    assigned, distance = fitted.assign(points)
    fitted.inertia = float(np.square(distance, dtype=np.float64).mean())
    for name, values in (("assigned", assigned), ("distance", distance)):
        with atomic(folder / f"{name}.npy") as temporary:
            np.save(temporary, values)
    fitted.save(folder / "kmeans.npz")


def _lloyd(
    points: np.ndarray, clusters: int, sample: int, start: np.ndarray | None, **options: Any
) -> np.ndarray:
    """Centroids float32 [k, d] by faiss, which never makes a copy of memory-mapped points."""
    limits = {"min_points_per_centroid": 1, "max_points_per_centroid": -(-sample // clusters)}
    lloyd = faiss.Kmeans(points.shape[1], clusters, **limits, **options)
    lloyd.train(points, init_centroids=start)
    return np.array(lloyd.centroids)
