"""`L = λ_class · CE + λ_metric · SupCon` of one batch.

SupCon pulls texts of one class together and pushes the others away, on a projection of the pooled
vector that is dropped after training.

Reference: SupCon, Khosla et al. 2020, arXiv:2004.11362.
"""

from __future__ import annotations

from pytorch_metric_learning import losses, reducers
from torch import Tensor, nn

DIMENSIONS = 128  # of the projection, as in section 3 of the paper


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
    """

    def __init__(self, hidden_size: int, temperature: float) -> None:
        super().__init__()
        self.projection = nn.Sequential(
            nn.Linear(hidden_size, hidden_size), nn.ReLU(), nn.Linear(hidden_size, DIMENSIONS)
        )
        self.loss = losses.SupConLoss(temperature, reducer=reducers.DoNothingReducer())

    def forward(self, pooled: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """Scalar: weighted mean over the texts that have positives and negatives.

        Args:
            pooled: float32 [n, d]; labels: int64 [n]; weights: float32 [n].
        """
        vectors = self.projection(pooled)
        found = self.loss(vectors, labels)["loss"]
        if found["reduction_type"] == "already_reduced":  # no text has positives and negatives
            return vectors.sum() * 0
        values = found["losses"].flatten()
        counted = weights * (values > 0)
        return (counted * values).sum() / counted.sum().clamp(min=1e-6)
