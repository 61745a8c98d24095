from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lib.metric_losses import Memory, MetricLoss, choose_pairs

NAMES = ["supcon", "triplet", "multi_similarity", "proxy_anchor"]


def loss_of(name: str = "supcon", **changes) -> MetricLoss:
    torch.manual_seed(0)
    return MetricLoss(name, **({"dimensions": 6, "temperature": 0.2, "margin": 0.1} | changes))


def texts(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """vectors, labels, clusters; every class is there."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([[0, 1, 2], rng.integers(0, 3, count - 3)])
    vectors = torch.tensor(rng.normal(size=(count, 6)), dtype=torch.float32, requires_grad=True)
    return vectors, torch.tensor(labels), torch.tensor(rng.integers(0, 4, count))


@pytest.mark.parametrize("name", NAMES)
def test_each_loss_separates_the_classes(name):
    vectors, labels, clusters = texts(30)
    loss = loss_of(name)
    optimizer = torch.optim.Adam([vectors, *loss.parameters()], lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        value = loss(vectors, labels, clusters, torch.ones(30))
        value.backward()
        optimizer.step()
    unit = nn.functional.normalize(vectors.detach())
    same = labels[:, None] == labels
    similarity = unit @ unit.T
    assert similarity[same].mean() > similarity[~same].mean() + 0.6  # 0 at the start


@pytest.mark.parametrize("name", ["supcon", "triplet", "multi_similarity"])
def test_a_text_of_weight_zero_is_no_anchor(name):
    vectors, labels, clusters = texts(12)
    weights = torch.ones(12)
    weights[4] = 0
    value = loss_of(name)(vectors, labels, clusters, weights)
    assert value.item() != pytest.approx(
        loss_of(name)(vectors, labels, clusters, torch.ones(12)).item()
    )
    doubled = loss_of(name)(vectors, labels, clusters, 2 * weights)
    assert doubled.item() == pytest.approx(value.item(), rel=1e-5)  # weights are relative


@pytest.mark.parametrize("name", ["supcon", "triplet", "multi_similarity"])
def test_a_batch_without_positives_has_no_loss_but_a_gradient(name):
    vectors, _, clusters = texts(3)
    value = loss_of(name)(vectors, torch.tensor([0, 1, 2]), clusters[:3], torch.ones(3))
    if name != "multi_similarity":  # which pushes negatives away all the same
        assert value.item() == 0
    value.backward()
    assert vectors.grad is not None


@given(st.integers(0, 10_000), st.sampled_from([0.1, 0.25, 0.5, 0.9, 1.0]))
def test_hard_pairs_are_the_farthest_positives_and_nearest_negatives(seed, share):
    rng = np.random.default_rng(seed)
    n, m = 8, 14  # six of them from the memory
    similarity = rng.permutation(n * m).reshape(n, m).astype(float)
    labels, clusters = rng.integers(0, 3, m), rng.integers(0, 3, m)
    same_class, same_cluster = (x[:n, None] == x for x in (labels, clusters))
    positive, negative = choose_pairs(
        *map(torch.tensor, (similarity, same_class, same_cluster)), share
    )
    for i in range(n):
        mates = [j for j in range(m) if j != i and labels[j] == labels[i]]
        hard = sorted(mates, key=lambda j, i=i: similarity[i, j])
        hard = hard[: int(np.ceil(np.float32(len(mates) * share)))]
        assert torch.where(positive[i])[0].tolist() == sorted(hard)
        others = [j for j in range(m) if labels[j] != labels[i]]
        near = sorted(others, key=lambda j, i=i: -similarity[i, j])
        near = near[: int(np.ceil(np.float32(len(others) * share)))]
        near += [j for j in others if clusters[j] == clusters[i]]
        assert torch.where(negative[i])[0].tolist() == sorted(set(near))


def test_memory_keeps_the_last_texts():
    memory = Memory(5, 2)
    assert len(memory.content()[0]) == 0
    for start in (0, 3, 6, 9):
        number = torch.arange(start, start + 3)
        memory.add(number[:, None].expand(3, 2).float(), number, number)
        vectors, labels, clusters = memory.content()
        expected = set(range(max(0, start + 3 - 5), start + 3))
        assert set(labels.tolist()) == set(clusters.tolist()) == expected
        assert vectors[:, 0].tolist() == labels.tolist()
    big = torch.arange(20, 28)
    memory.add(big[:, None].expand(8, 2).float(), big, big)
    assert set(memory.content()[1].tolist()) == {23, 24, 25, 26, 27}


@pytest.mark.parametrize("name", ["supcon", "triplet", "multi_similarity"])
def test_with_a_memory_small_batches_equal_one_large_one_for_the_last(name):
    vectors, labels, clusters = texts(24)
    loss = loss_of(name, memory_size=16)
    for rows in (slice(0, 8), slice(8, 16)):
        loss(vectors[rows], labels[rows], clusters[rows], torch.ones(8))
    last = slice(16, 24)
    found = loss(vectors[last], labels[last], clusters[last], torch.ones(8))
    # the same texts in one batch, where only the last eight are anchors
    order = torch.cat([torch.arange(16, 24), torch.arange(16)])
    weights = torch.cat([torch.ones(8), torch.zeros(16)])
    whole = loss_of(name)(vectors[order], labels[order], clusters[order], weights)
    assert found.item() == pytest.approx(whole.item(), rel=1e-5)
    found.backward()
    assert vectors.grad[:16].abs().sum() == 0 and vectors.grad[last].abs().sum() > 0


def test_the_memory_is_not_filled_while_nothing_is_trained():
    vectors, labels, clusters = texts(8)
    loss = loss_of(memory_size=16)
    with torch.no_grad():
        loss(vectors, labels, clusters, torch.ones(8))
    assert len(loss.memory.content()[0]) == 0
