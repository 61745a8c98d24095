"""Metric losses on projected vectors, hard pairs chosen with the clusters, cross-batch memory.

Losses and their pair logic are those of pytorch-metric-learning; which pairs they see is decided
here, because it depends on the clusters.

References: SupCon, Khosla et al. 2020, arXiv:2004.11362; triplet, Schroff et al. 2015,
arXiv:1503.03832; multi-similarity, Wang et al. 2019, arXiv:1904.06627; proxy anchor, Kim et al.
2020, arXiv:2003.13911; cross-batch memory, Wang et al. 2020, arXiv:1912.06798.
"""

from __future__ import annotations

import torch
from pytorch_metric_learning import losses, reducers
from torch import Tensor, nn

from lib import LABELS


class MetricLoss(nn.Module):
    """One metric loss over a batch and, if wanted, a memory of earlier batches.

    Args:
        name: `supcon`, `triplet`, `multi_similarity` or `proxy_anchor`.
        dimensions: d of the projected vectors.
        temperature: of SupCon.
        margin: of triplet and proxy anchor, on vectors of length 1.
        hard_share: share of each text's positives (farthest first) and negatives (nearest first)
            that count; 1: all. Negatives of the text's own cluster always count.
        memory_size: vectors of earlier batches that each batch is compared with, too; 0: none.
    """

    def __init__(
        self,
        name: str,
        *,
        dimensions: int,
        temperature: float,
        margin: float,
        hard_share: float = 1.0,
        memory_size: int = 0,
    ) -> None:
        super().__init__()
        each = {"reducer": reducers.DoNothingReducer()}
        self.name, self.hard_share = name, hard_share
        self.memory = Memory(memory_size, dimensions) if memory_size else None
        self.loss = {
            "supcon": lambda: losses.SupConLoss(temperature=temperature, **each),
            "triplet": lambda: losses.TripletMarginLoss(margin=margin, **each),
            "multi_similarity": lambda: losses.MultiSimilarityLoss(**each),
            "proxy_anchor": lambda: losses.ProxyAnchorLoss(len(LABELS), dimensions, margin),
        }[name]()

    def forward(self, vectors: Tensor, labels: Tensor, clusters: Tensor, weights: Tensor) -> Tensor:
        """Scalar loss: mean over the texts (triplets) whose loss is above 0, weighted.

        Args:
            vectors: float32 [n, d]; labels, clusters: int64 [n]; weights: float32 [n] of the texts
            as anchors (proxy anchor has none and ignores them).
        """
        if self.name == "proxy_anchor":
            return self.loss(vectors, labels)
        vectors = nn.functional.normalize(vectors)
        others, other_labels, other_clusters = vectors, labels, clusters
        if self.memory:
            old = self.memory.content()
            others, other_labels, other_clusters = (
                torch.cat(pair) for pair in zip((vectors, labels, clusters), old, strict=True)
            )
            if self.training and torch.is_grad_enabled():
                self.memory.add(vectors.detach(), labels, clusters)
        with torch.no_grad():
            positive, negative = choose_pairs(
                vectors @ others.T,
                labels[:, None] == other_labels,
                clusters[:, None] == other_clusters,
                self.hard_share,
            )
            if self.name == "triplet":
                chosen = torch.where(positive[:, :, None] & negative[:, None, :])
            else:
                chosen = (*torch.where(positive), *torch.where(negative))
        found = self.loss(vectors, labels, chosen, others, other_labels)["loss"]
        if found["reduction_type"] == "already_reduced":  # no text has positives and negatives
            return vectors.sum() * 0
        indices = found["indices"]
        weights = weights[indices[0] if found["reduction_type"] == "triplet" else indices]
        values = found["losses"].flatten()
        counted = weights * (values > 0)
        return (counted * values).sum() / counted.sum().clamp(min=1e-6)


class Memory(nn.Module):
    """The last `size` vectors of earlier batches with their labels and clusters: a ring.

    Its content belongs to the state of a training run, so it is kept in buffers.
    """

    def __init__(self, size: int, dimensions: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("vectors", torch.zeros(size, dimensions))
        self.register_buffer("labels", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("clusters", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("added", torch.zeros((), dtype=torch.int64))

    def add(self, vectors: Tensor, labels: Tensor, clusters: Tensor) -> None:
        """Put a batch in; of a batch larger than the memory the last texts."""
        count = min(len(vectors), self.size)
        places = (torch.arange(count, device=vectors.device) + self.added) % self.size
        self.vectors[places] = vectors[-count:]
        self.labels[places], self.clusters[places] = labels[-count:], clusters[-count:]
        self.added += count

    def content(self) -> tuple[Tensor, Tensor, Tensor]:
        """vectors float32 [m, d], labels and clusters int64 [m], m up to `size`."""
        filled = min(int(self.added), self.size)
        # copies: the next batch overwrites them before the gradients of this one are computed
        return tuple(b[:filled].clone() for b in (self.vectors, self.labels, self.clusters))


def choose_pairs(
    similarity: Tensor, same_class: Tensor, same_cluster: Tensor, hard_share: float
) -> tuple[Tensor, Tensor]:
    """Which pairs count as positive and which as negative: all, or the hard ones; bool [n, m].

    Args:
        similarity: float [n, m] of the batch's n texts to themselves (the first n columns) and to
            the memory's m - n.
        same_class, same_cluster: bool [n, m].
        hard_share: in (0, 1]; of a text's k pairs of a kind ceil(k * hard_share) count.
    """
    positive, negative = same_class.clone(), ~same_class
    positive.fill_diagonal_(False)  # a text is not its own positive
    if hard_share < 1:
        positive &= _largest(-similarity, positive, hard_share)
        negative &= _largest(similarity, negative, hard_share) | same_cluster
    return positive, negative


def _largest(values: Tensor, among: Tensor, share: float) -> Tensor:
    """Mark in each row the largest `share` of the values that are `among`; at least one."""
    order = values.masked_fill(~among, -torch.inf).argsort(dim=1, descending=True, stable=True)
    rank = torch.empty_like(order)
    rank.scatter_(1, order, torch.arange(values.shape[1], device=values.device).expand_as(order))
    return rank < (among.sum(1, keepdim=True) * share).ceil()
