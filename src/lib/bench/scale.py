"""Benchmark `scale`: steps 03 and 04 after the encoder, at any number of simulated vectors.

Vectors with cluster structure are written as a bank, as step 03 writes it; then normalisation,
PCA, K-Means, purity and filter run by the functions of the notebooks, in a process of their own
whose peak memory is measured. Each stage leaves a file: a run that was killed goes on after the
last stage finished.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib.bench.memory import peak_memory

if TYPE_CHECKING:
    import numpy as np

STAGES = ("pca", "project", "cluster", "purity", "filter")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command line."""
    parser.add_argument("--points", type=int, nargs="+", default=[100_000], help="vectors")
    parser.add_argument("--dim", type=int, default=768, help="dimensions; default 768")
    parser.add_argument("--pca", type=int, default=128, help="PCA dimensions; default 128")
    parser.add_argument("--clusters", type=int, default=2000, help="default 2000")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--directory", type=Path, help="where to keep data and stages, to go on from; default: none"
    )
    parser.add_argument("--prepare", action="store_true", help="only write the simulated vectors")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)  # the measured process


def run(options: argparse.Namespace) -> int:
    """Measure and print; returns the exit status."""
    if options.work:
        run_stages(options.work, pca=options.pca, clusters=options.clusters, seed=options.seed)
        return 0
    with tempfile.TemporaryDirectory(prefix="scale-") as temporary:
        rows = []
        for points in options.points:
            folder = (options.directory or Path(temporary)) / f"{points}x{options.dim}"
            write_simulated_bank(folder / "bank", points, options.dim, options.seed)
            if options.prepare:
                continue
            rows.append({"points": points, **_measured(folder, options)})
            if not options.directory:
                shutil.rmtree(folder)
    if rows:
        import pandas as pd

        from lib.artifacts import machine

        print(
            f"{machine()}; {options.dim} -> {options.pca} dimensions, {options.clusters} clusters"
        )
        print(pd.DataFrame(rows).to_string(index=False, float_format="%.4g"))
    return 0


def _measured(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run the stages in a process of their own; their seconds, and its peak memory in GiB."""
    arguments = ["--pca", options.pca, "--clusters", options.clusters, "--seed", options.seed]
    command = [sys.executable, "-m", "lib", "bench", "scale", "--work", folder, *arguments]
    subprocess.run([str(part) for part in command], check=True)
    done = json.loads((folder / "done.json").read_text(encoding="utf-8"))
    seconds = {f"{stage} s": done[stage]["seconds"] for stage in STAGES}
    return {
        **seconds,
        "total s": sum(seconds.values()),
        "peak GiB": max(done[stage]["peak_gib"] for stage in STAGES),
        "explained": done["pca"]["explained_variance"],
        "kept": done["filter"]["kept_share"],
    }


def write_simulated_bank(
    directory: Path,
    points: int,
    dimensions: int,
    seed: int,
    *,
    components: int = 3000,
    shard_size: int = 50_000,
) -> None:
    """A bank as `lib.embedding.write_bank` leaves it; one that is there is kept.

    Texts of a component of the mixture mostly get that component's class, more or less surely.
    """
    import numpy as np
    from tqdm import tqdm

    from lib.bench.simulation import Mixture
    from lib.embedding import INDEX, write_index, write_shard

    if (directory / INDEX).exists():
        return
    mixture = Mixture(dimensions, components, seed)
    rng = np.random.default_rng(seed)
    sure = rng.dirichlet([0.4, 0.4, 0.4], size=len(mixture.weights))
    shards = {}
    chunks = mixture.chunks(points, shard_size)
    total = -(-points // shard_size)
    for number, (vectors, component) in enumerate(tqdm(chunks, "simulated shards", total)):
        noise = rng.gumbel(size=(len(vectors), 3)) * 0.5
        logits = 2 * np.log(sure[component] + 1e-3) + noise
        probabilities = np.exp(logits - logits.max(1, keepdims=True))
        probabilities /= probabilities.sum(1, keepdims=True)
        start = number * shard_size
        path = directory / f"shard-{number:05d}.safetensors"
        text_id = np.arange(start, start + len(vectors), dtype=np.uint64)
        write_shard(path, vectors, probabilities.astype(np.float32), text_id)
        shards[path] = len(vectors)
    write_index(directory, shards)


def run_stages(folder: Path, *, pca: int, clusters: int, seed: int) -> dict[str, dict[str, float]]:
    """The stages that `folder`/done.json does not name yet, in order.

    Args:
        folder: holds `bank`; gets pca.npz, reduced.npy, clusters.npz, purity.parquet and kept.npy.
        pca, clusters, seed: as in the parameters of steps 03 and 04.
    Returns:
        Stage -> its seconds, peak_gib (of the process so far) and figures; also in done.json.
    """
    from lib.artifacts import write_json

    path = folder / "done.json"
    done = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    stages = _Stages(folder, pca, clusters, seed)
    for name in STAGES:
        if name in done:
            continue
        started = time.perf_counter()
        figures = getattr(stages, name)()
        seconds = time.perf_counter() - started
        done[name] = {"seconds": seconds, "peak_gib": peak_memory(), **figures}
        write_json(path, done)
        print(f"{name}: {seconds:.1f} s, {figures}", file=sys.stderr, flush=True)
    return done


class _Stages:
    """Each method is a stage: reads files, writes its file atomically, returns figures."""

    def __init__(self, folder: Path, pca: int, clusters: int, seed: int) -> None:
        from lib.schema import ClusterPurityParams

        self.folder, self.bank, self.dimensions = folder, folder / "bank", pca
        self.params = ClusterPurityParams(clusters=clusters, seed=seed)

    def pca(self) -> dict[str, float]:
        from lib.pca import fit_pca

        pca = fit_pca(self.bank, self.dimensions)
        pca.save(self.folder / "pca.npz")
        return {"explained_variance": float(pca.explained_variance_ratio.sum())}

    def project(self) -> dict[str, float]:
        from lib.pca import PCA, reduce_bank

        reduced = reduce_bank(self.bank, PCA.load(self.folder / "pca.npz"), self._file("reduced"))
        return {"rows": len(reduced)}

    def cluster(self) -> dict[str, float]:
        import numpy as np

        from lib.artifacts import atomic
        from lib.kmeans import fit_kmeans, options

        vectors = np.load(self._file("reduced"), mmap_mode="r")
        chosen = options(self.params)
        kmeans, assigned, distances = fit_kmeans(vectors, self.params.clusters, **chosen)
        with atomic(self._file("clusters")) as temporary, temporary.open("wb") as file:
            np.save(file, assigned)
        empty = self.params.clusters - len(np.unique(assigned))
        return {"inertia": kmeans.inertia, "empty": empty, "largest": float(distances.max())}

    def purity(self) -> dict[str, float]:
        from lib.artifacts import atomic
        from lib.purity import purity_table

        assigned, probabilities = self._predictions()
        table = purity_table(assigned, probabilities, self.params.clusters)
        with atomic(self.folder / "purity.parquet") as temporary:
            table.to_parquet(temporary)
        return {"mean_purity": float(table["purity"].mean())}

    def filter(self) -> dict[str, float]:
        import numpy as np
        import pandas as pd

        from lib.artifacts import atomic
        from lib.reliability import frontier, options, reliable

        assigned, probabilities = self._predictions()
        table = pd.read_parquet(self.folder / "purity.parquet")
        chosen = options(self.params)
        kept = reliable(assigned, probabilities, table, **chosen)
        unknown = np.full(len(kept), -1, dtype=np.int8)
        cells = frontier(assigned, probabilities, table, unknown, **chosen)
        with atomic(self._file("kept")) as temporary, temporary.open("wb") as file:
            np.save(file, kept)
        return {"kept_share": float(kept.mean()), "cells": len(cells)}

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.npy"

    def _predictions(self) -> tuple[np.ndarray, np.ndarray]:
        import numpy as np

        from lib.embedding import read_bank

        probabilities = np.concatenate([shard.probabilities for shard in read_bank(self.bank)])
        return np.load(self._file("clusters")), probabilities
