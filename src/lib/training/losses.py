"""`L = λ_class · CE + λ_metric · SupCon` of one batch.

SupCon pulls texts of one class together and pushes the others away, on a projection of the pooled
vector that is dropped after training. With `hard_mining` only a text's farthest positives and its
nearest negatives count; with a memory it is compared with the texts of earlier batches, too.

References: SupCon, Khosla et al. 2020, arXiv:2004.11362; cross-batch memory, Wang et al. 2020,
arXiv:1912.06798.
"""

from __future__ import annotations

import torch
from pytorch_metric_learning import losses, miners, reducers
from pytorch_metric_learning.distances import CosineSimilarity
from torch import Tensor, nn

DIMENSIONS = 128  # of the projection, as in section 3 of the paper
HARD_SHARE = 0.5


def cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean of the cross-entropy.

    Args:
        logits, targets: float [n, classes], targets summing to 1; weights: float [n].
    """
    each = nn.functional.cross_entropy(logits, targets, reduction="none")
    return (each * weights).sum() / weights.sum().clamp(min=1e-6)


class SupCon(nn.Module):
    """SupCon of projected vectors, weighted by text.

    Args:
        hidden_size: d of the pooled vectors.
        temperature: divides the cosines.
        hard_mining: count hard pairs only.
        memory_size: texts of earlier batches to compare with; 0: none.
    """

    def __init__(
        self, hidden_size: int, *, temperature: float, hard_mining: bool, memory_size: int
    ) -> None:
        super().__init__()
        self.projection = nn.Sequential(
            nn.Linear(hidden_size, hidden_size), nn.ReLU(), nn.Linear(hidden_size, DIMENSIONS)
        )
        each = losses.SupConLoss(temperature=temperature, reducer=reducers.DoNothingReducer())
        self.miner = HardPairs(distance=CosineSimilarity()) if hard_mining else None
        self.memory = Memory(each, DIMENSIONS, memory_size, self.miner) if memory_size else None
        self.loss = each

    def forward(self, pooled: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """Scalar: weighted mean over the texts that have positives and negatives.

        Args:
            pooled: float32 [n, d]; labels: int64 [n]; weights: float32 [n].
        """
        vectors = self.projection(pooled)
        if self.memory is not None:
            found = self.memory(vectors, labels)["loss"]
        else:
            pairs = self.miner(vectors, labels) if self.miner else None
            found = self.loss(vectors, labels, pairs)["loss"]
        if found["reduction_type"] == "already_reduced":  # no text has positives and negatives
            return vectors.sum() * 0
        values = found["losses"].flatten()
        counted = weights * (values > 0)
        return (counted * values).sum() / counted.sum().clamp(min=1e-6)


class Memory(losses.CrossBatchMemory):
    """The cross-batch memory, whose place in its ring belongs to the state of a training run."""

    def get_extra_state(self) -> Tensor:
        """Part of `state_dict`."""
        return torch.tensor([self.queue_idx, int(self.has_been_filled)])

    def set_extra_state(self, state: Tensor) -> None:
        """Part of `load_state_dict`."""
        self.queue_idx, self.has_been_filled = int(state[0]), bool(state[1])


class HardPairs(miners.BaseMiner):
    """Of each text the farthest HARD_SHARE of its positives and the nearest of its negatives."""

    def mine(
        self, embeddings: Tensor, labels: Tensor, ref_emb: Tensor, ref_labels: Tensor
    ) -> tuple[Tensor, ...]:
        """Anchors and positives, anchors and negatives: indices, as the library has them."""
        similarity = self.distance(embeddings, ref_emb)
        positive = labels[:, None] == ref_labels
        negative = ~positive
        if ref_emb is embeddings:
            positive = positive.clone().fill_diagonal_(False)  # a text is not its own positive
        positive = positive & _largest(-similarity, positive)
        negative = negative & _largest(similarity, negative)
        return (*torch.where(positive), *torch.where(negative))


def _largest(values: Tensor, among: Tensor) -> Tensor:
    """Mark in each row the largest HARD_SHARE of the values that are `among`; at least one."""
    order = values.masked_fill(~among, -torch.inf).argsort(dim=1, descending=True, stable=True)
    rank = torch.empty_like(order)
    rank.scatter_(1, order, torch.arange(values.shape[1], device=values.device).expand_as(order))
    return rank < (among.sum(1, keepdim=True) * HARD_SHARE).ceil()
