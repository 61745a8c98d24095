"""One training loop for both training steps (02 and 05).

Batches are a function of the step's number, so a run can stop after any evaluation and go on from
there with the same result. The best state by validation macro-F1 is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from lib import distributed
from lib.artifacts import atomic
from lib.batches import Batch, Batches, Texts
from lib.encoder import Encoder, hardware
from lib.evaluation import macro_f1
from lib.inference import predict
from lib.model import PooledClassifierOutput
from lib.replicas import Replicas
from lib.schema import TrainingParams

MAX_GRADIENT_NORM = 1.0


LossParts = Callable[[PooledClassifierOutput, Batch], dict[str, Tensor]]
"""A batch's output and texts -> named scalar parts; `total` is what is minimised."""


def cross_entropy(output: PooledClassifierOutput, batch: Batch) -> dict[str, Tensor]:
    """Weighted mean of the cross-entropy over a batch."""
    losses = nn.functional.cross_entropy(output.logits.float(), batch.targets, reduction="none")
    loss = (losses * batch.weights).sum() / batch.weights.sum().clamp(min=1e-6)
    return {"class": loss, "total": loss}


def fit(
    encoder: Encoder,
    train: Texts,
    validation: Texts,
    batches: Batches,
    *,
    params: TrainingParams,
    steps: int,
    evaluate_at: list[int],
    state_dir: Path,
    loss: LossParts = cross_entropy,
    loss_module: nn.Module | None = None,
    title: str = "training",
) -> pd.DataFrame:
    """Train in place; afterwards the encoder holds the best state by validation macro-F1.

    Several processes (see `lib.distributed`) share the texts of each batch; the main one writes.

    Args:
        batches: indices into `train` for each step number.
        steps: optimiser steps in all.
        evaluate_at: numbers of finished steps after which validation is measured.
        state_dir: where the state is kept for going on after an interruption; the caller removes
            it when the result is saved.
        loss: parts of the loss from a batch's output.
        loss_module: trainable parts of the loss (a projection), trained and kept in the state.
    Returns:
        One row per evaluation: step, train_<part> (mean since the last one), validation_loss,
        validation_macro_f1, validation_accuracy, and `best` for the kept one.
    """
    on = hardware(params)
    dtype, device = on["dtype"], on["device"]
    model = encoder.model.to(device)
    modules = nn.ModuleList([model] + ([loss_module.to(device)] if loss_module else []))
    model.get_input_embeddings().requires_grad_(not params.freeze_word_embeddings)
    optimizer = _optimizer(modules, params)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: _rate(step, steps, round(steps * params.warmup_share))
    )
    history: list[dict[str, float]] = []
    torch.manual_seed(params.seed + distributed.index())  # dropout
    latest, best = state_dir / "latest.pt", state_dir / "best.pt"
    first = 0
    if latest.exists():
        first, history = _restore(latest, modules, optimizer, scheduler)
        if distributed.index() > 0:  # the state holds the main process's random numbers
            torch.manual_seed(params.seed + distributed.index() + first)
        tqdm.write(f"{title}: going on from step {first} of {steps}")

    sums: dict[str, float] = {}
    since = 0
    bar = tqdm(
        range(first, steps),
        initial=first,
        total=steps,
        desc=title,
        unit="step",
        disable=not distributed.is_main(),
    )
    with Replicas(model, encoder.pad_id, dtype=dtype, device=device) as replicas:
        for step in bar:
            model.train()
            batch = batches[step]
            output, pooled = forward(replicas, [train.token_ids[i] for i in batch])
            parts = loss(output, train.batch(batch, device))
            parts["total"].backward()
            replicas.backward(pooled.grad)
            distributed.average_gradients(_trainable(modules).values())
            nn.utils.clip_grad_norm_(_trainable(modules).values(), MAX_GRADIENT_NORM)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad(set_to_none=True)
            for name, value in parts.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach())
            since += 1
            if step + 1 in evaluate_at or step + 1 == steps:
                row = {"step": step + 1} | {f"train_{k}_loss": v / since for k, v in sums.items()}
                row |= evaluate(encoder, validation, dtype, device)
                previous = max((r["validation_macro_f1"] for r in history), default=-1.0)
                history.append(row)
                if distributed.is_main():
                    if row["validation_macro_f1"] > previous:
                        _save(best, model=_values(_trainable(nn.ModuleList([model]))))
                    _store(latest, modules, optimizer, scheduler, step + 1, history)
                sums, since = {}, 0
                bar.set_postfix(macro_f1=f"{row['validation_macro_f1']:.4f}")
    distributed.wait_for_all()
    values = torch.load(best, weights_only=True)["model"]
    _assign(_trainable(nn.ModuleList([model])), values)
    model.eval()
    frame = pd.DataFrame(history)
    frame["best"] = frame.index == frame["validation_macro_f1"].idxmax()
    return frame


def forward(
    replicas: Replicas, token_ids: list[np.ndarray]
) -> tuple[PooledClassifierOutput, Tensor]:
    """A batch's logits and pooled vectors, and the leaf that gathers the gradients of the latter.

    The loss sees the whole batch, also where several processes share it.
    """
    lengths = np.array([len(row) for row in token_ids])
    own = np.array(list(distributed.own_share(np.argsort(-lengths, kind="stable"))), dtype=int)
    pooled, rows = replicas.forward([token_ids[i] for i in own])
    found = torch.cat([replicas.model.classify(pooled), pooled], dim=1)
    whole = torch.zeros((len(token_ids), found.shape[1]), device=found.device)
    whole = whole.index_copy(0, torch.from_numpy(own[rows]).to(found.device), found)
    whole = distributed.add_up(whole)
    classes = found.shape[1] - pooled.shape[1]
    return PooledClassifierOutput(logits=whole[:, :classes], pooled=whole[:, classes:]), pooled


def evaluate(
    encoder: Encoder, texts: Texts, dtype: torch.dtype, device: torch.device
) -> dict[str, float]:
    """validation_loss (mean cross-entropy), validation_macro_f1 and validation_accuracy."""
    own = list(distributed.own_share(range(len(texts.labels))))
    found, _ = predict(encoder, [texts.token_ids[i] for i in own], dtype=dtype, device=device)
    whole = torch.zeros((len(texts.labels), found.shape[1]), device=device)
    whole[own] = torch.from_numpy(found).to(device)
    with torch.no_grad():
        probabilities = distributed.add_up(whole).cpu().numpy()
    chosen = probabilities[np.arange(len(texts.labels)), texts.labels]
    predicted = probabilities.argmax(1)
    return {
        "validation_loss": float(-np.log(np.clip(chosen, 1e-9, 1)).mean()),
        "validation_macro_f1": macro_f1(texts.labels, predicted),
        "validation_accuracy": float((predicted == texts.labels).mean()),
    }


def evaluation_steps(steps: int, evaluations: int) -> list[int]:
    """`evaluations` step numbers, evenly spread, the last one being `steps`."""
    return sorted({max(1, round(steps * (i + 1) / evaluations)) for i in range(evaluations)})


def overfit_step(history: pd.DataFrame) -> int | None:
    """The step from which the model overfits: where validation loss is lowest, if it rises later.

    None while validation loss still falls at the last evaluation.
    """
    lowest = history["validation_loss"].idxmin()
    return None if lowest == history.index[-1] else int(history.loc[lowest, "step"])


def _optimizer(modules: nn.ModuleList, params: TrainingParams) -> torch.optim.Optimizer:
    """AdamW; new layers have their own rate; biases and norms are not decayed."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in _trainable(modules).items():
        rate = params.learning_rate if ".encoder." in f".{name}" else params.head_learning_rate
        decay = params.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": p, "lr": rate, "weight_decay": decay} for (rate, decay), p in groups.items()],
        fused=True,
    )


def _rate(step: int, steps: int, warmup: int) -> float:
    """Linear warm-up, then linear decay to zero."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return max(0.0, (steps - step) / max(1, steps - warmup))


def _trainable(modules: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in modules.named_parameters() if p.requires_grad}


def _values(parameters: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    return {name: p.detach().cpu() for name, p in parameters.items()}


def _assign(parameters: dict[str, nn.Parameter], values: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(values[name])


def _save(path: Path, **content) -> None:
    with atomic(path) as temporary:
        torch.save(content, temporary)


def _store(path, modules, optimizer, scheduler, step, history) -> None:
    _save(
        path,
        modules=_values(_trainable(modules)),
        buffers={name: b.cpu() for name, b in modules.named_buffers()},
        optimizer=optimizer.state_dict(),
        scheduler=scheduler.state_dict(),
        random=torch.get_rng_state(),
        step=step,
        history=history,
    )


def _restore(path, modules, optimizer, scheduler) -> tuple[int, list[dict[str, float]]]:
    state = torch.load(path, weights_only=True)
    _assign(_trainable(modules), state["modules"])
    for name, buffer in modules.named_buffers():
        buffer.copy_(state["buffers"][name])
    optimizer.load_state_dict(state["optimizer"])
    scheduler.load_state_dict(state["scheduler"])
    torch.set_rng_state(state["random"])
    return state["step"], state["history"]
