"""Contestants of benchmark `train`: this project's training loop and `transformers.Trainer`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from lib.bench.memory import peak_memory

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from lib.schema import BaseClassifierParams


class StopWatch:
    """Seconds of each training step, and the process's peak memory at the end of the last one."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.peak_gib = self._started = 0.0

    def start(self) -> None:
        """A batch is about to be fetched."""
        self._started = time.perf_counter()

    def stop(self, *_: object) -> None:
        """The optimiser has stepped."""
        self.seconds.append(time.perf_counter() - self._started)
        self.peak_gib = peak_memory()


Contest = tuple[list[tuple[int, float]], "np.ndarray", int]
"""(step, validation macro-F1) of each evaluation; test predictions of the best; train tokens."""


def train_ours(
    splits: dict[str, pd.DataFrame],
    params: BaseClassifierParams,
    evaluations: int,
    watch: StopWatch,
    state: Path,
) -> Contest:
    """What step 02 does, with the parameters of params/local.yaml."""
    from lib import training
    from lib.batches import ShuffledBatches, Texts
    from lib.encoder import hardware, new_classifier
    from lib.inference import predict

    encoder = new_classifier(
        params.base_model,
        pooling=params.pooling,
        max_tokens=params.max_tokens,
        seed=params.seed,
        dropout=params.dropout,
    )
    texts = {split: Texts.build(encoder, rows) for split, rows in splits.items()}
    lengths = [len(ids) for ids in texts["train"].token_ids]
    batches = ShuffledBatches(lengths, params.batch_size, params.seed)

    class Timed:
        def __getitem__(self, step: int) -> np.ndarray:
            watch.start()
            return batches[step]

    steps = batches.per_epoch * params.epochs
    history = training.fit(
        encoder,
        texts["train"],
        texts["validation"],
        Timed(),
        params=params,
        steps=steps,
        evaluate_at=training.evaluation_steps(steps, evaluations),
        state_dir=state,
    )
    predicted = predict(encoder, texts["test"].token_ids, **hardware(params))[0].argmax(1)
    found = zip(history["step"].tolist(), history["validation_macro_f1"].tolist(), strict=True)
    return list(found), predicted, sum(lengths)


def train_trainer(
    splits: dict[str, pd.DataFrame],
    params: BaseClassifierParams,
    evaluations: int,
    watch: StopWatch,
    state: Path,
) -> Contest:
    """`transformers.Trainer` at its defaults; its best state by validation goes to test."""
    import torch
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        Trainer,
        TrainerCallback,
        TrainingArguments,
        set_seed,
    )

    from lib.encoder import resolve
    from lib.evaluation import macro_f1
    from lib.training import evaluation_steps

    class Watched(TrainerCallback):
        best = -1.0

        def on_step_begin(self, *_, **__):
            watch.start()

        def on_step_end(self, arguments, state_of_run, control, **_):
            at = evaluation_steps(state_of_run.max_steps, evaluations)
            control.should_evaluate = state_of_run.global_step in at

        def on_evaluate(self, *_, metrics, model, **__):
            if metrics["eval_macro_f1"] > self.best:
                self.best = metrics["eval_macro_f1"]
                torch.save(model.state_dict(), state / "best.pt")

    set_seed(params.seed)
    path = resolve(params.base_model)
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForSequenceClassification.from_pretrained(path, num_labels=3)
    cut = {"truncation": True, "max_length": params.max_tokens}
    rows = {
        split: [
            {**tokenizer(text, **cut), "labels": label}
            for text, label in zip(frame["text"], frame["label"], strict=True)
        ]
        for split, frame in splits.items()
    }
    trainer = Trainer(
        model,
        TrainingArguments(
            str(state), num_train_epochs=params.epochs, seed=params.seed, save_strategy="no"
        ),
        train_dataset=rows["train"],
        eval_dataset=rows["validation"],
        processing_class=tokenizer,
        compute_metrics=lambda found: {
            "macro_f1": macro_f1(found.label_ids, found.predictions.argmax(1))
        },
        callbacks=[Watched],
    )
    trainer.train()
    history = [
        (row["step"], row["eval_macro_f1"])
        for row in trainer.state.log_history
        if "eval_macro_f1" in row
    ]
    model.load_state_dict(torch.load(state / "best.pt", weights_only=True))
    predicted = trainer.predict(rows["test"]).predictions.argmax(1)
    return history, predicted, sum(len(row["input_ids"]) for row in rows["train"])
