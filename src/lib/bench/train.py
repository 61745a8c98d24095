"""Benchmark `train`: time to the same validation macro-F1 as a plain `transformers.Trainer`.

Same data, base model, cut-off, seed and machine; each contestant trains in a process of its own.
The data go through step 01, so validation and test texts have no twin in training; the vocabulary
is trimmed to the corpus and the gold train texts. All are evaluated after the same numbers of
texts. Only training is timed: from the fetch of a batch to the end of the optimiser's step.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from lib.params import RunParams

REFERENCE = "trainer"
CONTESTANTS = {
    REFERENCE: "transformers.Trainer",
    "full": "ours, all trained",
    "frozen": "ours, word embeddings frozen",
    "trimmed": "ours, trimmed vocabulary",
    "trimmed-frozen": "ours, trimmed and frozen",
}
"""Name on the command line -> name in the table."""
MIN_COUNT = 3  # of a token in the corpus, for the trimmed vocabulary
SETTINGS = ("data", "train", "validation", "test", "epochs", "evaluations", "base_model", "seed")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command line."""
    parser.add_argument(
        "--data", type=Path, metavar="FOLDER", help="as data_dir of a run; default: the sample"
    )
    parser.add_argument("--train", type=int, metavar="N", help="gold train texts; default: all")
    parser.add_argument("--validation", type=int, metavar="N", help="at most so many; default: all")
    parser.add_argument("--test", type=int, metavar="N", help="at most so many; default: all")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--evaluations", type=int, default=4, help="per epoch; default 4")
    parser.add_argument("--base-model", default="embedded:e5-small", help="hub id or directory")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", type=float, help="macro-F1; default: the Trainer's best")
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, metavar="NAME", help="run these")
    parser.add_argument(
        "--directory",
        type=Path,
        help="where to keep data and results, to go on from; default: none",
    )
    parser.add_argument("--work", choices=CONTESTANTS, help=argparse.SUPPRESS)  # one contestant


def run(options: argparse.Namespace) -> int:
    """Measure and print; returns the exit status."""
    from lib.artifacts import machine, read_json
    from lib.encoder import choose_device, compute_dtype

    if options.work:
        contest(options.work, options)
        return 0
    with tempfile.TemporaryDirectory(prefix="train-") as temporary:
        options.directory = options.directory or Path(temporary)
        sizes = prepare(options)
        results = {}
        for name in CONTESTANTS:
            path = options.directory / f"{name}.json"
            if not path.exists() and name in (options.only or CONTESTANTS):
                command = [sys.executable, "-m", "lib", *_arguments(name, options)]
                if status := subprocess.run(command).returncode:
                    return status
            if path.exists():
                results[name] = read_json(path)
    device = choose_device("auto")
    dtype = str(compute_dtype("auto", device)).removeprefix("torch.")
    print(f"{machine()}; {device}; ours in {dtype}, Trainer in float32")
    print(f"{options.base_model}, {options.epochs} epochs, seed {options.seed}")
    print(", ".join(f"{count:,} {split} texts" for split, count in sizes.items()))
    print(table(results, options.target).to_string(index=False))
    for name, result in results.items():
        curve = " ".join(f"{row['macro_f1']:.3f}" for row in result["evaluations"])
        print(f"{CONTESTANTS[name]}: validation macro-F1 {curve}")
    return 0


def prepare(options: argparse.Namespace) -> dict[str, int]:
    """Gold table, train texts and trimmed model in the directory; what is there is kept.

    Returns:
        Number of texts per split.
    Raises:
        UserError: bad data, or the directory was made with other options.
    """
    from lib import corpus, sources, trimming
    from lib.artifacts import atomic, read_json, write_json
    from lib.tables import corpus_parts

    folder = options.directory
    chosen = {name: str(getattr(options, name)) for name in SETTINGS}
    settings = folder / "settings.json"
    if settings.exists() and read_json(settings) != chosen:
        raise UserError(f"--directory: {folder} was made with {read_json(settings)}; name another")
    write_json(settings, chosen)
    for stray in folder.glob("state-*"):  # of a contestant that was killed
        shutil.rmtree(stray)
    params = _params(options).steps["01_gold_data"]
    corpus.prepare(sources.portions(params), folder, params)
    gold = read_gold(options)
    train = folder / "train.parquet"
    with atomic(train) as temporary:
        gold.loc[gold["split"] == "train", ["text"]].to_parquet(temporary)
    if not (folder / "trimmed").exists():
        files = [*corpus_parts(folder / "corpus"), train]
        trimming.trim(options.base_model, files, folder / "trimmed", min_count=MIN_COUNT)
    return gold["split"].value_counts().loc[["train", "validation", "test"]].to_dict()


def read_gold(options: argparse.Namespace) -> pd.DataFrame:
    """The gold table, with at most `validation` and `test` texts of these splits."""
    import pandas as pd

    gold = pd.read_parquet(options.directory / "gold.parquet")
    for split in ("validation", "test"):
        rows, limit = gold[gold["split"] == split], getattr(options, split)
        if limit and limit < len(rows):
            kept = rows.sample(limit, random_state=options.seed)
            gold = pd.concat([gold[gold["split"] != split], kept], ignore_index=True)
    return gold


def contest(name: str, options: argparse.Namespace) -> None:
    """Train one contestant in this process and write its results into the directory."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    from lib.artifacts import write_json
    from lib.bench.trainers import StopWatch, train_ours, train_trainer
    from lib.evaluation import evaluate

    gold = read_gold(options)
    splits = {split: rows.reset_index(drop=True) for split, rows in gold.groupby("split")}
    params = _params(options).steps["02_base_classifier"]
    changes = {"freeze_word_embeddings": "frozen" in name}
    if "trimmed" in name:
        changes["base_model"] = str(options.directory / "trimmed")
    params = params.model_copy(update=changes)
    watch = StopWatch()
    hook = register_optimizer_step_post_hook(watch.stop)
    with tempfile.TemporaryDirectory(prefix="state-", dir=options.directory) as state:
        train = train_trainer if name == REFERENCE else train_ours
        history, predicted, tokens = train(
            splits, params, options.epochs * options.evaluations, watch, Path(state)
        )
    hook.remove()
    about = {
        "dataset": "gold",
        "split": "test",
        "model": name,
        "samples": 2000,
        "seed": params.seed,
    }
    elapsed = list(itertools.accumulate(watch.seconds))
    test = evaluate(splits["test"]["label"].to_numpy(), predicted, **about)
    result = {
        "evaluations": [
            {"step": step, "seconds": elapsed[step - 1], "macro_f1": f1} for step, f1 in history
        ],
        "texts": len(splits["train"]) * params.epochs,
        "tokens": tokens * params.epochs,
        "seconds": elapsed[-1],
        "seconds_per_epoch": elapsed[-1] / params.epochs,
        "peak_gib": watch.peak_gib,
        "test": next(row for row in test if row["name"] == "macro_f1"),
    }
    write_json(options.directory / f"{name}.json", result)


def table(results: dict[str, dict[str, Any]], target: float | None = None) -> pd.DataFrame:
    """One line per contestant.

    Args:
        results: name -> what `contest` writes.
        target: validation macro-F1 to reach; None: the best of the Trainer run, if there is one.
    Returns:
        contestant, s per epoch, texts/s, tokens/s, best validation macro-F1, seconds until the
        target is first reached, how many times sooner than the Trainer that is, test macro-F1 with
        95% interval, peak memory.
    """
    import pandas as pd

    best = {name: max(row["macro_f1"] for row in r["evaluations"]) for name, r in results.items()}
    target = best.get(REFERENCE) if target is None else target
    seconds = {name: seconds_to(result, target) for name, result in results.items()}
    lines = []
    for name, result in results.items():
        own, reference, test = seconds[name], seconds.get(REFERENCE), result["test"]
        lines.append(
            {
                "contestant": CONTESTANTS[name],
                "s/epoch": f"{result['seconds_per_epoch']:.1f}",
                "texts/s": f"{result['texts'] / result['seconds']:.0f}",
                "tokens/s": f"{result['tokens'] / result['seconds']:,.0f}",
                "best F1": f"{best[name]:.4f}",
                "s to target" if target is None else f"s to {target:.4f}": (
                    "not reached" if own is None else f"{own:.1f}"
                ),
                "times sooner": f"{reference / own:.2f}" if own and reference else "-",
                "test F1": f"{test['value']:.3f} [{test['low']:.3f}, {test['high']:.3f}]",
                "peak GiB": f"{result['peak_gib']:.2f}",
            }
        )
    return pd.DataFrame(lines)


def seconds_to(result: dict[str, Any], target: float | None) -> float | None:
    """Seconds of training until validation macro-F1 is first `target` or more; None: never."""
    reached = (
        row["seconds"]
        for row in result["evaluations"]
        if target is not None and row["macro_f1"] >= target
    )
    return next(reached, None)


def _params(options: argparse.Namespace) -> RunParams:
    """The parameters of params/local.yaml for these options."""
    from lib import params
    from lib.code import PROJECT

    overrides = [f"seed={options.seed}", f"02.epochs={options.epochs}"]
    overrides += [f"base_model={options.base_model}", "unlabelled_gold=drop"]
    if options.train:
        overrides.append(f"max_gold_train={options.train}")
    overrides.append(f"data_dir={options.data}" if options.data else "sources=[sample]")
    return params.load(PROJECT / "params" / "local.yaml", overrides)


def _arguments(name: str, options: argparse.Namespace) -> list[str]:
    """The command line of one contestant's process."""
    arguments = ["bench", "train", "--work", name, "--directory", str(options.directory)]
    for setting in SETTINGS:
        if (value := getattr(options, setting)) is not None:
            arguments += [f"--{setting.replace('_', '-')}", str(value)]
    return arguments
