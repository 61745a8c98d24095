from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import UserError
from lib.metric_learning import (
    ClassClusterBatches,
    CombinedLoss,
    apportion,
    hold_out,
    pseudo_labelled,
)
from lib.model import PooledClassifierOutput

GROUPS, SIZE = 16, 4


@pytest.fixture(scope="module")
def texts() -> pd.DataFrame:
    """1500 texts: half gold (mostly negative), clusters that mix classes."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "label": rng.choice(3, size=1500, p=[0.5, 0.375, 0.125]),
            "cluster": rng.integers(0, 30, 1500),
            "gold": rng.random(1500) < 0.5,
        }
    )


def batches_of(texts: pd.DataFrame, **changes) -> ClassClusterBatches:
    settings = {
        "groups": GROUPS,
        "group_size": SIZE,
        "gold_share": 0.5,
        "class_mix": "natural",
        "seed": 0,
    }
    return ClassClusterBatches(
        texts["label"].to_numpy(),
        texts["cluster"].to_numpy(),
        texts["gold"].to_numpy(),
        **(settings | changes),
    )


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=8).filter(lambda v: sum(v) > 0.01),
    st.integers(0, 60),
)
def test_apportion_gives_all_seats_and_each_at_least_one(values, more):
    shares = np.array(values) / sum(values)
    seats = len(values) + more
    given_out = apportion(shares, seats)
    assert sum(given_out) == seats
    assert min(given_out) >= 1
    for share, got in zip(shares, given_out, strict=True):  # quota rule of the largest remainder
        assert abs(got - 1 - share * more) < 1 + 1e-9


def test_apportion_by_hand():
    # 7 free seats: 3.5, 2.45, 1.05 -> 3, 2, 1 and the last one to the largest remainder
    assert apportion(np.array([0.5, 0.35, 0.15]), 10) == [5, 3, 2]
    assert apportion(np.array([1.0, 0.0, 0.0]), 3) == [1, 1, 1]


def test_groups_have_one_class_one_cluster_and_one_kind(texts):
    batches = batches_of(texts)
    sizes = texts.groupby(["label", "cluster", "gold"]).size()
    for step in range(50):
        batch = batches[step]
        assert batch.shape == (GROUPS * SIZE,)
        groups = [texts.iloc[rows] for rows in batch.reshape(GROUPS, SIZE)]
        for group in groups:
            assert (group[["label", "cluster", "gold"]].nunique() == 1).all()
            members = sizes[tuple(group.iloc[0])]
            assert group.index.nunique() == SIZE or members < SIZE
        assert {group["label"].iloc[0] for group in groups} == {0, 1, 2}


def test_pseudo_groups_share_clusters_with_the_gold_groups_of_their_class(texts):
    batch = texts.iloc[batches_of(texts)[0]]
    for _, part in batch.groupby("label"):
        gold, pseudo = (set(part[part["gold"] == kind]["cluster"]) for kind in (True, False))
        if gold and pseudo:
            assert gold & pseudo


def test_batches_depend_on_seed_and_step_only(texts):
    first, second = batches_of(texts), batches_of(texts)
    late = second[41]
    for step in range(45):
        batch = first[step]
    assert (first[41] == late).all() and (first[0] == second[0]).all()
    assert (batch != late).any()
    assert (batches_of(texts, seed=1)[41] != late).any()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_gold_share_holds_on_average(texts, share):
    batches = batches_of(texts, gold_share=share)
    gold = np.mean([texts["gold"].to_numpy()[batches[step]].mean() for step in range(400)])
    assert gold == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("mix, expected", [("natural", None), ("equal", [1 / 3] * 3)])
def test_class_mix(texts, mix, expected):
    if expected is None:
        expected = texts[texts["gold"]]["label"].value_counts(normalize=True).sort_index()
    batches = batches_of(texts, class_mix=mix)
    labels = texts["label"].to_numpy()[np.concatenate([batches[step] for step in range(50)])]
    found = np.bincount(labels, minlength=3) / len(labels)
    # whole groups and one at least per class: up to 1.5 of 16 groups away
    np.testing.assert_allclose(found, expected, atol=1.5 / GROUPS)
    if mix == "natural":
        assert found[0] > found[1] > found[2] > 0


def test_clusters_are_drawn_by_their_size():
    sizes = {0: 300, 1: 100}
    clusters = np.repeat(list(sizes) * 3, list(sizes.values()) * 3)
    labels = np.repeat([0, 1, 2], 400)
    batches = ClassClusterBatches(
        labels,
        clusters,
        np.ones(1200, dtype=bool),
        groups=9,
        group_size=2,
        gold_share=1.0,
        class_mix="equal",
        seed=0,
    )
    drawn = clusters[np.concatenate([batches[step] for step in range(300)])]
    assert (drawn == 0).mean() == pytest.approx(0.75, abs=0.02)


def test_a_small_cluster_gives_a_text_twice():
    labels, clusters = np.array([0, 1, 2]), np.array([5, 6, 7])
    batches = ClassClusterBatches(
        labels,
        clusters,
        np.ones(3, dtype=bool),
        groups=3,
        group_size=4,
        gold_share=0.5,
        class_mix="natural",
        seed=0,
    )
    assert sorted(batches[0].tolist()) == [0] * 4 + [1] * 4 + [2] * 4


def test_without_pseudo_labelled_texts_all_groups_are_gold(texts):
    only_gold = texts[texts["gold"]].reset_index(drop=True)
    batch = batches_of(only_gold, gold_share=0.2)[0]
    assert len(batch) == GROUPS * SIZE and batch.max() < len(only_gold)
    # and one class alone may lack them
    some = texts[texts["gold"] | (texts["label"] != 2)].reset_index(drop=True)
    batches = batches_of(some, gold_share=0.2)
    rows = some.iloc[np.concatenate([batches[step] for step in range(20)])]
    assert rows[rows["label"] == 2]["gold"].all()
    assert not rows[rows["label"] != 2]["gold"].all()


def test_a_class_without_gold_texts_is_an_error(texts):
    absent = texts[~(texts["gold"] & (texts["label"] == 1))].reset_index(drop=True)
    with pytest.raises(UserError, match="gold train has no text of neutral"):
        batches_of(absent)


def loss_of(lambda_metric: float, lambda_class: float = 0.7) -> CombinedLoss:
    return CombinedLoss(
        12,
        lambda_class=lambda_class,
        lambda_metric=lambda_metric,
        temperature=0.2,
        projection_dimensions=5,
        seed=3,
    )


def some_output(seed: int = 0) -> tuple[PooledClassifierOutput, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.tensor([0, 1, 0, 2, 1, 0, 1])  # class 2 has no positive
    output = PooledClassifierOutput(
        logits=torch.randn(7, 3, generator=generator).requires_grad_(),
        pooled=torch.randn(7, 12, generator=generator).requires_grad_(),
    )
    return output, labels, torch.tensor([1.0, 1, 0.5, 1, 0, 0.5, 1])


@pytest.mark.parametrize("seed", range(3))
def test_loss_equals_the_formulas(seed):
    output, labels, weights = some_output(seed)
    loss = loss_of(0.4)
    parts = loss(output, labels, weights)

    z = loss.projection(output.pooled).detach().double().numpy()
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    anchors = []
    for i in range(7):  # Khosla et al. 2020, equation 2; mean over anchors that have positives
        positives = [p for p in range(7) if p != i and labels[p] == labels[i]]
        if positives:
            total = sum(math.exp(z[i] @ z[a] / 0.2) for a in range(7) if a != i)
            inner = [math.log(math.exp(z[i] @ z[p] / 0.2) / total) for p in positives]
            anchors.append(-sum(inner) / len(positives))
    assert parts["metric"].item() == pytest.approx(np.mean(anchors), rel=1e-4)

    chances = output.logits.detach().double().softmax(1).numpy()
    nats = [-math.log(chances[i, labels[i]]) for i in range(7)]
    expected = np.average(nats, weights=weights)
    assert parts["class"].item() == pytest.approx(expected, rel=1e-5)
    assert parts["total"].item() == pytest.approx(0.7 * expected + 0.4 * np.mean(anchors), rel=1e-4)


def test_both_parts_train_the_encoder():
    output, labels, weights = some_output()
    loss = loss_of(0.4)
    loss(output, labels, weights)["total"].backward()
    assert output.pooled.grad.abs().sum() > 0 and output.logits.grad.abs().sum() > 0
    assert all(p.grad.abs().sum() > 0 for p in loss.projection.parameters() if p.ndim > 1)


def test_lambda_zero_leaves_the_class_part_alone():
    output, labels, weights = some_output()
    loss = loss_of(0.0, lambda_class=1.0)
    parts = loss(output, labels, weights)
    parts["total"].backward()
    assert parts["total"].item() == parts["class"].item()
    assert parts["metric"].item() > 0  # still measured, for the curves
    assert all(p.grad is None or not p.grad.any() for p in loss.projection.parameters())
    assert output.pooled.grad is None or not output.pooled.grad.any()


def test_loss_of_a_batch_without_positives_is_the_class_part():
    output, _, weights = some_output()
    three = PooledClassifierOutput(logits=output.logits[:3], pooled=output.pooled[:3])
    parts = loss_of(0.4)(three, torch.tensor([0, 1, 2]), weights[:3])
    assert parts["metric"].item() == 0
    assert parts["total"].item() == pytest.approx(0.7 * parts["class"].item())


def test_projection_depends_on_the_seed_only():
    torch.manual_seed(99)
    first = loss_of(0.4).projection[0].weight
    torch.manual_seed(5)
    assert (first == loss_of(0.4).projection[0].weight).all()


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_hold_out_cuts_a_share_of_each_label(share):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"text": [f"текст {i}" for i in range(400)], "label": rng.choice(3, 400, p=[0.6, 0.3, 0.1])}
    )
    held, rest = hold_out(frame, share, seed=0)
    assert sorted([*held["text"], *rest["text"]]) == sorted(frame["text"])
    for label, part in frame.groupby("label"):
        assert (held["label"] == label).sum() == round(len(part) * share)
    numbers = held["text"].str.split().str[1].astype(int)
    assert numbers.is_monotonic_increasing and list(held.index) == list(range(len(held)))
    assert held.equals(hold_out(frame, share, seed=0)[0])
    assert not held.equals(hold_out(frame, share, seed=1)[0])


def test_pseudo_labelled_are_the_kept_texts_with_their_prediction():
    texts = pd.DataFrame(
        {
            "text_id": ["а1", "б2", "в3"],
            "text": ["раз", "два", "три"],
            "source": ["х", "х", "у"],
            "audit_label": [2, 2, 2],
        }
    )
    clusters = pd.DataFrame(
        {
            "text_id": ["в3", "б2", "а1"],
            "cluster": [7, 8, 9],
            "distance": [0.1, 0.2, 0.3],
            "predicted": [0, 1, 2],
            "confidence": [0.9, 0.5, 0.95],
            "purity": [1.0, 0.6, 0.97],
            "kept": [True, False, True],
        }
    )
    result = pseudo_labelled(texts, clusters)
    assert result.to_dict("records") == [
        {
            "text_id": "а1",
            "text": "раз",
            "source": "х",
            "label": 2,
            "cluster": 9,
            "confidence": 0.95,
            "purity": 0.97,
        },
        {
            "text_id": "в3",
            "text": "три",
            "source": "у",
            "label": 0,
            "cluster": 7,
            "confidence": 0.9,
            "purity": 1.0,
        },
    ]  # and no audit label
