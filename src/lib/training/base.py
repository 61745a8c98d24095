"""Step 02: the base classifier, trained on gold labels only."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
from accelerate import PartialState

from lib.files import atomic, write_json
from lib.models.encoder import Encoder, load_classifier, new_classifier, save_classifier
from lib.models.inference import predict
from lib.models.temperature import calibrate, decide, with_temperature
from lib.training.batches import LengthBatches
from lib.training.trainer import Plan, Texts, fit

CHECKPOINTS, HISTORY, ABOUT = "checkpoints", "history.csv", "training.json"


def train(
    folder: Path,
    *,
    gold: Path,
    base_model: Path | str,
    base_revision: str | None,
    start_model: Path | None,
    pooling: str,
    max_tokens: int,
    epochs: int,
    batch_size: int,
    evaluations_per_epoch: int,
    calibrate: bool,
    decision_bias: bool,
    training: dict[str, Any],
) -> None:
    """Train the base classifier and save its best checkpoint by validation macro-F1 in `folder`.

    Args:
        gold: gold.parquet of 01.
        base_model: hub id, embedded model or local directory, with a new classification layer.
        start_model: a saved classifier to go on from instead, with its own pooling.
        training: the rest of `lib.training.trainer.Plan`.
        others: see `lib.parameters.BaseClassifierParams`.
    Raises:
        UserError: a model cannot be loaded.
    """
    if start_model is not None:
        encoder = load_classifier(start_model, max_tokens)
    else:
        encoder = new_classifier(
            base_model,
            pooling=pooling,
            max_tokens=max_tokens,
            seed=training["seed"],
            revision=base_revision,
        )
    frame = pd.read_parquet(gold)
    train, validation = (
        Texts.build(encoder, frame[frame["split"] == split]) for split in ("train", "validation")
    )
    batches = LengthBatches(train.lengths, batch_size, training["seed"])
    plan = Plan(batches.per_epoch * epochs, epochs * evaluations_per_epoch, **training)
    history = fit(encoder, train, validation, batches, plan, folder / CHECKPOINTS)
    about = mend(encoder, validation, plan.predicting, temperature=calibrate, bias=decision_bias)
    leave(folder, encoder, history, about | {"steps": plan.steps})


def mend(
    encoder: Encoder, validation: Texts, on: dict[str, Any], *, temperature: bool, bias: bool
) -> dict[str, Any]:
    """Fit what is asked for on validation and put it into the last layer, in place.

    Args:
        on: of `lib.models.inference.predict`, as `Plan.predicting` gives it.
    Returns:
        `temperature`, and with `bias` the `decision_bias` of each class.
    """
    about: dict[str, Any] = {"temperature": 1.0}
    if not (temperature or bias):
        return about
    probabilities, _ = predict(encoder, validation.token_ids, **on)
    if temperature:
        about["temperature"] = calibrate(encoder.last_layer, probabilities, validation.labels)
        probabilities = with_temperature(probabilities, about["temperature"])
    if bias:
        about["decision_bias"] = decide(encoder.last_layer, probabilities, validation.labels)
    return about


def leave(folder: Path, encoder: Encoder, history: pd.DataFrame, about: dict[str, Any]) -> None:
    """Save a trained model with its history; checkpoints go when it is whole.

    Of several processes the main one does it.
    """
    if not PartialState().is_main_process:
        return
    best = history[history["best"]].iloc[0]
    about |= {"best_step": int(best["step"]), "best_macro_f1": best["validation_macro_f1"]}
    save_classifier(encoder, folder)
    with atomic(folder / HISTORY) as temporary:
        history.to_csv(temporary, index=False)
    write_json(folder / ABOUT, about)
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)


def overfit_step(history: pd.DataFrame) -> int | None:
    """The step from which the model overfits: where validation loss is lowest, if it rises later.

    None while validation loss still falls at the last evaluation.
    """
    lowest = history["validation_loss"].idxmin()
    return None if lowest == history.index[-1] else int(history.loc[lowest, "step"])
