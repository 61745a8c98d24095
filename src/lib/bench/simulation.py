"""Simulated vectors with cluster structure, for benchmarks that need more texts than there are."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


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
            vectors = rng.standard_normal((count, len(self.scale)), dtype=np.float32)
            vectors *= self.scale
            vectors *= self.widths[drawn, None]
            vectors += self.centres[drawn]
            yield vectors, drawn
