from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch

from lib.batches import Batch
from lib.embedding import write_index, write_shard
from lib.encoder import new_classifier
from lib.errors import UserError
from lib.metric_learning import CombinedLoss, hold_out, pseudo_labelled, training_texts
from lib.model import PooledClassifierOutput
from lib.schema import MetricLearningParams


def loss_of(lambda_metric: float, lambda_class: float = 0.7, **changes) -> CombinedLoss:
    settings = {"temperature": 0.2, "projection_dimensions": 5, "seed": 3} | changes
    return CombinedLoss(
        12, lambda_metric, MetricLearningParams(lambda_class=lambda_class, **settings)
    )


def batch_of(labels: torch.Tensor, weights: torch.Tensor) -> Batch:
    targets = torch.eye(3)[labels]
    return Batch(labels, weights, targets, torch.zeros(len(labels), dtype=torch.int64))


def some_output(seed: int = 0) -> tuple[PooledClassifierOutput, Batch]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.tensor([0, 1, 0, 2, 1, 0, 1])  # class 2 has no positive
    output = PooledClassifierOutput(
        logits=torch.randn(7, 3, generator=generator).requires_grad_(),
        pooled=torch.randn(7, 12, generator=generator).requires_grad_(),
    )
    return output, batch_of(labels, torch.tensor([1.0, 1, 0.5, 1, 0, 0.5, 1]))


@pytest.mark.parametrize("seed", range(3))
def test_loss_equals_the_formulas(seed):
    output, batch = some_output(seed)
    labels, weights = batch.labels, batch.weights.double().numpy()
    loss = loss_of(0.4)
    parts = loss(output, batch)

    z = loss.projection(output.pooled).detach().double().numpy()
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    anchors, anchor_weights = [], []
    for i in range(7):  # Khosla et al. 2020, equation 2; weighted mean over anchors with positives
        positives = [p for p in range(7) if p != i and labels[p] == labels[i]]
        if positives:
            total = sum(math.exp(z[i] @ z[a] / 0.2) for a in range(7) if a != i)
            inner = [math.log(math.exp(z[i] @ z[p] / 0.2) / total) for p in positives]
            anchors.append(-sum(inner) / len(positives))
            anchor_weights.append(weights[i])
    metric = np.average(anchors, weights=anchor_weights)
    assert parts["metric"].item() == pytest.approx(metric, rel=1e-4)

    chances = output.logits.detach().double().softmax(1).numpy()
    nats = [-math.log(chances[i, labels[i]]) for i in range(7)]
    expected = np.average(nats, weights=weights)
    assert parts["class"].item() == pytest.approx(expected, rel=1e-5)
    assert parts["total"].item() == pytest.approx(0.7 * expected + 0.4 * metric, rel=1e-4)


def test_both_parts_train_the_encoder():
    output, batch = some_output()
    loss = loss_of(0.4)
    loss(output, batch)["total"].backward()
    assert output.pooled.grad.abs().sum() > 0 and output.logits.grad.abs().sum() > 0
    assert all(p.grad.abs().sum() > 0 for p in loss.projection.parameters() if p.ndim > 1)


def test_lambda_zero_leaves_the_class_part_alone():
    output, batch = some_output()
    loss = loss_of(0.0, lambda_class=1.0)
    parts = loss(output, batch)
    parts["total"].backward()
    assert parts["total"].item() == parts["class"].item()
    assert parts["metric"].item() > 0  # still measured, for the curves
    assert all(p.grad is None or not p.grad.any() for p in loss.projection.parameters())
    assert output.pooled.grad is None or not output.pooled.grad.any()


def test_loss_of_a_batch_without_positives_is_the_class_part():
    output, batch = some_output()
    three = PooledClassifierOutput(logits=output.logits[:3], pooled=output.pooled[:3])
    parts = loss_of(0.4)(three, batch_of(torch.tensor([0, 1, 2]), batch.weights[:3]))
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
        {
            "text_id": [f"{i:x}" for i in range(9000)],
            "label": rng.choice(3, 9000, p=[0.6, 0.3, 0.1]),
        }
    )
    held, rest = hold_out(frame, share, seed=0)
    assert sorted([*held["text_id"], *rest["text_id"]]) == sorted(frame["text_id"])
    for label, part in frame.groupby("label"):
        spread = 4 * np.sqrt(share * (1 - share) / len(part))
        assert abs((held["label"] == label).sum() / len(part) - share) < spread
    for part in (held, rest):
        order = part["text_id"].map(lambda text_id: int(text_id, 16))
        assert order.is_monotonic_increasing and list(part.index) == list(range(len(part)))
    assert held.equals(hold_out(frame, share, seed=0)[0])
    assert not held.equals(hold_out(frame, share, seed=1)[0])


def test_a_text_is_held_out_whatever_else_is_kept():
    """So that what one round holds out no other round trains on."""
    frame = pd.DataFrame({"text_id": [f"{i:x}" for i in range(500)], "label": 0})
    other = frame.iloc[250:].assign(label=1)
    held, rest = (set(part["text_id"]) for part in hold_out(frame, 0.2, seed=3))
    held_again, rest_again = (set(part["text_id"]) for part in hold_out(other, 0.2, seed=3))
    assert held_again <= held and rest_again <= rest
    assert len(held_again) > 20


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


@pytest.mark.parametrize("weighting", ["constant", "confidence_purity"])
@pytest.mark.parametrize("soft", [0.0, 0.25, 1.0])
def test_training_texts_weigh_and_soften_pseudo_labels(tiny_checkpoint, tmp_path, weighting, soft):
    encoder = new_classifier(tiny_checkpoint, pooling="mean", max_tokens=32, seed=0)
    gold = pd.DataFrame({"text": ["раз", "два"], "label": [2, 0], "cluster": [4, 5]})
    ids = [f"{i:016x}" for i in range(5)]
    probabilities = np.random.default_rng(0).dirichlet([1, 1, 1], 5).astype(np.float32)
    shard = tmp_path / "shard-00000.safetensors"
    write_shard(shard, np.zeros((5, 4)), probabilities, np.arange(5, dtype=np.uint64))
    write_index(tmp_path, {shard: 5})
    pseudo = pd.DataFrame(
        {
            "text_id": [ids[3], ids[1]],
            "text": ["три", "четыре"],
            "label": [1, 2],
            "cluster": [7, 4],
            "confidence": [0.9, 0.8],
            "purity": [1.0, 0.5],
        }
    )
    params = MetricLearningParams(
        pseudo_weight=0.5, pseudo_weighting=weighting, soft_labels=soft, max_tokens=32
    )
    texts = training_texts(encoder, gold, pseudo, tmp_path, params)
    expected = [1, 1, 0.5, 0.5] if weighting == "constant" else [1, 1, 0.45, 0.2]
    np.testing.assert_allclose(texts.weights, expected, rtol=1e-6)
    assert texts.labels.tolist() == [2, 0, 1, 2] and texts.clusters.tolist() == [4, 5, 7, 4]
    hard = np.eye(3)[[1, 2]]
    np.testing.assert_array_equal(texts.targets[:2], np.eye(3)[[2, 0]])  # gold stays hard
    mixed = (1 - soft) * hard + soft * probabilities[[3, 1]]
    np.testing.assert_allclose(texts.targets[2:], mixed, atol=1e-6)
    with pytest.raises(UserError, match="no text ffff"):
        training_texts(
            encoder,
            gold,
            pseudo.assign(text_id=["f" * 16, ids[1]]),
            tmp_path,
            MetricLearningParams(soft_labels=0.5, max_tokens=32),
        )
