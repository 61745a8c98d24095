"""What the benchmarks share: memory, processes of their own, simulated vectors, texts to read."""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib.data import sources
from lib.errors import UserError


def peak_memory() -> float:
    """Peak resident memory of this process in GiB, mapped files included."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would begin with the memory of the parent
        (line,) = [x for x in status.read_text().splitlines() if x.startswith("VmHWM")]
        return int(line.split()[1]) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


def gpu_memory() -> float:
    """Peak memory of this process's tensors on its GPU in GiB; NaN without one."""
    import torch

    return torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else float("nan")


def alone(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float, float]:
    """Call a function in a process of its own: its result, seconds, and peak memory in GiB."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measured, function, arguments).result()


def _measured(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, float, float]:
    started = time.perf_counter()
    result = function(*arguments)
    return result, time.perf_counter() - started, peak_memory()


def read_texts(data: Path | None, count: int, seed: int) -> list[str]:
    """A random sample of the column `text` of a CSV file, or a folder of them.

    Args:
        data: None for the sample corpus.
    """
    data = data or sources.SAMPLE_DIR / "corpus.csv"
    found = sorted(data.glob("*.csv")) if data.is_dir() else [data]
    if not found or not all(file.exists() for file in found):
        raise UserError(f"--data {data}: no CSV file there")
    frames = [pd.read_csv(file, usecols=["text"], dtype=str) for file in found]
    texts = pd.concat(frames)["text"].dropna()
    return texts.sample(min(count, len(texts)), random_state=seed).tolist()


class Mixture:
    """A mixture of Gaussians whose variance falls along the dimensions as 1/j, as PCA vectors' do.

    Components overlap and differ in weight (log-normal, sigma 1) and in width (0.5 to 1.5 times
    the spread of their centres).

    Args:
        dimensions, components: of the vectors and the mixture.
        seed: of the mixture and of everything drawn from it.
    """

    def __init__(self, dimensions: int, components: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.scale = (np.arange(1, dimensions + 1) ** -0.5).astype(np.float32)
        self.centres = rng.normal(size=(components, dimensions)).astype(np.float32) * self.scale
        weights = rng.lognormal(0.0, 1.0, components)
        self.weights = weights / weights.sum()
        self.widths = rng.uniform(0.5, 1.5, components).astype(np.float32)
        self.seed = seed

    def chunks(self, points: int, chunk: int = 50_000) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """`points` vectors, float32 [<= chunk, d] at a time, with their components int64."""
        for number, start in enumerate(range(0, points, chunk)):
            rng = np.random.default_rng([self.seed, number])
            count = min(chunk, points - start)
            drawn = rng.choice(len(self.weights), size=count, p=self.weights)
            yield self.draw(drawn, rng), drawn

    def draw(self, components: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A vector of each component of int64 [n], float32 [n, d]."""
        vectors = rng.standard_normal((len(components), len(self.scale)), dtype=np.float32)
        vectors *= self.scale
        vectors *= self.widths[components, None]
        vectors += self.centres[components]
        return vectors
