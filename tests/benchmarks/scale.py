"""Steps 03 and 04 after the encoder, at any number of simulated vectors.

    python tests/benchmarks/scale.py --points 300000 600000 1200000 2400000

Vectors with cluster structure are written as step 03 writes them; then PCA with projection,
K-Means, purity and filter run by the functions of the notebooks, in a process of their own whose
peak memory is measured.

How to read it: seconds should grow no faster than the number of vectors, except for K-Means, which
trains on a sample and then only assigns; memory should grow by little more than the files mapped
into it, 4 bytes for each dimension after PCA of each vector.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from common import Mixture, alone
from tqdm import tqdm

from lib.clusters import filter as filter_
from lib.clusters import kmeans, purity
from lib.embeddings import pca, store
from lib.parameters import ClusterPurityParams
from lib.runs.steps import machine

COMPONENTS, SHARD_SIZE = 3000, 50_000


def main(arguments: list[str] | None = None) -> pd.DataFrame:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--points", type=int, nargs="+", default=[100_000], help="vectors")
    parser.add_argument("--dim", type=int, default=768, help="dimensions; default 768")
    parser.add_argument("--pca", type=int, default=128, help="PCA dimensions; default 128")
    parser.add_argument("--clusters", type=int, default=2000, help="default 2000")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where the files go; default: a temporary one")
    options = parser.parse_args(arguments)
    rows = []
    for points in options.points:
        with tempfile.TemporaryDirectory(prefix="scale-", dir=options.folder) as name:
            write_simulated_store(Path(name) / "embeddings", points, options.dim, options.seed)
            params = ClusterPurityParams(clusters=options.clusters, seed=options.seed)
            found, seconds, peak = alone(run_stages, Path(name), options.pca, params)
            rows.append({"points": points, **found, "total s": seconds, "peak GiB": peak})
    table = pd.DataFrame(rows)
    print(f"{machine()}; {options.dim} -> {options.pca} dimensions, {options.clusters} clusters")
    print(table.to_string(index=False, float_format="%.4g"))
    return table


def write_simulated_store(folder: Path, points: int, dimensions: int, seed: int) -> None:
    """Embeddings as `lib.embeddings.store` leaves them.

    Texts of a component of the mixture mostly get that component's class, more or less surely.
    """
    mixture = Mixture(dimensions, min(COMPONENTS, points), seed)
    rng = np.random.default_rng(seed)
    sure = rng.dirichlet([0.4, 0.4, 0.4], size=len(mixture.weights))
    folder.mkdir(parents=True)
    sizes = []
    chunks = mixture.chunks(points, SHARD_SIZE)
    total = -(-points // SHARD_SIZE)
    for number, (vectors, component) in enumerate(tqdm(chunks, "simulated shards", total)):
        noise = rng.gumbel(size=(len(vectors), 3)) * 0.5
        logits = 2 * np.log(sure[component] + 1e-3) + noise
        probabilities = np.exp(logits - logits.max(1, keepdims=True))
        probabilities /= probabilities.sum(1, keepdims=True)
        start = number * SHARD_SIZE
        text_id = np.arange(start, start + len(vectors), dtype=np.uint64)
        store.write_shard(folder, number, vectors, probabilities.astype(np.float32), text_id)
        sizes.append(len(vectors))
    store.write_index(folder, sizes)


def run_stages(folder: Path, dimensions: int, params: ClusterPurityParams) -> dict[str, Any]:
    """The measured process: seconds of each stage, and the share of texts that is kept."""
    found: dict[str, Any] = {}
    last = time.perf_counter()

    def done(stage: str) -> None:
        nonlocal last
        now = time.perf_counter()
        found[f"{stage} s"] = now - last
        last = now

    for part in ("pca", "kmeans"):
        (folder / part).mkdir()
    pca.fit_and_project(folder / "pca", embeddings=folder / "embeddings", dimensions=dimensions)
    done("pca")
    kmeans.cluster(
        folder / "kmeans",
        vectors=folder / "pca" / "reduced.npy",
        clusters=params.clusters,
        restarts=params.kmeans_restarts,
        sample=params.kmeans_sample,
        seed=params.seed,
    )
    done("kmeans")
    assigned = np.load(folder / "kmeans" / "assigned.npy")
    probabilities = store.read_probabilities(folder / "embeddings")
    table = purity.purity_table(assigned, probabilities, params.clusters)
    done("purity")
    options = filter_.options(params)
    about = {"cluster": assigned, "audit_label": np.full(len(assigned), -1, dtype=np.int8)}
    about |= {
        "predicted": probabilities.argmax(1),
        "confidence": probabilities.max(1),
        "source": "",
    }
    texts = pd.DataFrame(about)
    kept = filter_.passes(texts, table, **options)
    filter_.frontier(texts, table, **options)
    done("filter")
    return found | {"kept": float(kept.mean())}


if __name__ == "__main__":
    main()
