"""Gradients in the memory of a part of the batch: those of the plain step, dropout included."""

import numpy as np
import pytest
import torch

from lib.models.batching import token_budget_batches
from lib.models.encoder import new_classifier
from lib.models.inference import pad
from lib.training import trainer
from lib.training.grad_cache import cached_backward
from lib.training.losses import SupCon
from lib.training.trainer import LossModel, Texts
from test_trainer import toy, train, weights

CHECKPOINTS = ["tiny_checkpoint", "tiny_bert"]  # ModernBERT and BERT
BUDGETS = [1, 60, 10_000]  # all pieces are run twice, some, none


class Batch:
    """A model with SupCon, in training mode, and a batch of 24 texts in pieces."""

    def __init__(self, checkpoint: str, *, dropout: float) -> None:
        self.encoder = new_classifier(checkpoint, pooling="mean", max_tokens=32, seed=0)
        for module in self.encoder.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = dropout
        torch.manual_seed(0)
        supcon = SupCon(self.encoder.hidden_size, temperature=0.1, hard_mining=False, memory_size=0)
        self.model = LossModel(self.encoder, supcon, lambda_metric=0.5).train()
        self.texts = Texts.build(self.encoder, toy(24, 1), np.linspace(0.5, 1, 24))
        parts = list(token_budget_batches(self.texts.lengths, 40, 0.2))
        assert len(parts) > 3
        self.pieces = list(map(self.padded, parts))
        self.about = self.of(np.concatenate(parts))

    def padded(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        ids = [self.texts.token_ids[i] for i in rows]
        return pad(ids, self.encoder.pad_id, torch.device("cpu"))

    def of(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        names = ("labels", "targets", "weights")
        return {name: torch.from_numpy(getattr(self.texts, name)[rows]) for name in names}

    def gradients(self, backward) -> tuple[float, torch.Tensor, torch.Tensor]:
        """Loss, gradients of all weights, and the random numbers that follow."""
        self.model.zero_grad()
        torch.manual_seed(1)
        loss = backward()
        found = [p.grad.flatten() for p in self.model.parameters() if p.grad is not None]
        return float(loss), torch.cat(found), torch.rand(3)

    def cached(self, budget: int, scale: float = 1.0) -> torch.Tensor:
        def loss(logits, pooled):
            return self.model.loss(logits, pooled, **self.about)

        def backward(value):
            (value * scale).backward()

        return cached_backward(self.model, loss, self.pieces, budget, backward)

    def plain(self) -> torch.Tensor:
        """One graph of all pieces."""
        found = [self.model(**piece) for piece in self.pieces]
        loss = self.model.loss(*map(torch.cat, zip(*found, strict=True)), **self.about)
        loss.backward()
        return loss.detach()


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_gradients_are_those_of_one_graph_with_dropout(name, request):
    batch = Batch(request.getfixturevalue(name), dropout=0.2)
    loss, expected, following = batch.gradients(batch.plain)
    assert expected.abs().max() > 0.01
    for budget in BUDGETS:
        found, gradients, after = batch.gradients(lambda budget=budget: batch.cached(budget))
        assert found == pytest.approx(loss, rel=1e-6)
        torch.testing.assert_close(gradients, expected, rtol=1e-4, atol=1e-6)
        assert torch.equal(after, following)  # so that the next step draws the same, too
    torch.manual_seed(2)
    other = torch.cat([p.grad.flatten() for p in _again(batch) if p.grad is not None])
    assert not torch.allclose(other, expected, atol=1e-4)  # dropout matters


def _again(batch: Batch) -> list[torch.nn.Parameter]:
    batch.model.zero_grad()
    batch.plain()
    return list(batch.model.parameters())


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_pieces_give_what_one_padded_batch_gives(name, request):
    batch = Batch(request.getfixturevalue(name), dropout=0.0)
    rows = np.arange(24)

    def padded():
        loss = batch.model.loss(*batch.model(**batch.padded(rows)), **batch.of(rows))
        loss.backward()
        return loss.detach()

    loss, expected, _ = batch.gradients(padded)
    found, gradients, _ = batch.gradients(lambda: batch.cached(60))
    assert found == pytest.approx(loss, rel=1e-5)
    torch.testing.assert_close(gradients, expected, rtol=1e-3, atol=1e-5)


def test_a_scaled_loss_scales_all_gradients(tiny_bert):
    """As a GradScaler does where the card has float16 only."""
    batch = Batch(tiny_bert, dropout=0.2)
    loss, expected, _ = batch.gradients(lambda: batch.cached(60))
    same, scaled, _ = batch.gradients(lambda: batch.cached(60, scale=1024.0))
    assert same == loss
    torch.testing.assert_close(scaled / 1024, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_gradient_checkpointing_changes_nothing(name, request):
    batch = Batch(request.getfixturevalue(name), dropout=0.2)
    loss, expected, _ = batch.gradients(lambda: batch.cached(60))
    batch.encoder.model.gradient_checkpointing_enable({"use_reentrant": False})
    same, found, _ = batch.gradients(lambda: batch.cached(60))
    assert same == loss
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("supcon", [False, True])
def test_a_small_budget_trains_the_same_model(tiny_checkpoint, tmp_path, monkeypatch, supcon):
    """Cross-entropy alone in pieces of their own loss, and with SupCon: no graph is larger than
    the budget."""
    options = {"supcon": supcon, "dropout": 0.0}
    whole, history = train(tiny_checkpoint, tmp_path / "whole", **options)
    classify, passes = trainer.classify, []

    def counted(model, input_ids, *rest):
        passes.append((input_ids.numel(), torch.is_grad_enabled(), model.is_gradient_checkpointing))
        return classify(model, input_ids, *rest)

    monkeypatch.setattr(trainer, "classify", counted)
    small = {"tokens_per_batch": 30, "gradient_checkpointing": True}
    parts, again = train(tiny_checkpoint, tmp_path / "parts", **options, **small)
    assert max(tokens for tokens, _, _ in passes) <= 30
    assert {graph for _, graph, _ in passes} == ({True, False} if supcon else {True})
    assert all(checkpoints for _, _, checkpoints in passes)
    assert torch.allclose(weights(parts), weights(whole), atol=1e-4)
    for name in [c for c in history if c.startswith("train")]:
        np.testing.assert_allclose(again[name], history[name], rtol=1e-3)
