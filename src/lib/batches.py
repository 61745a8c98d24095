"""Tokenised texts, and in which batches a training loop sees them.

Batches are a function of the step's number, so a run can stop and go on with the same ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib.encoder import Encoder

LENGTH_POOL = 32  # batches sorted by length together: little padding, yet well mixed


@dataclass
class Texts:
    """Tokenised texts and what the losses need of them.

    token_ids: n arrays of int32; labels: int64 [n]; weights: float32 [n]; targets: float32
    [n, classes], what the class loss wants (the label, or probabilities); clusters: int64 [n].
    """

    token_ids: list[np.ndarray]
    labels: np.ndarray
    weights: np.ndarray
    targets: np.ndarray
    clusters: np.ndarray

    @classmethod
    def build(
        cls, encoder: Encoder, frame: pd.DataFrame, weights: np.ndarray | None = None
    ) -> Texts:
        """From a frame with `text`, `label` and maybe `cluster`; weights default to 1."""
        if weights is None:
            weights = np.ones(len(frame))
        labels = frame["label"].to_numpy(dtype=np.int64)
        clusters = frame["cluster"] if "cluster" in frame else np.zeros(len(frame))
        return cls(
            encoder.tokenize(frame["text"].tolist()),
            labels,
            weights.astype(np.float32),
            np.eye(encoder.model.config.num_labels, dtype=np.float32)[labels],
            np.asarray(clusters, dtype=np.int64),
        )

    def batch(self, rows: np.ndarray, device: torch.device) -> Batch:
        """What the losses need of some texts."""
        arrays = (self.labels, self.weights, self.targets, self.clusters)
        return Batch(*(torch.from_numpy(array[rows]).to(device) for array in arrays))


@dataclass
class Batch:
    """labels int64 [n]; weights float32 [n]; targets float32 [n, classes]; clusters int64 [n]."""

    labels: Tensor
    weights: Tensor
    targets: Tensor
    clusters: Tensor


class Batches(Protocol):
    """A batch per step number: indices of texts, int64 [any]."""

    def __getitem__(self, step: int) -> np.ndarray: ...


class ShuffledBatches:
    """Every text once per epoch, in random batches of texts of similar length.

    Args:
        lengths: tokens per text, int [n].
        batch_size: texts per batch.
        seed: same seed, same batches.
    """

    def __init__(self, lengths: np.ndarray, batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed = np.asarray(lengths), batch_size, seed
        self.per_epoch = math.ceil(len(self.lengths) / batch_size)
        self._epoch = lru_cache(maxsize=1)(self._shuffle)

    def __getitem__(self, step: int) -> np.ndarray:
        return self._epoch(step // self.per_epoch)[step % self.per_epoch]

    def _shuffle(self, epoch: int) -> list[np.ndarray]:
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(len(self.lengths))
        batches = []
        for start in range(0, len(order), self.batch_size * LENGTH_POOL):
            pool = order[start : start + self.batch_size * LENGTH_POOL]
            pool = pool[np.argsort(self.lengths[pool], kind="stable")]
            batches += [pool[i : i + self.batch_size] for i in range(0, len(pool), self.batch_size)]
        return [batches[i] for i in rng.permutation(len(batches))]
