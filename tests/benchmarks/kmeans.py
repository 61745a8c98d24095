"""K-Means on simulated clusters: time and inertia, against scikit-learn and fastkmeans.

    python tests/benchmarks/kmeans.py --points 1000000 --dim 128 --clusters 2000

Time is that from float32 vectors in memory to the centroids and the cluster of every vector, each
contestant in its own way of stopping (printed beside it); ours also reads and writes its files.
Inertia is the mean squared distance of all vectors to their nearest centroid, computed alike for
all.

How to read it: faster is only better at like inertia. `relative inertia` is that to scikit-learn's
KMeans, where it ran; 1.01 is 1% worse.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from common import Mixture

from lib.clusters import kmeans
from lib.parameters import ClusterPurityParams
from lib.runs.steps import machine

REFERENCE = "scikit-learn KMeans"
SAMPLE = ClusterPurityParams().kmeans_sample


def main(arguments: list[str] | None = None) -> pd.DataFrame:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--points", type=int, default=200_000, help="vectors; default 200000")
    parser.add_argument("--dim", type=int, default=128, help="dimensions; default 128")
    parser.add_argument("--clusters", type=int, default=1000, help="default 1000")
    parser.add_argument("--seed", type=int, default=0, help="of the data and of every contestant")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", default=[""], help="contestants with this in the name"
    )
    options = parser.parse_args(arguments)
    mixture = Mixture(options.dim, options.clusters * 3 // 2, options.seed)
    vectors = np.concatenate([part for part, _ in mixture.chunks(options.points)])
    print(f"{machine()}\n{len(vectors):,} x {options.dim}, {options.clusters} clusters")
    rows = []
    for name, (stops, fit) in contestants(vectors, options.clusters, options.seed).items():
        if any(part in name for part in options.only):
            started = time.perf_counter()
            centroids = fit()
            seconds = time.perf_counter() - started
            row = {"contestant": name, "stops": stops, "seconds": seconds}
            rows.append(row | {"inertia": inertia(vectors, centroids)})
            print(f"{name}: {seconds:.1f} s", flush=True)
    table = pd.DataFrame(rows)
    reference = table[table["contestant"] == REFERENCE]
    if len(reference):
        table["times faster"] = reference["seconds"].item() / table["seconds"]
        table["relative inertia"] = table["inertia"] / reference["inertia"].item()
    print(table.to_string(index=False, float_format="%.4g"))
    return table


def inertia(vectors: np.ndarray, centroids: np.ndarray) -> float:
    """Mean squared distance to the nearest centroid."""
    import faiss

    index = faiss.IndexFlatL2(vectors.shape[1])
    index.add(np.ascontiguousarray(centroids, dtype=np.float32))
    return float(index.search(vectors, 1)[0].clip(0).mean(dtype=np.float64))


def contestants(
    vectors: np.ndarray, clusters: int, seed: int
) -> dict[str, tuple[str, Callable[[], np.ndarray]]]:
    """Name -> how it stops, and a function that fits and gives its centroids, float32 [k, d]."""

    def ours(sample: int) -> np.ndarray:
        with tempfile.TemporaryDirectory() as name:
            path, folder = Path(name) / "reduced.npy", Path(name) / "kmeans"
            np.save(path, vectors)
            folder.mkdir()
            options = {"clusters": clusters, "restarts": 1, "sample": sample, "seed": seed}
            kmeans.cluster(folder, vectors=path, **options)
            return kmeans.KMeans.load(folder / "kmeans.npz").centroids

    def scikit_learn(**options: object) -> np.ndarray:
        from sklearn.cluster import KMeans

        model = KMeans(clusters, n_init=1, random_state=seed, **options)
        return model.fit(vectors).cluster_centers_

    def mini_batch() -> np.ndarray:
        from sklearn.cluster import MiniBatchKMeans

        model = MiniBatchKMeans(clusters, batch_size=8192, n_init=1, random_state=seed)
        return model.fit(vectors).cluster_centers_

    def fast_kmeans() -> np.ndarray:
        from fastkmeans import FastKMeans

        model = FastKMeans(vectors.shape[1], clusters, niter=25, gpu=False, seed=seed)
        model.train(vectors)
        model.predict(vectors)
        return model.centroids

    def random_start() -> np.ndarray:
        return scikit_learn(init="random", max_iter=25)

    found = {"ours, trained on all": ("see lib.clusters.kmeans", lambda: ours(len(vectors)))}
    if len(vectors) > SAMPLE:
        found[f"ours, trained on {SAMPLE:,}"] = ("the same", lambda: ours(SAMPLE))
    return found | {
        "fastkmeans": ("25 iterations", fast_kmeans),
        "scikit-learn MiniBatchKMeans": ("its defaults, batches of 8192", mini_batch),
        "scikit-learn KMeans, random start": ("25 iterations", random_start),
        REFERENCE: ("its defaults: tol 1e-4 or 300 iterations", scikit_learn),
    }


if __name__ == "__main__":
    main()
