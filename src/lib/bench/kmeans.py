"""Benchmark `kmeans`: time and inertia of K-Means on simulated clusters, against its peers.

Time is that from float32 vectors in memory to the centroids and the cluster of every vector, each
contestant in its own way of stopping (printed beside it). Inertia is the mean squared distance of
all vectors to their nearest centroid, computed alike for all.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

REFERENCE = "scikit-learn KMeans"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command line."""
    parser.add_argument("--points", type=int, default=200_000, help="vectors; default 200000")
    parser.add_argument("--dim", type=int, default=128, help="dimensions; default 128")
    parser.add_argument("--clusters", type=int, default=1000, help="default 1000")
    parser.add_argument("--seed", type=int, default=0, help="of the data and of every contestant")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="contestants of this name, or with this in it"
    )


def run(options: argparse.Namespace) -> int:
    """Measure and print; returns the exit status."""
    import numpy as np

    from lib.artifacts import machine
    from lib.bench.simulation import Mixture

    mixture = Mixture(options.dim, options.clusters * 3 // 2, options.seed)
    vectors = np.concatenate([part for part, _ in mixture.chunks(options.points)])
    print(f"{machine()}\n{vectors.shape[0]:,} x {vectors.shape[1]}, {options.clusters} clusters")
    table = compare(vectors, options.clusters, options.seed, options.only)
    print(table.to_string(index=False, float_format="%.4g"))
    return 0


def compare(
    vectors: np.ndarray, clusters: int, seed: int, only: list[str] | None = None
) -> pd.DataFrame:
    """Run the contestants one after the other.

    Args:
        vectors: float32 [n, d]; clusters: k; only: names, or parts of names, of those to run.
    Returns:
        contestant, stops (its rule), seconds, inertia and, where scikit-learn's KMeans ran, how
        many times faster than it and inertia relative to it.
    """
    import pandas as pd

    from lib.errors import UserError
    from lib.kmeans import KMeans

    rows = []
    found = contestants(vectors, clusters, seed)
    chosen = {
        name
        for part in only or [""]
        for name in ([part] if part in found else found)
        if part in name
    }
    for name, (stops, fit) in found.items():
        if name not in chosen:
            continue
        started = time.perf_counter()
        try:
            centroids = fit()
        except ImportError as error:
            raise UserError(
                f'{name}: {error}; install it with pip install -e ".[bench]"'
            ) from error
        seconds = time.perf_counter() - started
        _, distances = KMeans(centroids, 0.0).assign(vectors)
        inertia = float((distances.astype("float64") ** 2).mean())
        rows.append({"contestant": name, "stops": stops, "seconds": seconds, "inertia": inertia})
        print(f"{name}: {seconds:.1f} s, inertia {inertia:.5f}", flush=True)
    table = pd.DataFrame(rows)
    reference = table[table["contestant"] == REFERENCE]
    if len(reference):
        table["times faster"] = reference["seconds"].item() / table["seconds"]
        table["relative inertia"] = table["inertia"] / reference["inertia"].item()
    return table


def contestants(
    vectors: np.ndarray, clusters: int, seed: int
) -> dict[str, tuple[str, Callable[[], np.ndarray]]]:
    """Name -> how it stops, and a function that fits and gives its centroids, float32 [k, d]."""
    from lib.schema import ClusterPurityParams

    defaults = ClusterPurityParams()
    iterations, sample = defaults.kmeans_iterations, defaults.kmeans_sample

    def ours(size: int) -> np.ndarray:
        from lib.kmeans import fit_kmeans

        options = {"iterations": iterations, "restarts": 1, "sample": size, "seed": seed}
        return fit_kmeans(vectors, clusters, **options)[0].centroids

    def scikit_learn(**options: object) -> np.ndarray:
        from sklearn.cluster import KMeans

        return (
            KMeans(clusters, n_init=1, random_state=seed, **options).fit(vectors).cluster_centers_
        )

    def mini_batch() -> np.ndarray:
        from sklearn.cluster import MiniBatchKMeans

        fitted = MiniBatchKMeans(clusters, batch_size=8192, n_init=1, random_state=seed)
        return fitted.fit(vectors).cluster_centers_

    def fast_kmeans() -> np.ndarray:
        from fastkmeans import FastKMeans

        fitted = FastKMeans(vectors.shape[1], clusters, niter=25, gpu=False, seed=seed)
        fitted.train(vectors)
        fitted.predict(vectors)
        return fitted.centroids

    rule = f"inertia falls by < 0.01%, or {iterations} iterations"
    found = {"ours, trained on all": (rule, lambda: ours(len(vectors)))}
    if sample < len(vectors):
        found[f"ours, trained on {sample:,}"] = (f"{rule}; then < 0.1%, all", lambda: ours(sample))
    found["fastkmeans"] = ("25 iterations", fast_kmeans)
    found["scikit-learn MiniBatchKMeans"] = ("its defaults, batches of 8192", mini_batch)
    found["scikit-learn KMeans, random start"] = (
        "25 iterations",
        lambda: scikit_learn(init="random", max_iter=25),
    )
    found[REFERENCE] = ("its defaults: tol 1e-4 or 300 iterations", scikit_learn)
    return found
