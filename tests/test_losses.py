"""The losses against the formulas of their papers, written out text by text."""

import numpy as np
import pytest
import torch
from torch import nn

from lib.training.losses import DIMENSIONS, SupCon, cross_entropy


def supcon() -> SupCon:
    torch.manual_seed(0)
    return SupCon(8, temperature=0.3)


def batch(count=9, seed=0):
    torch.manual_seed(seed)
    labels = torch.arange(count) % 3
    return torch.randn(count, 8), labels, torch.rand(count) + 0.1


def by_hand(vectors, labels, weights, temperature):
    """Equation 2 of Khosla et al., one anchor after the other."""
    vectors = nn.functional.normalize(vectors).double()
    total = norm = 0.0
    for i, anchor in enumerate(vectors):
        at = (vectors @ anchor) / temperature
        same = [j for j in range(len(labels)) if labels[j] == labels[i] and j != i]
        different = [j for j in range(len(labels)) if labels[j] != labels[i]]
        denominator = torch.logsumexp(at[same + different], 0)
        loss = -(at[same] - denominator).mean()
        total, norm = total + weights[i] * loss, norm + weights[i]
    return float(total / norm)


def test_supcon_is_the_papers_formula():
    loss = supcon()
    vectors, labels, weights = batch()
    projected = loss.projection(vectors).detach()
    assert projected.shape == (9, DIMENSIONS)
    expected = by_hand(projected, labels, weights, 0.3)
    assert loss(vectors, labels, weights).item() == pytest.approx(expected, rel=1e-5)


def test_a_batch_of_one_class_has_no_loss_but_a_gradient():
    loss = supcon()
    vectors = torch.randn(4, 8, requires_grad=True)
    value = loss(vectors, torch.zeros(4, dtype=torch.int64), torch.ones(4))
    value.backward()
    assert float(value) == 0 and not vectors.grad.any()


def test_cross_entropy_is_weighted_and_takes_soft_targets():
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    targets = torch.tensor([[1.0, 0.0, 0.0], [0.2, 0.5, 0.3]])
    logs = torch.log_softmax(logits.double(), 1).numpy()
    each = -(targets.numpy() * logs).sum(1)
    weights = torch.tensor([1.0, 0.25])
    expected = np.average(each, weights=weights.numpy())
    assert float(cross_entropy(logits, targets, weights)) == pytest.approx(expected, rel=1e-6)
    assert float(cross_entropy(logits, targets, torch.zeros(2))) == 0
