"""Steps 01 to 05 at any number of made-up texts: seconds and peak memory of each, without encoder.

    python tests/benchmarks/scale.py --texts 300000 600000 1200000 2400000

Every step is the code of its notebook, in a process of its own, with params/full.yaml, one epoch
in 02 and one training step in 05. Models have one narrow layer and a real tokenizer; where texts
are embedded, vectors of mmBERT-base's width and probabilities follow at once from a text's tokens.
The filter keeps so many texts that two thirds of the corpus are trained on.

The texts are made in CSV, TSV, gzipped JSON lines and Parquet. Their lengths are those of a mixed
corpus: seven in ten are short (median 15 words), three are articles (median 150). Of the corpus
texts 5% are copies with other case and punctuation, 5% near-copies, and 0.2% copies of gold texts.

How to read it: CPU seconds, which other work on the machine does not change, should not grow `per
100,000` texts, but fall where a step starts, trains or draws at a fixed cost. `parts` are the
seconds of what the step makes (the rest are figures, tables, digests). GiB is the peak memory,
mapped files included.
"""

from __future__ import annotations

import argparse
import gzip
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
from common import Mixture, alone

from lib.artefacts import read_manifest
from lib.data import corpus
from lib.data.counts import fates_table
from lib.files import read_json
from lib.runs import parameter_files
from lib.runs.fingerprints import PROJECT, notebook_path
from lib.runs.steps import machine

LAST = "05_metric_learning"
WIDTH, COMPONENTS = 768, 3000  # of the simulated vectors
MOST_GOLD = 20_000
FILE_ROWS = 25_000
FORMATS = ("csv", "tsv", "jsonl.gz", "parquet")
COPIES, NEAR_COPIES, LEAKS = 0.05, 0.05, 0.002
SETTINGS = [
    "sources=[local]",
    "test_files=[gold_test.*]",
    "gold_files=[gold_train.*]",
    "max_gold_train=2000",
    "02.epochs=1",
    "02.evaluations_per_epoch=1",
    "freeze_word_embeddings=true",
    "04.min_purity=0.0",
    "04.min_confidence=0.0",
    "04.best_share=0.7",
    "05.lambda_metric=[0.5]",
    "05.steps=1",
    "05.evaluations=1",
]


def main(arguments: list[str] | None = None) -> pd.DataFrame:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--texts", type=int, nargs="+", default=[100_000], help="corpus texts")
    parser.add_argument("--base-model", default="embedded:e5-small", help="whose tokenizer")
    parser.add_argument("-p", action="append", default=[], metavar="NAME=VALUE", dest="overrides")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where the files go; default: a temporary one")
    options = parser.parse_args(arguments)
    print(machine())
    rows = []
    for texts in options.texts:
        with tempfile.TemporaryDirectory(prefix="scale-", dir=options.folder) as name:
            folder = Path(name)
            _, seconds, _ = alone(make_files, folder / "data", texts, options.seed)
            size = sum(path.stat().st_size for path in (folder / "data").iterdir())
            print(f"{texts:,} texts, {size / 1e9:.1f} GB, made in {seconds:.0f} s", flush=True)
            alone(write_model, folder / "start", options.base_model)
            given = {"data_dir": folder / "data", "base_model": folder / "start"}
            given |= {"seed": options.seed}
            overrides = [f"{key}={value}" for key, value in given.items()]
            full = PROJECT / "params" / "full.yaml"
            params = parameter_files.load(full, [*SETTINGS, *overrides, *options.overrides])
            for step, values in params.steps.items():
                if step > LAST:
                    break
                cpu, seconds, peak = alone(run_step, step, folder / "run", values.model_dump())
                manifest = read_manifest(folder / "run", step) or {}
                parts = ", ".join(f"{part} {s:.0f}" for part, s in manifest["parts"].items())
                each = {"s": seconds, "CPU s": cpu, "per 100,000": cpu / texts * 1e5}
                rows.append({"texts": texts, "step": step, **each, "GiB": peak, "parts": parts})
                print(rows[-1], flush=True)
                print(manifest["summary"], flush=True)
            prepared = read_json(folder / "run" / "01_gold_data" / "tables" / corpus.SUMMARY)
            print(fates_table(prepared["counts"]).sum().to_string())
    table = pd.DataFrame(rows)
    print(table.to_string(index=False, float_format="%.3g"))
    return table


def run_step(name: str, run_dir: Path, values: dict[str, Any]) -> float:
    """The measured process: a notebook's cells, with a stub for the encoder; its CPU seconds."""
    from lib.models import inference

    os.environ["MPLBACKEND"] = "Agg"
    inference.Predictor.__call__ = stub()  # type: ignore[method-assign]
    os.chdir(PROJECT / "notebooks")
    scope: dict[str, Any] = {}
    for cell in nbformat.read(notebook_path(name), as_version=4).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, f"{name} {cell.id}", "exec"), scope)
            if "parameters" in cell.metadata.get("tags", []):
                scope |= values | {"run_dir": str(run_dir)}
    return time.process_time()


def stub() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """What to put in the place of `Predictor.__call__`.

    A text belongs to a component of a mixture of Gaussians by its tokens; texts of a component
    mostly get that component's class, more or less surely.
    """
    mixture = Mixture(WIDTH, COMPONENTS, seed=0)
    sure = np.random.default_rng(0).dirichlet([0.4, 0.4, 0.4], size=COMPONENTS)
    ends = mixture.weights.cumsum()[:-1]

    def answer(
        _: Any, token_ids: list[np.ndarray], on_batch: Callable[[int], object] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        sums = np.array([int(row.sum()) for row in token_ids], dtype=np.int64)
        component = np.searchsorted(ends, sums * 0.6180339887 % 1)
        rng = np.random.default_rng(int(sums.sum()))
        logits = 2 * np.log(sure[component] + 1e-3) + rng.gumbel(size=(len(sums), 3)) * 0.5
        probabilities = np.exp(logits - logits.max(1, keepdims=True))
        probabilities /= probabilities.sum(1, keepdims=True)
        if on_batch:
            on_batch(sum(map(len, token_ids)))
        return probabilities.astype(np.float32), mixture.draw(component, rng)

    return answer


def write_model(folder: Path, base_model: str) -> None:
    """A tokenizer with a BERT of one narrow layer and random weights."""
    from transformers import AutoTokenizer, BertConfig, BertModel

    from lib.models.encoder import resolve

    tokenizer = AutoTokenizer.from_pretrained(resolve(base_model))
    tokenizer.model_max_length = 8192
    config = BertConfig(
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=8192,
        attention_probs_dropout_prob=0.0,  # else a CPU keeps all pairs of tokens
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make_files(folder: Path, texts: int, seed: int) -> None:
    """Write gold_train.csv, gold_test.csv, and corpus files in all formats."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    make = made_up_texts(rng)
    count = min(MOST_GOLD, texts // 10)
    gold = [next(make) for _ in range(count)]
    labels = rng.choice(["negative", "neutral", "positive"], count).tolist()
    tests = count // 10
    _write(folder / "gold_test.csv", gold[:tests], labels[:tests])
    _write(folder / "gold_train.csv", gold[tests:], labels[tests:])
    known: list[str] = []
    for number, start in enumerate(range(0, texts, FILE_ROWS)):
        rows = [corpus_text(rng, make, known, gold) for _ in range(min(FILE_ROWS, texts - start))]
        path = folder / f"corpus-{number:05d}.{FORMATS[number % len(FORMATS)]}"
        _write(path, rows, [""] * len(rows))


def made_up_texts(rng: np.random.Generator) -> Iterator[str]:
    """Endless texts of made-up Russian-looking words with the frequencies of words (Zipf)."""
    consonants, vowels = list("бвгджзйклмнпрстфхцчшщ"), list("аеиоуыэюя")
    count = 50_000
    lengths = rng.integers(1, 5, count)
    words = np.array(
        ["".join(rng.choice(consonants) + rng.choice(vowels) for _ in range(n)) for n in lengths],
        dtype=object,
    )
    probabilities = 1 / np.arange(20, count + 20)
    probabilities /= probabilities.sum()
    while True:
        pool = words[rng.choice(count, 1_000_000, p=probabilities)]
        start = 0
        while start < len(pool) - 3000:
            median, spread = (150, 0.5) if rng.random() < 0.3 else (15, 0.7)
            length = int(np.clip(median * np.exp(spread * rng.standard_normal()), 2, 3000))
            yield " ".join(pool[start : start + length]) + ("." if length % 2 else " &amp; 😀")
            start += length


def corpus_text(
    rng: np.random.Generator, make: Iterator[str], known: list[str], gold: list[str]
) -> str:
    """A new text or one of the planted kinds of copies; `known` is a sample of earlier texts."""
    kind = rng.random()
    if kind < LEAKS:
        return gold[rng.integers(len(gold))].upper()
    if known and kind < LEAKS + COPIES:
        return known[rng.integers(len(known))].capitalize() + "!!!"
    if known and kind < LEAKS + COPIES + NEAR_COPIES:
        words = known[rng.integers(len(known))].split()
        for place in rng.integers(len(words), size=max(1, len(words) // 20)):
            words[place] = "иначе"
        return " ".join(words)
    text = next(make)
    if len(known) < 20_000:
        known.append(text)
    elif kind > 0.95:
        known[rng.integers(len(known))] = text
    return text


def _write(path: Path, texts: list[str], labels: list[str]) -> None:
    frame = pd.DataFrame({"text": texts, "label": labels, "source": path.name.split(".")[0][:6]})
    if path.suffix == ".parquet":
        frame.to_parquet(path, index=False)
    elif path.suffix == ".gz":
        with gzip.open(path, "wt", encoding="utf-8", compresslevel=1) as file:
            frame.to_json(file, orient="records", lines=True, force_ascii=False)
    else:
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")


if __name__ == "__main__":
    main()
