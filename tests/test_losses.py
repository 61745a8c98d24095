"""The losses against the formulas of their papers, written out text by text."""

import numpy as np
import pytest
import torch
from pytorch_metric_learning.distances import CosineSimilarity
from torch import nn

from lib.training.losses import DIMENSIONS, HardPairs, SupCon, cross_entropy


def supcon(**changes) -> SupCon:
    torch.manual_seed(0)
    options = {"temperature": 0.3, "hard_mining": False, "memory_size": 0}
    return SupCon(8, **(options | changes))


def batch(count=9, seed=0):
    torch.manual_seed(seed)
    labels = torch.arange(count) % 3
    return torch.randn(count, 8), labels, torch.rand(count) + 0.1


def by_hand(vectors, labels, others, other_labels, weights, temperature, pairs=None):
    """Equation 2 of Khosla et al., one anchor after the other."""
    vectors, others = (nn.functional.normalize(v).double() for v in (vectors, others))
    total = norm = 0.0
    for i, anchor in enumerate(vectors):
        at = (others @ anchor) / temperature
        same = [j for j in range(len(others)) if other_labels[j] == labels[i] and j != i]
        different = [j for j in range(len(others)) if other_labels[j] != labels[i]]
        if pairs:
            same, different = pairs(at, same, different)
        denominator = torch.logsumexp(at[same + different], 0)
        loss = -(at[same] - denominator).mean()
        total, norm = total + weights[i] * loss, norm + weights[i]
    return float(total / norm)


def test_supcon_is_the_papers_formula():
    loss = supcon()
    vectors, labels, weights = batch()
    projected = loss.projection(vectors).detach()
    assert projected.shape == (9, DIMENSIONS)
    expected = by_hand(projected, labels, projected, labels, weights, 0.3)
    assert loss(vectors, labels, weights).item() == pytest.approx(expected, rel=1e-5)


def test_hard_pairs_are_the_farthest_positives_and_nearest_negatives():
    loss = supcon(hard_mining=True)
    vectors, labels, weights = batch()

    def hard(at, same, different):
        same, different = sorted(same, key=lambda j: at[j]), sorted(different, key=lambda j: -at[j])
        return same[: (len(same) + 1) // 2], different[: (len(different) + 1) // 2]

    projected = loss.projection(vectors).detach()
    expected = by_hand(projected, labels, projected, labels, weights, 0.3, hard)
    assert loss(vectors, labels, weights).item() == pytest.approx(expected, rel=1e-5)


def test_hard_pairs_never_pair_a_text_with_itself():
    vectors, labels, _ = batch(12)
    anchors, positives, _, negatives = HardPairs(distance=CosineSimilarity())(vectors, labels)
    assert (anchors != positives).all() and (labels[anchors] == labels[positives]).all()
    assert len(anchors) == 12 * 2 and len(negatives) == 12 * 4


def test_the_memory_compares_with_earlier_batches():
    loss = supcon(memory_size=18)
    first, labels, weights = batch(seed=1)
    second, _, _ = batch(seed=2)
    loss(first, labels, weights)
    found = loss(second, labels, weights).item()
    one, two = (loss.projection(vectors).detach() for vectors in (first, second))
    # the own batch comes first here: a text is then no positive of itself
    others, other_labels = torch.cat([two, one]), torch.cat([labels, labels])
    expected = by_hand(two, labels, others, other_labels, weights, 0.3)
    assert found == pytest.approx(expected, rel=1e-5)


def test_the_memory_belongs_to_the_state():
    loss, other = supcon(memory_size=12), supcon(memory_size=12)
    for seed in range(3):
        loss(*batch(seed=seed))
    other.load_state_dict(loss.state_dict())
    assert float(other(*batch(seed=9))) == float(loss(*batch(seed=9)))


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
