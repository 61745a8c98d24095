"""Training the base classifier, against a plain `transformers.Trainer` at the same settings.

    python tests/benchmarks/train.py --data FOLDER --train 1000 --epochs 2

Both have the same gold texts (through step 01, so that no test text has a twin in training), base
model, batch size, batches of like length, learning rates of encoder and new layer, warm-up,
precision, number of epochs and evaluations, and keep the best checkpoint by validation macro-F1.
Ours is what step 02 does with params/local.yaml, and then with what makes it cheaper on a CPU:
frozen word embeddings, or a vocabulary trimmed to the corpus. Each trains in a process of its own.

How to read it: `s per step` is the median of an optimiser step with its batch; evaluations do not
count. `s in all` is everything from loading to the saved model. Test macro-F1 with its 95%
interval says whether a cheaper way costs anything.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from common import alone, gpu_memory
from transformers import TrainerCallback
from transformers.trainer import DEFAULT_CALLBACKS

from lib.data import corpus, sources, tables
from lib.metrics import evaluate, macro_f1, with_interval
from lib.parameters import BaseClassifierParams
from lib.runs import parameter_files
from lib.runs.fingerprints import PROJECT
from lib.runs.steps import machine

MIN_COUNT = 3  # of a token in the corpus, for the trimmed vocabulary


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--data", type=Path, metavar="FOLDER", help="as data_dir of a run; default: the sample"
    )
    parser.add_argument("--train", type=int, metavar="N", help="gold train texts; default: all")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--base-model", default="embedded:e5-small", help="hub id or directory")
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    overrides = [f"{name}={getattr(options, name)}" for name in ("seed", "epochs", "base_model")]
    overrides += [f"max_tokens={options.max_tokens}", "unlabelled_gold=drop"]
    overrides += [f"max_gold_train={options.train}"] if options.train else []
    overrides.append(f"data_dir={options.data}" if options.data else "sources=[sample]")
    steps = parameter_files.load(PROJECT / "params" / "local.yaml", overrides).steps
    with tempfile.TemporaryDirectory(prefix="train-") as name:
        folder = Path(name)
        gold = prepare(folder, steps["01_gold_data"], options.base_model)
        params = steps["02_base_classifier"].model_dump() | {"freeze_word_embeddings": False}
        print(f"{machine()}\n{options.base_model}, {options.epochs} epochs, seed {options.seed}")
        print(
            ", ".join(f"{n:,} {split} texts" for split, n in gold["split"].value_counts().items())
        )
        rows = []
        for title, function, changes in (
            ("transformers.Trainer", trainer, {}),
            ("ours", ours, {}),
            ("ours, word embeddings frozen", ours, {"freeze_word_embeddings": True}),
            ("ours, trimmed vocabulary", ours, {"base_model": str(folder / "trimmed")}),
        ):
            work = folder / title
            work.mkdir()
            found, seconds, peak = alone(function, folder, work, params | changes)
            rows.append({"contestant": title, **found, "s in all": seconds, "peak GiB": peak})
            print(f"{title}: {seconds:.0f} s", flush=True)
    print(pd.DataFrame(rows).to_string(index=False, float_format="%.3g"))


def prepare(folder: Path, params: Any, base_model: str) -> pd.DataFrame:
    """Gold table, corpus and trimmed model in the folder; returns the gold table."""
    from lib.models import vocabulary

    contents = sources.fingerprint(params)
    corpus.prepare(folder, parameters=params.model_dump(mode="json"), contents=contents)
    gold = pd.read_parquet(folder / "gold.parquet")
    train = folder / "train.parquet"  # test texts have no part in the vocabulary
    gold.loc[gold["split"] == "train", ["text"]].to_parquet(train)
    files = [*tables.corpus_parts(folder / "corpus"), train]
    vocabulary.trim(base_model, files, folder / "trimmed", min_count=MIN_COUNT)
    return gold


class StopWatch(TrainerCallback):
    """Seconds of all optimiser steps of this process, each with the batch that is read for it."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.last = 0.0
        DEFAULT_CALLBACKS.append(self)  # an instance is taken as it is

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.last = time.perf_counter()

    on_evaluate = on_save = on_train_begin

    def on_step_end(self, *_: Any, **__: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - self.last)
        self.last = time.perf_counter()

    def speed(self, epochs: int) -> dict[str, Any]:
        """Seconds per step and of the last epoch, GiB of a GPU."""
        found = {"s per step": float(np.median(self.seconds))}
        found["s of last epoch"] = sum(self.seconds[-(len(self.seconds) // epochs) :])
        return found | ({"GPU GiB": gpu_memory()} if torch.cuda.is_available() else {})

    def result(self, test: pd.DataFrame, predicted: np.ndarray, epochs: int) -> dict[str, Any]:
        """The speed, and macro-F1 on test."""
        about = {"dataset": "gold", "split": "test", "model": "", "samples": 2000, "seed": 0}
        found = evaluate(test["label"].to_numpy(), predicted, **about)[0]
        interval = with_interval(found["value"], found["low"], found["high"])
        return self.speed(epochs) | {"test macro-F1": interval}


def ours(folder: Path, work: Path, values: dict[str, Any]) -> dict[str, Any]:
    """What step 02 does."""
    from lib.models import encoder, inference
    from lib.runs.parts import TRAINING
    from lib.training import base

    watch, params = StopWatch(), BaseClassifierParams(**values)
    local = Path(params.base_model).is_dir()
    base.train(
        work,
        gold=folder / "gold.parquet",
        base_model=Path(params.base_model) if local else params.base_model,
        base_revision=None,
        start_model=None,
        **params.only("pooling", "max_tokens", "epochs", "batch_size"),
        **params.only("evaluations_per_epoch", "calibrate", "decision_bias"),
        training=params.only(*TRAINING),
    )
    gold = pd.read_parquet(folder / "gold.parquet")
    test = gold[gold["split"] == "test"]
    model = encoder.load_classifier(work, params.max_tokens)
    hardware = encoder.hardware(params.precision, params.device)
    probabilities, _ = inference.predict(model, model.tokenize(test["text"].tolist()), **hardware)
    return watch.result(test, probabilities.argmax(1), params.epochs)


def metric_learning(folder: Path, work: Path, values: dict[str, Any]) -> dict[str, Any]:
    """The training of 05, each text in one batch of an epoch; only its speed."""
    from lib.models import encoder
    from lib.runs.parts import TRAINING
    from lib.training.batches import LengthBatches
    from lib.training.losses import SupCon
    from lib.training.trainer import Plan, Texts, fit

    watch, params = StopWatch(), BaseClassifierParams(**values)
    gold = pd.read_parquet(folder / "gold.parquet")
    about = params.only("pooling", "max_tokens", "seed")
    model = encoder.new_classifier(params.base_model, **about)
    splits = [gold[gold["split"] == split] for split in ("train", "validation")]
    texts, validation = (Texts.build(model, split) for split in splits)
    batches = LengthBatches(np.zeros(len(texts.labels)), params.batch_size, seed=0)  # not sorted
    steps, epochs = batches.per_epoch * params.epochs, params.epochs
    plan = Plan(steps, epochs, **params.only(*TRAINING))
    supcon = SupCon(model.hidden_size, temperature=0.1, hard_mining=True, memory_size=0)
    lambdas = {"lambda_class": 1.0, "lambda_metric": 0.5}
    fit(model, texts, validation, batches, plan, work / "checkpoints", supcon, **lambdas)
    return watch.speed(epochs)


def trainer(
    folder: Path, work: Path, values: dict[str, Any], at_once: int | None = None
) -> dict[str, Any]:
    """`transformers.Trainer` on the stock classifier of this encoder.

    Args:
        at_once: texts in memory, a divisor of the batch; None: a whole batch.
    """
    import transformers as hf

    from lib.models import encoder, inference

    watch, params = StopWatch(), BaseClassifierParams(**values)
    hf.set_seed(params.seed)
    path = encoder.resolve(params.base_model)
    tokenizer = hf.AutoTokenizer.from_pretrained(path)
    model = hf.AutoModelForSequenceClassification.from_pretrained(path, num_labels=3)
    cut = {"truncation": True, "max_length": params.max_tokens}
    gold = pd.read_parquet(folder / "gold.parquet")
    rows = {
        str(split): [
            {**tokenizer(text, **cut), "labels": label}
            for text, label in zip(frame["text"], frame["label"], strict=True)
        ]
        for split, frame in gold.groupby("split")
    }
    head = [p for name, p in model.named_parameters() if "classifier" in name]
    encoder_parameters = [p for name, p in model.named_parameters() if "classifier" not in name]
    optimizer = torch.optim.AdamW(
        [
            {"params": encoder_parameters, "lr": params.learning_rate},
            {"params": head, "lr": params.head_learning_rate},
        ]
    )
    per_epoch = -(-len(rows["train"]) // params.batch_size)
    every = max(1, per_epoch // params.evaluations_per_epoch)
    hardware = encoder.hardware(params.precision, params.device)
    inference.attend_fast(model, **hardware)  # as ours
    run = hf.Trainer(
        model,
        hf.TrainingArguments(
            str(work),
            num_train_epochs=params.epochs,
            per_device_train_batch_size=at_once or params.batch_size,
            gradient_accumulation_steps=params.batch_size // (at_once or params.batch_size),
            per_device_eval_batch_size=at_once or 64,
            train_sampling_strategy="group_by_length",
            bf16=hardware["dtype"] == torch.bfloat16,
            fp16=hardware["dtype"] == torch.float16,
            use_cpu=hardware["device"].type == "cpu",
            eval_strategy="steps",
            eval_steps=every,
            save_steps=every,
            save_total_limit=1,
            load_best_model_at_end=True,
            metric_for_best_model="macro_f1",
            warmup_steps=round(0.1 * per_epoch * params.epochs),
            seed=params.seed,
            report_to="none",
        ),
        train_dataset=rows["train"],
        eval_dataset=rows["validation"],
        processing_class=tokenizer,
        compute_metrics=lambda found: {
            "macro_f1": macro_f1(found.label_ids, found.predictions.argmax(1))
        },
        optimizers=(optimizer, None),
    )
    run.train()
    run.save_model(str(work))
    predicted = run.predict(rows["test"]).predictions.argmax(1)
    return watch.result(gold[gold["split"] == "test"], predicted, params.epochs)


if __name__ == "__main__":
    main()
