from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib.batches import Batch, ShuffledBatches, Texts
from lib.class_batches import ClassClusterBatches
from lib.encoder import Encoder, load_classifier, new_classifier, save_classifier
from lib.inference import predict
from lib.metric_learning import CombinedLoss, train_candidate
from lib.model import PooledClassifierOutput
from lib.schema import BaseClassifierParams, MetricLearningParams
from lib.training import (
    cross_entropy,
    evaluate,
    evaluation_steps,
    fit,
    overfit_step,
)

CPU = {"dtype": torch.float32, "device": torch.device("cpu")}
WORDS = (
    ["ужасно", "плохо", "кошмар", "отвратительный", "сломалось"],
    ["обычный", "магазин", "адрес", "работу", "сайте"],
    ["прекрасно", "отличный", "спасибо", "доволен", "смеялись"],
)


def params_of(**changes) -> BaseClassifierParams:
    settings = {
        "precision": "float32",
        "device": "cpu",
        "learning_rate": 2e-3,
        "head_learning_rate": 1e-2,
        "max_tokens": 32,
    }
    return BaseClassifierParams(**(settings | changes))


def toy(count: int, seed: int) -> pd.DataFrame:
    """Texts whose words give their class away."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % 3)
    texts = [" ".join(rng.choice(WORDS[label], rng.integers(2, 5))) for label in labels]
    return pd.DataFrame({"text": texts, "label": labels})


def run(
    checkpoint: str,
    state_dir: Path,
    *,
    steps: int = 12,
    wrap=None,
    validation=None,
    train=None,
    evaluate_at=(4, 8, 12),
    loss_module=None,
    loss=cross_entropy,
    **changes,
) -> tuple[Encoder, pd.DataFrame]:
    params = params_of(**changes)
    encoder = new_classifier(
        checkpoint, pooling="mean", max_tokens=32, seed=params.seed, dropout=params.dropout
    )
    texts = Texts.build(encoder, toy(96, 0) if train is None else train)
    batches = ShuffledBatches([len(ids) for ids in texts.token_ids], 16, params.seed)
    history = fit(
        encoder,
        texts,
        Texts.build(encoder, toy(45, 1) if validation is None else validation),
        wrap(batches) if wrap else batches,
        params=params,
        steps=steps,
        evaluate_at=list(evaluate_at),
        state_dir=state_dir,
        loss=loss,
        loss_module=loss_module,
    )
    return encoder, history


def weights_of(encoder: Encoder) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in encoder.model.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    assert first.keys() == second.keys()
    return all(torch.equal(first[name], second[name]) for name in first)


class StopAt:
    """Batches that are interrupted once, at a step."""

    def __init__(self, step: int):
        self.step = step

    def __call__(self, batches):
        self.batches = batches
        return self

    def __getitem__(self, step: int) -> np.ndarray:
        if step == self.step:
            raise KeyboardInterrupt
        return self.batches[step]


@given(
    st.lists(st.integers(1, 200), min_size=1, max_size=150), st.integers(1, 7), st.integers(0, 5)
)
def test_batches_cover_each_text_once_per_epoch(lengths, batch_size, seed):
    batches = ShuffledBatches(np.array(lengths), batch_size, seed)
    again = ShuffledBatches(np.array(lengths), batch_size, seed)
    for epoch in (1, 0):  # random access
        steps = range(epoch * batches.per_epoch, (epoch + 1) * batches.per_epoch)
        parts = [batches[step] for step in steps]
        assert max(map(len, parts)) <= batch_size
        assert sorted(np.concatenate(parts).tolist()) == list(range(len(lengths)))
        for step, part in zip(steps, parts, strict=True):
            assert (again[step] == part).all()


def test_batches_differ_by_epoch_and_seed_and_hold_similar_lengths():
    lengths = np.random.default_rng(0).integers(1, 200, 640)
    batches = ShuffledBatches(lengths, 16, seed=0)
    epochs = [
        np.concatenate([batches[e * batches.per_epoch + i] for i in range(batches.per_epoch)])
        for e in range(2)
    ]
    assert (epochs[0] != epochs[1]).any()
    assert (ShuffledBatches(lengths, 16, seed=1)[0] != batches[0]).any()
    spread = np.mean([np.ptp(lengths[batches[i]]) for i in range(batches.per_epoch)])
    assert spread < 30  # of 200: little padding
    order = [lengths[batches[i]].mean() for i in range(batches.per_epoch)]
    assert abs(np.corrcoef(order, np.arange(len(order)))[0, 1]) < 0.5  # yet not sorted


@given(st.integers(1, 500), st.integers(1, 50))
def test_evaluations_are_spread_evenly_and_end_with_the_last_step(steps, evaluations):
    found = evaluation_steps(steps, evaluations)
    assert found == sorted(set(found)) and found[0] >= 1 and found[-1] == steps
    assert len(found) == min(steps, evaluations) or evaluations > steps / 2
    gaps = np.diff([0, *found])
    assert gaps.max() - gaps.min() <= 1 or evaluations > steps


def test_evaluation_steps_by_hand():
    assert evaluation_steps(100, 4) == [25, 50, 75, 100]
    assert evaluation_steps(7, 1) == [7]


@pytest.mark.parametrize(
    "losses, expected",
    [([3, 2, 1], None), ([3, 1, 2], 20), ([1, 2, 3], 10), ([1], None), ([2, 1, 3, 1], 20)],
)
def test_overfitting_starts_at_the_lowest_validation_loss(losses, expected):
    history = pd.DataFrame(
        {"step": [10 * (i + 1) for i in range(len(losses))], "validation_loss": losses}
    )
    assert overfit_step(history) == expected


def test_cross_entropy_is_weighted_and_takes_soft_targets():
    output = PooledClassifierOutput(logits=torch.log(torch.tensor([[0.5, 0.25, 0.25]] * 2)))
    targets = torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0]])

    def loss(*weights: float) -> float:
        whole = torch.zeros(2, dtype=torch.int64)
        batch = Batch(whole, torch.tensor(weights), targets, whole)
        return cross_entropy(output, batch)["total"].item()

    assert loss(1.0, 3.0) == pytest.approx((np.log(2) + 3 * 1.5 * np.log(2)) / 4)
    assert loss(0.0, 0.0) == 0


def test_an_easy_task_is_learned(tiny_checkpoint, tmp_path):
    encoder, history = run(
        tiny_checkpoint, tmp_path, steps=60, evaluate_at=[20, 40], warmup_share=0.1
    )
    assert history["step"].tolist() == [20, 40, 60]
    assert history["best"].sum() == 1
    assert history["validation_macro_f1"].max() > 0.95
    assert history["validation_accuracy"].max() > 0.95
    assert history["train_class_loss"].iloc[-1] < 0.3 * history["train_class_loss"].iloc[0]
    on_train = evaluate(encoder, Texts.build(encoder, toy(96, 0)), **CPU)
    assert on_train["validation_macro_f1"] > 0.95
    assert not encoder.model.training


def test_the_seed_decides_the_weights(tiny_checkpoint, tmp_path):
    first, history = run(tiny_checkpoint, tmp_path / "a", dropout=0.3)
    second, again = run(tiny_checkpoint, tmp_path / "b", dropout=0.3)
    other, _ = run(tiny_checkpoint, tmp_path / "c", dropout=0.3, seed=1)
    assert same(weights_of(first), weights_of(second))
    assert history.equals(again)
    assert not same(weights_of(first), weights_of(other))


@pytest.mark.parametrize("stop", [2, 5, 8, 11])
def test_an_interrupted_run_goes_on_to_the_same_result(tiny_checkpoint, tmp_path, stop):
    whole, history = run(tiny_checkpoint, tmp_path / "whole", dropout=0.3)
    with pytest.raises(KeyboardInterrupt):
        run(tiny_checkpoint, tmp_path / "stopped", dropout=0.3, wrap=StopAt(stop))
    seen = []

    def watch(batches):
        class Watched:
            def __getitem__(self, step):
                seen.append(step)
                return batches[step]

        return Watched()

    torch.manual_seed(12345)  # another process has another state
    continued, again = run(tiny_checkpoint, tmp_path / "stopped", dropout=0.3, wrap=watch)
    assert seen == list(range(stop // 4 * 4, 12))  # from the last evaluation, not from zero
    assert same(weights_of(whole), weights_of(continued))
    pd.testing.assert_frame_equal(history, again)


def test_a_finished_run_is_not_trained_again(tiny_checkpoint, tmp_path):
    first, history = run(tiny_checkpoint, tmp_path)
    second, again = run(tiny_checkpoint, tmp_path, wrap=StopAt(0))
    assert same(weights_of(first), weights_of(second)) and history.equals(again)


def test_the_parts_of_the_loss_are_restored_too(tiny_checkpoint, tmp_path):
    settings = {"projection_dimensions": 8, "memory_size": 40, "hard_mining": True}
    params = MetricLearningParams(**settings)

    def supcon():
        return CombinedLoss(32, 0.5, params)

    loss, resumed = supcon(), supcon()
    whole, history = run(tiny_checkpoint, tmp_path / "a", loss=loss, loss_module=loss)
    broken = supcon()
    with pytest.raises(KeyboardInterrupt):
        run(tiny_checkpoint, tmp_path / "b", loss=broken, loss_module=broken, wrap=StopAt(9))
    continued, again = run(tiny_checkpoint, tmp_path / "b", loss=resumed, loss_module=resumed)
    assert same(weights_of(whole), weights_of(continued)) and history.equals(again)
    assert same(loss.state_dict(), resumed.state_dict())
    assert not same(loss.state_dict(), supcon().state_dict())  # it was trained
    np.testing.assert_allclose(
        history["train_total_loss"],
        history["train_class_loss"] + 0.5 * history["train_metric_loss"],
        rtol=1e-5,
    )


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_word_embeddings_stay(tiny_checkpoint, tmp_path, frozen):
    encoder, _ = run(tiny_checkpoint, tmp_path, freeze_word_embeddings=frozen)
    start = new_classifier(tiny_checkpoint, pooling="mean", max_tokens=32, seed=0)
    changed = {
        name
        for name, value in encoder.model.named_parameters()
        if not torch.equal(value, start.model.get_parameter(name))
    }
    table = "encoder.embeddings.tok_embeddings.weight"
    assert table in dict(start.model.named_parameters())
    assert (table in changed) == (not frozen)
    assert "classifier.weight" in changed
    assert any(name.startswith("encoder.layers") for name in changed)


def test_the_best_checkpoint_remains(tiny_checkpoint, tmp_path):
    wrong = toy(45, 1).assign(label=lambda f: (f["label"] + 1) % 3)  # learning makes it worse
    encoder, history = run(
        tiny_checkpoint, tmp_path, steps=40, evaluate_at=[1, 2, 20], validation=wrong
    )
    best = history[history["best"]].iloc[0]
    assert best["step"] < 40
    assert best["validation_macro_f1"] == history["validation_macro_f1"].max()
    found = evaluate(encoder, Texts.build(encoder, wrong), **CPU)
    for name, value in found.items():
        assert value == pytest.approx(best[name], rel=1e-5)
    assert found["validation_loss"] < history["validation_loss"].iloc[-1]


def test_texts_of_weight_zero_teach_nothing(tiny_checkpoint, tmp_path):
    encoder = new_classifier(tiny_checkpoint, pooling="mean", max_tokens=32, seed=0)
    good, bad = toy(96, 0), toy(96, 0).assign(label=lambda f: (f["label"] + 1) % 3)
    frame = pd.concat([good, bad], ignore_index=True)
    texts = Texts.build(encoder, frame, np.repeat([1.0, 0.0], 96))
    assert texts.weights.dtype == np.float32
    batches = ShuffledBatches([len(ids) for ids in texts.token_ids], 32, 0)
    history = fit(
        encoder,
        texts,
        Texts.build(encoder, toy(45, 1)),
        batches,
        params=params_of(),
        steps=60,
        evaluate_at=[60],
        state_dir=tmp_path,
    )
    assert history["validation_macro_f1"].iloc[-1] > 0.9


def test_candidates_of_the_metric_step_are_trained_once(tiny_checkpoint, tmp_path):
    base, _ = run(tiny_checkpoint, tmp_path / "state")
    save_classifier(base, tmp_path / "base")
    params = MetricLearningParams(
        precision="float32",
        device="cpu",
        steps=12,
        evaluations=3,
        max_tokens=32,
        learning_rate=1e-3,
        head_learning_rate=5e-3,
        projection_dimensions=8,
    )
    frame = toy(120, 3)
    train, validation = Texts.build(base, frame), Texts.build(base, toy(45, 1))
    batches = ClassClusterBatches(
        train.labels,
        np.arange(120) % 4,
        np.arange(120) < 60,
        groups=6,
        group_size=3,
        gold_share=0.5,
        class_mix="equal",
        seed=0,
    )
    target = tmp_path / "candidate"

    def candidate(batches):
        return train_candidate(
            0.5,
            train,
            validation,
            batches,
            params=params,
            base_dir=tmp_path / "base",
            directory=target,
        )

    with pytest.raises(KeyboardInterrupt):
        candidate(StopAt(9)(batches))
    assert not (target / "model").exists() and not (target / "history.csv").exists()
    history = candidate(batches)
    assert history["step"].tolist() == [4, 8, 12]
    assert {"train_class_loss", "train_metric_loss", "train_total_loss"} <= set(history)
    assert sorted(path.name for path in target.iterdir()) == ["history.csv", "model"]
    pd.testing.assert_frame_equal(candidate(StopAt(0)(batches)), history)  # not trained again
    model = load_classifier(target / "model", 32)
    best = history[history["best"]].iloc[0]
    found = evaluate(model, validation, **CPU)
    assert found["validation_macro_f1"] == pytest.approx(best["validation_macro_f1"])
    assert not any("projection" in name for name in model.model.state_dict())
    before, after = (predict(m, train.token_ids, **CPU)[0] for m in (base, model))
    assert np.abs(before - after).max() > 1e-3
