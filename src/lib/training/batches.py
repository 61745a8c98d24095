"""Batches: of like length (02), and of groups of one class and one cluster (05).

Batch i is a function of the seed and i alone, so training can stop and go on with the same ones.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from typing import Protocol

import numpy as np
from sklearn.neighbors import NearestNeighbors
from torch.utils.data import Sampler

from lib import LABELS
from lib.errors import UserError

LENGTH_POOL = 32  # batches sorted by length together: little padding, yet well mixed


class Batches(Protocol):
    """A batch per step number: indices of texts, int64 [size]."""

    size: int

    def __getitem__(self, step: int) -> np.ndarray: ...


class BatchSampler(Sampler[int]):
    """The texts of so many batches, one after the other, for a `DataLoader` of batches of `size`.

    Several processes get neighbouring pieces of it, so together they see one batch. Where it
    cannot be divided among them, its first texts come twice.
    """

    def __init__(self, batches: Batches, steps: int, processes: int = 1) -> None:
        self.batches, self.steps = batches, steps
        self.size = math.ceil(batches.size / processes) * processes

    def __len__(self) -> int:
        return self.steps * self.size

    def __iter__(self) -> Iterator[int]:
        for step in range(self.steps):
            yield from np.resize(self.batches[step], self.size).tolist()


class LengthBatches:
    """Random batches of texts of like length; in an epoch no text comes twice.

    What does not fill a batch is left out, in each epoch other texts.

    Args:
        lengths: tokens per text, int [n].
        batch_size: texts per batch; n if there are fewer.
    """

    def __init__(self, lengths: np.ndarray, batch_size: int, seed: int) -> None:
        self.lengths, self.seed = np.asarray(lengths), seed
        self.size = min(batch_size, len(self.lengths))
        self.per_epoch = len(self.lengths) // self.size
        self._epoch = lru_cache(maxsize=1)(self._shuffle)

    def __getitem__(self, step: int) -> np.ndarray:
        return self._epoch(step // self.per_epoch)[step % self.per_epoch]

    def _shuffle(self, epoch: int) -> list[np.ndarray]:
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(len(self.lengths))[: self.per_epoch * self.size]
        batches: list[np.ndarray] = []
        for start in range(0, len(order), self.size * LENGTH_POOL):
            pool = order[start : start + self.size * LENGTH_POOL]
            pool = pool[np.argsort(self.lengths[pool], kind="stable")]
            batches += np.split(pool, len(pool) // self.size)
        return [batches[i] for i in rng.permutation(len(batches))]


class ClassClusterBatches:
    """Batches of groups; a group is `group_size` texts of one class and one cluster.

    Classes get groups by their share among the gold texts; at least one each. Of a class's groups
    `gold_share` are gold, the rest pseudo-labelled. A cluster is drawn by its number of texts of
    that class; pseudo groups take the clusters of the class's gold groups where those have
    pseudo-labelled texts, so positives share class and, where possible, cluster. Negatives then
    come from groups of other classes, which pure clusters make clusters of another dominant class.

    With `neighbours` negatives are hard: each batch takes a mixed cluster, and up to half of the
    groups of every class come from it and the clusters nearest to it. The other half, from
    anywhere, are positives far apart from those.

    Args:
        labels: int [n].
        clusters: int [n], the cluster of each text.
        is_gold: bool [n].
        groups: groups per batch, at least one per class.
        group_size: texts per group; with fewer texts in the cluster some come twice.
        gold_share: in [0, 1].
        neighbours: int [k, m], for each cluster itself and the nearest others; None: no hard
            negatives.
        seed: batch i depends only on (seed, i).
    Raises:
        UserError: a class without any text of the kind that is asked for.
    """

    def __init__(
        self,
        labels: np.ndarray,
        clusters: np.ndarray,
        is_gold: np.ndarray,
        *,
        groups: int,
        group_size: int,
        gold_share: float,
        seed: int,
        neighbours: np.ndarray | None = None,
    ) -> None:
        self.group_size, self.gold_share, self.seed = group_size, gold_share, seed
        self.size = groups * group_size
        gold_counts = np.bincount(labels[is_gold], minlength=len(LABELS))
        if (gold_counts == 0).any():
            absent = [name for name, n in zip(LABELS, gold_counts, strict=True) if n == 0]
            raise UserError(f"05_metric_learning: gold train has no text of {', '.join(absent)}")
        self.groups_per_class = apportion(gold_counts / gold_counts.sum(), groups)
        self.pools = {
            (label, gold): _Pool(np.flatnonzero((labels == label) & (is_gold == gold)), clusters)
            for label in range(len(LABELS))
            for gold in (True, False)
        }
        self.neighbours = neighbours
        if neighbours is not None:
            self.mixed = minority_shares(labels, clusters, len(neighbours))

    def __getitem__(self, step: int) -> np.ndarray:
        """Indices of the texts of batch `step`, int64 [groups * group_size]."""
        rng = np.random.default_rng([self.seed, step])
        chosen: list[np.ndarray] = []
        near: list[int] = []
        if self.neighbours is not None:
            near = self.neighbours[rng.choice(len(self.mixed), p=self.mixed)].tolist()
        for label, groups in enumerate(self.groups_per_class):
            gold_pool, pseudo_pool = self.pools[label, True], self.pools[label, False]
            # a fraction of a group is settled by chance, so that the share holds on average
            gold_groups = int(np.floor(groups * self.gold_share + rng.random()))
            if not pseudo_pool:
                gold_groups = groups
            local = [c for c in near if c in gold_pool.members][: (gold_groups + 1) // 2]
            gold_clusters = gold_pool.draw_clusters(gold_groups, rng, local)
            pseudo_clusters = pseudo_pool.draw_clusters(groups - gold_groups, rng, gold_clusters)
            chosen += gold_pool.draw_texts(gold_clusters, self.group_size, rng)
            chosen += pseudo_pool.draw_texts(pseudo_clusters, self.group_size, rng)
        return np.concatenate(chosen)


class _Pool:
    """Texts of one class and kind, by cluster."""

    def __init__(self, indices: np.ndarray, clusters: np.ndarray) -> None:
        indices = indices[np.argsort(clusters[indices], kind="stable")]
        names, starts = np.unique(clusters[indices], return_index=True)
        parts = np.split(indices, starts[1:])
        self.members = dict(zip(names.tolist(), parts, strict=False))
        sizes = np.array([len(rows) for rows in self.members.values()], dtype=float)
        self.names = np.array(list(self.members), dtype=np.int64)
        self.shares = sizes / sizes.sum() if len(sizes) else sizes

    def __bool__(self) -> bool:
        return bool(self.members)

    def draw_clusters(
        self, count: int, rng: np.random.Generator, preferred: list[int] | None = None
    ) -> list[int]:
        """Clusters by size, the `preferred` ones first where this pool has them."""
        wanted = [c for c in (preferred or []) if c in self.members][:count]
        missing = count - len(wanted)
        if missing:
            wanted += [int(c) for c in rng.choice(self.names, size=missing, p=self.shares)]
        return wanted

    def draw_texts(
        self, clusters: list[int], group_size: int, rng: np.random.Generator
    ) -> list[np.ndarray]:
        """One group per entry; a text comes twice only if its cluster has too few."""
        drawn = []
        for cluster, groups in Counter(clusters).items():
            # one shuffle, repeated if need be: no group holds a text twice unless it must
            shuffled = rng.permutation(self.members[cluster])
            drawn.append(np.resize(shuffled, groups * group_size))
        return drawn


def minority_shares(labels: np.ndarray, clusters: np.ndarray, k: int) -> np.ndarray:
    """How likely each cluster is where classes meet: its share of texts not of its main class.

    Args:
        labels, clusters: int [n]; k: number of clusters.
    Returns:
        float [k], summing to 1; by size if no cluster is mixed.
    """
    counts = np.zeros((k, len(LABELS)))
    np.add.at(counts, (clusters, labels), 1)
    minority = counts.sum(1) - counts.max(1)
    if minority.sum() == 0:
        minority = counts.sum(1)
    return minority / minority.sum()


def nearest_clusters(centroids: np.ndarray, count: int) -> np.ndarray:
    """For each cluster itself and the nearest others: float [k, d] in, int64 [k, count] out."""
    found = NearestNeighbors(n_neighbors=min(count, len(centroids))).fit(centroids)
    return found.kneighbors(centroids, return_distance=False)


def apportion(shares: np.ndarray, seats: int) -> list[int]:
    """Whole seats by share (largest remainder), at least one each.

    Args:
        shares: float [k], summing to 1; seats: at least k.
    """
    free = seats - len(shares)
    exact = np.asarray(shares) * free
    whole = np.floor(exact).astype(int)
    for i in np.argsort(-(exact - whole), kind="stable")[: free - whole.sum()]:
        whole[i] += 1
    return [int(n) + 1 for n in whole]
