"""Training of a classifier by `transformers.Trainer`: our batches, our loss, the best checkpoint.

What the Trainer does not bring is here: two learning rates, batches that are given, a loss that
sees the whole batch of all processes in the memory of a part of it (`lib.training.grad_cache`),
evaluation in batches of like length. Everything that it keeps in a checkpoint (weights, optimiser,
random states, history) lets a run that was interrupted go on with the same result.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import transformers
from accelerate import PartialState
from torch import Tensor, nn
from torch.distributed.nn.functional import all_gather
from tqdm.auto import tqdm
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint, rotate_checkpoints

from lib import LABELS
from lib.files import damage, lengths, read_json, write_json
from lib.metrics import macro_f1
from lib.models.batching import TRAINING_TOKENS_PER_BATCH, Tokens, token_budget_batches
from lib.models.classifier import classify
from lib.models.encoder import Encoder, hardware
from lib.models.inference import attend_fast, pad, predict
from lib.training.batches import Batches, BatchSampler
from lib.training.grad_cache import average_gradients, cached_backward
from lib.training.losses import SupCon, cross_entropy

WHOLE = "whole.json"
"""Of a checkpoint, written last: the lengths of its files."""
WEIGHT_DECAY = 0.01
WARMUP_SHARE = 0.1
MAX_PADDING = 0.2  # share of a piece's tokens; with less, pieces are many and small


@dataclass(frozen=True)
class Texts:
    """Tokenised texts and what the losses need of them.

    token_ids: of n texts; labels: int64 [n]; weights: float32 [n]; targets: float32
    [n, classes], what the cross-entropy wants (the label, or probabilities); sources: [n], if they
    shall count alike in an evaluation.
    """

    token_ids: Tokens
    labels: np.ndarray
    weights: np.ndarray
    targets: np.ndarray
    sources: np.ndarray | None = None

    @classmethod
    def build(
        cls,
        encoder: Encoder,
        frame: pd.DataFrame,
        weights: np.ndarray | None = None,
        texts: Iterable[str] | None = None,
    ) -> Texts:
        """From a frame with `label` and, if they are not given, `text`; weights default to 1."""
        labels = frame["label"].to_numpy(dtype=np.int64)
        return cls(
            encoder.tokenize(frame["text"].tolist() if texts is None else texts),
            labels,
            np.ones(len(labels), np.float32) if weights is None else weights.astype(np.float32),
            np.eye(len(LABELS), dtype=np.float32)[labels],
        )

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per text, int64 [n]."""
        return self.token_ids.lengths


@dataclass(frozen=True)
class Plan:
    """How a model is trained: see `lib.parameters.TrainingParams`; evaluations: in all."""

    steps: int
    evaluations: int
    learning_rate: float
    head_learning_rate: float
    freeze_word_embeddings: bool
    seed: int
    precision: str
    device: str
    tokens_per_batch: int | None = None
    gradient_checkpointing: bool = False

    @property
    def on(self) -> dict[str, Any]:
        """dtype and device of the training."""
        return hardware(self.precision, self.device)

    @property
    def predicting(self) -> dict[str, Any]:
        """Of `lib.models.inference.predict`: `on`, and the tokens that are in memory at a time."""
        return self.on | {"tokens_per_batch": self.tokens_per_batch}

    @property
    def evaluate_at(self) -> set[int]:
        """Numbers of finished steps, evenly spread, the last one included."""
        count = self.evaluations
        return {max(1, round(self.steps * (i + 1) / count)) for i in range(count)}


class LossModel(nn.Module):
    """A classifier with its loss, so that a checkpoint holds all that is trained.

    Args:
        supcon: None for the cross-entropy alone. With lambda_metric 0 it is measured, not trained.
    """

    _keys_to_ignore_on_save = None  # the Trainer asks for it when a state lacks what is frozen

    def __init__(
        self,
        encoder: Encoder,
        supcon: SupCon | None = None,
        *,
        lambda_class: float = 1.0,
        lambda_metric: float = 0.0,
    ) -> None:
        super().__init__()
        self.classifier, self.pooling, self.supcon = encoder.model, encoder.pooling, supcon
        self.lambda_class, self.lambda_metric = lambda_class, lambda_metric
        self.sums: dict[str, float] = {}
        if supcon is not None and lambda_metric == 0:
            supcon.requires_grad_(False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """Logits float32 [n, classes], and pooled vectors float32 [n, d] if SupCon has them."""
        logits, pooled = classify(self.classifier, input_ids, attention_mask, self.pooling)
        if self.supcon is None:
            return (logits.float(),)
        return logits.float(), pooled

    def loss(
        self,
        logits: Tensor,
        pooled: Tensor | None = None,
        *,
        labels: Tensor,
        targets: Tensor,
        weights: Tensor,
    ) -> Tensor:
        """The loss of the whole batch of all processes; its parts are remembered."""
        targets, weights, labels = map(together, (targets, weights, labels))
        parts = {"class": cross_entropy(together(logits), targets, weights)}
        loss = self.lambda_class * parts["class"]
        if self.supcon is not None and pooled is not None:
            parts["metric"] = self.supcon(together(pooled), labels, weights)
            if self.trains_supcon:
                loss = loss + self.lambda_metric * parts["metric"]
        for name, value in {**parts, "steps": torch.ones(())}.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value.detach())
        return loss

    @property
    def trains_supcon(self) -> bool:
        """Whether the texts of a batch are compared; else each has a loss of its own."""
        return self.supcon is not None and self.lambda_metric > 0

    def take_means(self) -> dict[str, float]:
        """Mean of each part of the loss since the last call."""
        sums, self.sums = self.sums, {}
        steps = sums.pop("steps", 1.0)
        return {name: value / steps for name, value in sums.items()}

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """Without what is frozen: the table of words is most of a checkpoint else."""
        frozen = {name for name, p in self.named_parameters() if not p.requires_grad}
        found = super().state_dict(*args, **kwargs)
        return {name: value for name, value in found.items() if name not in frozen}


def together(values: Tensor) -> Tensor:
    """The values of all processes, in order: [n, ...] -> [n * processes, ...].

    Gradients are added up on the way back, and the Trainer averages those of the weights: the
    result is the gradient of the loss of the whole batch.
    """
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return values
    return torch.cat(all_gather(values.contiguous()))


class ClassifierTrainer(Trainer):
    """The Trainer with given batches, two learning rates and evaluation by `lib.models.inference`.

    Args:
        encoder: whose model is the one in `model`.
    """

    def __init__(
        self,
        model: LossModel,
        encoder: Encoder,
        train: Texts,
        validation: Texts,
        batches: Batches,
        plan: Plan,
        output_dir: Path,
    ) -> None:
        self.encoder, self.validation, self.plan, self.batches = encoder, validation, plan, batches
        self.losses = model
        self.on = plan.on
        self.tokens_per_batch = plan.tokens_per_batch or TRAINING_TOKENS_PER_BATCH
        world = PartialState(cpu=self.on["device"].type == "cpu").num_processes
        arguments = TrainingArguments(
            output_dir=str(output_dir),
            max_steps=plan.steps,
            per_device_train_batch_size=math.ceil(batches.size / world),
            learning_rate=plan.learning_rate,
            warmup_steps=round(plan.steps * WARMUP_SHARE),
            max_grad_norm=1.0,
            bf16=self.on["dtype"] == torch.bfloat16,
            fp16=self.on["dtype"] == torch.float16,  # and a GradScaler, part of the checkpoint
            use_cpu=self.on["device"].type == "cpu",
            dataloader_pin_memory=self.on["device"].type != "cpu",
            eval_strategy="steps",
            eval_steps=plan.steps,  # the last step; `_Callback` adds the others
            save_strategy="steps",
            save_steps=plan.steps,
            load_best_model_at_end=True,
            metric_for_best_model="macro_f1",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,  # its place is taken by `_Callback`, which knows the F1
            remove_unused_columns=False,
            seed=plan.seed,
        )
        # nn.DataParallel would show the loss a part of the batch only: one process for each GPU
        arguments._n_gpu = min(arguments.n_gpu, 1)
        rows: Any = range(len(train.labels))
        super().__init__(
            model,
            arguments,
            data_collator=lambda chosen: self._collate(train, chosen),
            train_dataset=rows,
            eval_dataset=rows,  # not used: see `evaluate`
            callbacks=[_Callback(plan)],
        )
        self.remove_callback(PrinterCallback)

    def _collate(self, texts: Texts, rows: list[int]) -> dict[str, Any]:
        """Pieces of texts of like length, the longest first, and what the loss needs of all."""
        lengths = texts.lengths[rows]
        parts = [
            np.asarray(rows)[part]
            for part in token_budget_batches(lengths, self.tokens_per_batch, MAX_PADDING)
        ]
        cpu, order = torch.device("cpu"), np.concatenate(parts)
        arrays = {"labels": texts.labels, "targets": texts.targets, "weights": texts.weights}
        about = {name: torch.from_numpy(array[order]) for name, array in arrays.items()}
        pad_id = self.encoder.pad_id
        return about | {
            "pieces": [pad([texts.token_ids[i] for i in p], pad_id, cpu) for p in parts]
        }

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> Tensor:
        """Gradients of one batch; processes meet in `together` and at the end, nowhere else."""
        model.train()
        about: dict[str, Any] = self._prepare_inputs(inputs)
        pieces = about.pop("pieces")
        if self.losses.trains_supcon:
            loss = cached_backward(
                self.losses,
                lambda logits, pooled: self.losses.loss(logits, pooled, **about),
                pieces,
                self.tokens_per_batch,
                self.accelerator.backward,
            )
        else:
            loss = self._accumulate(pieces, about)
        average_gradients(self.losses)
        return loss

    def _accumulate(self, pieces: list[dict[str, Tensor]], about: dict[str, Tensor]) -> Tensor:
        """Gradients of the cross-entropy, piece by piece, normalised over all processes' batch."""
        sizes = [len(piece["input_ids"]) for piece in pieces]
        # the mean over processes follows, so each counts as many times as there are
        total = together(about["weights"]).sum().clamp(min=1e-6)  # all may weigh nothing
        scale = self.losses.lambda_class * self.args.world_size / total
        targets, weights = about["targets"].split(sizes), about["weights"].split(sizes)
        found = []
        for piece, target, weight in zip(pieces, targets, weights, strict=True):
            outputs = self.losses(**piece)
            loss = cross_entropy(outputs[0], target, weight)
            self.accelerator.backward(loss * weight.sum() * scale)
            found.append([output.detach() for output in outputs])
        with torch.no_grad():
            return self.losses.loss(*map(torch.cat, zip(*found, strict=True)), **about)

    def _get_train_sampler(self, train_dataset: Any = None) -> BatchSampler:
        return BatchSampler(self.batches, self.plan.steps, self.args.world_size)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW; what gives the logits has its own rate; biases and norms are not decayed."""
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        last = set(map(id, self.encoder.last_layer.parameters()))
        for name, parameter in self.losses.named_parameters():
            if parameter.requires_grad:
                # the layer that gives the logits, and SupCon's projection
                new = id(parameter) in last or not name.startswith("classifier.")
                rate = self.plan.head_learning_rate if new else self.plan.learning_rate
                decay = WEIGHT_DECAY if parameter.ndim > 1 else 0.0
                groups.setdefault((rate, decay), []).append(parameter)
        self.optimizer = torch.optim.AdamW(
            [{"params": p, "lr": rate, "weight_decay": d} for (rate, d), p in groups.items()],
            fused=True,
        )
        return self.optimizer

    def _save_checkpoint(self, *arguments: Any, **options: Any) -> None:
        super()._save_checkpoint(*arguments, **options)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            output_dir = str(self.args.output_dir)
            folder = checkpoint(output_dir, self.state.global_step)
            write_json(folder / WHOLE, lengths(folder))
            # only now the older ones may go, but for the best
            rotate_checkpoints(output_dir, 1, self.state.best_model_checkpoint)

    def _load_scaler(self, checkpoint: str | None) -> None:
        """Nothing where there is none: a state in float16 may be gone on with on other hardware."""
        if self.accelerator.scaler is not None:
            super()._load_scaler(checkpoint)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Parts of the loss since the last evaluation, and how good the model is on validation."""
        parts = self.losses.take_means()
        metrics = {f"eval_train_{name}_loss": value for name, value in parts.items()}
        found = evaluate(self.encoder, self.validation, self.plan.predicting)
        metrics |= {f"eval_{name}": value for name, value in found.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics


class _Callback(TrainerCallback):
    """Evaluates at the plan's steps; shows progress."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def on_train_begin(self, args, state, control, **_) -> None:  # type: ignore[no-untyped-def]
        if state.best_global_step:  # saved with an absolute path, and the folder may have moved
            state.best_model_checkpoint = str(checkpoint(args.output_dir, state.best_global_step))
        done, total, main = state.global_step, self.plan.steps, state.is_world_process_zero
        if done and main:
            tqdm.write(f"going on from step {done} of {total}")
        self.bar = tqdm(total=total, initial=done, desc="training", unit="step", disable=not main)

    def on_step_end(self, args, state, control, **_) -> None:  # type: ignore[no-untyped-def]
        self.bar.update(state.global_step - self.bar.n)
        if state.global_step in self.plan.evaluate_at:
            control.should_evaluate = control.should_save = True

    def on_evaluate(self, args, state, control, **more) -> None:  # type: ignore[no-untyped-def]
        self.bar.set_postfix(macro_f1=f"{more['metrics']['eval_macro_f1']:.4f}")

    def on_train_end(self, args, state, control, **_) -> None:  # type: ignore[no-untyped-def]
        self.bar.close()


def fit(
    encoder: Encoder,
    train: Texts,
    validation: Texts,
    batches: Batches,
    plan: Plan,
    checkpoints: Path,
    supcon: SupCon | None = None,
    **lambdas: float,
) -> pd.DataFrame:
    """Train in place; afterwards the encoder holds the best state by validation macro-F1.

    Args:
        batches: indices into `train` for each step number.
        checkpoints: where the state is kept for going on after an interruption; the caller removes
            it when the result is saved.
        supcon, lambdas: see `LossModel`.
    Returns:
        One row per evaluation: step, train_<part>_loss (mean since the last one), validation_loss,
        validation_macro_f1, validation_accuracy, and `best` for the kept one.
    """
    transformers.logging.set_verbosity_error()
    encoder.model.get_input_embeddings().requires_grad_(not plan.freeze_word_embeddings)
    attend_fast(encoder.model, **plan.on)
    if plan.gradient_checkpointing:
        encoder.model.gradient_checkpointing_enable({"use_reentrant": False})
    model = LossModel(encoder, supcon, **lambdas)
    trainer = ClassifierTrainer(model, encoder, train, validation, batches, plan, checkpoints)
    trainer.train(resume_from_checkpoint=last_checkpoint(checkpoints))
    encoder.model.eval()
    return history(trainer.state.log_history)


def checkpoint(folder: Path | str, step: int) -> Path:
    """Where the Trainer keeps the state after a step."""
    return Path(folder, f"checkpoint-{step}")


def last_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint, when those that are not whole are removed.

    A kill while one is written leaves half of it, with which the Trainer could not go on; nor could
    it with one whose best one before it is gone.
    """
    if PartialState().is_main_process:  # which alone may have made the folder already
        for path in sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name[11:])):
            try:
                found = damage(path, read_json(path / WHOLE))
                state = read_json(path / "trainer_state.json")
                best = checkpoint(folder, state["best_global_step"])
                found = found or (None if best.exists() else f"{best} is missing")
            except (OSError, ValueError):
                found = f"{path} is not whole"
            if found:
                tqdm.write(f"{found}: training goes on without {path.name}")
                shutil.rmtree(path)
    PartialState().wait_for_everyone()
    return get_last_checkpoint(str(folder)) if folder.exists() else None


COLUMNS = {
    "step": "step",
    "eval_train_class_loss": "train_class_loss",
    "eval_train_metric_loss": "train_metric_loss",
    "eval_loss": "validation_loss",
    "eval_macro_f1": "validation_macro_f1",
    "eval_accuracy": "validation_accuracy",
}


def history(log: list[dict[str, Any]]) -> pd.DataFrame:
    """The Trainer's log of evaluations as `fit` returns it."""
    rows = [row for row in log if "eval_macro_f1" in row]
    frame = pd.DataFrame(rows, columns=[key for key in COLUMNS if key in rows[0]])
    frame = frame.rename(columns=COLUMNS)
    frame["best"] = frame.index == frame["validation_macro_f1"].idxmax()
    return frame


def evaluate(encoder: Encoder, texts: Texts, on: dict[str, Any]) -> dict[str, float]:
    """loss (mean cross-entropy), macro_f1 (its mean over `texts.sources`, if given) and accuracy.

    Args:
        on: of `lib.models.inference.predict`, as `Plan.predicting` gives it.
    """
    probabilities, _ = predict(encoder, texts.token_ids, **on)
    chosen = probabilities[np.arange(len(texts.labels)), texts.labels]
    predicted = probabilities.argmax(1)
    sources = np.zeros(len(predicted)) if texts.sources is None else texts.sources
    each = [sources == source for source in np.unique(sources)]
    return {
        "loss": float(-np.log(np.clip(chosen, 1e-9, 1)).mean()),
        "macro_f1": float(np.mean([macro_f1(texts.labels[i], predicted[i]) for i in each])),
        "accuracy": float((predicted == texts.labels).mean()),
    }
