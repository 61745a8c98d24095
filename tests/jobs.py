"""What test_trainer.py runs in one process and in two: `torchrun jobs.py CHECKPOINT OUT`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch.distributed import group, is_initialized

from lib.models.encoder import PATIENCE, new_classifier, processes
from lib.training.batches import LengthBatches
from lib.training.losses import SupCon
from lib.training.trainer import Plan, Texts, fit
from test_trainer import toy, weights


def main(checkpoint: str, out: Path) -> None:
    """Train some steps with SupCon and without dropout; the main process writes the weights."""
    together = processes()
    if is_initialized():
        backend = group.WORLD._get_backend(torch.device("cpu"))
        assert backend.options._timeout == PATIENCE
    encoder = new_classifier(checkpoint, pooling="mean", max_tokens=32, seed=0)
    for module in encoder.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    texts = Texts.build(encoder, toy(48, 1))
    batches = LengthBatches(texts.lengths, 12, seed=0)
    torch.manual_seed(0)
    supcon = SupCon(encoder.hidden_size, temperature=0.1, hard_mining=False, memory_size=24)
    plan = Plan(
        steps=4,
        evaluations=1,
        learning_rate=1e-3,
        head_learning_rate=1e-3,
        freeze_word_embeddings=False,
        seed=0,
        precision="float32",
        device="cpu",
        tokens_per_batch=40,  # less than a batch, and another number of pieces in each process
    )
    fit(encoder, texts, texts, batches, plan, out.parent / "checkpoints", supcon, lambda_metric=0.5)
    if together.is_main_process:
        torch.save((together.num_processes, weights(encoder)), out)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
