"""Labels per second, latency, size, memory and start of a run's exported model, against peers.

    python -m lib export outputs/RUN && python tests/benchmarks/predict.py outputs/RUN

All label the same gold test texts of the run on the CPU; time begins with strings and ends with
labels. The pipeline is at the best of several batch sizes, found in a first round of its own, with
texts in their order and sorted by length (which a careful user does by hand). sentence-transformers
has a logistic regression on its vectors, fitted on gold train, as has TF-IDF. Contestants take
turns; texts per second are medians over the rounds.

Latency is of one text after the other; start, memory and size are those of a new process that
labels one text.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sentence_transformers import SentenceTransformer
from sklearn.linear_model import LogisticRegression
from transformers import pipeline

from lib import LABELS
from lib.metrics import macro_f1
from lib.models import SentimentModel, deployment
from lib.models.encoder import hardware, load_classifier
from lib.models.inference import Predictor
from lib.runs.steps import machine
from lib.training.baselines import tfidf

BATCH_SIZES = (1, 8, 32, 64)
TRIAL_TEXTS = 200
Label = Callable[[Sequence[str]], Sequence[str]]
START = {  # what a new process does until its first label; one call more is one text
    "ours, int8": "from lib.models import SentimentModel as M; M({path!r}, {int8!r}).predict([T])",
    "ours, PyTorch": "from lib.models import SentimentModel as M; M({torch!r}).predict([T])",
    "pipeline": "from transformers import pipeline as p\n"
    "p('text-classification', model={path!r})(T, truncation=True)",
    "sentence-transformers": "from sentence_transformers import SentenceTransformer as S\n"
    "S({path!r}).encode([T])",
}


def main(arguments: list[str] | None = None) -> pd.DataFrame:
    """Measure and print; returns the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, help="a run with an exported model")
    parser.add_argument("--texts", type=int, default=2000, help="a random sample of so many")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    gold = pd.read_parquet(options.run / "01_gold_data" / "tables" / "gold.parquet")
    test = gold[gold["split"] == "test"]
    test = test.sample(min(options.texts, len(test)), random_state=options.seed)
    texts = test["text"].tolist()
    print(f"{machine()}; {torch.get_num_threads()} threads; {len(texts):,} texts of {options.run}")

    contestants = peers(options.run, gold[gold["split"] == "train"], texts[:TRIAL_TEXTS])
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    found = {}
    for _ in range(options.rounds):
        for name, label in contestants.items():
            started = time.perf_counter()
            found[name] = np.array([LABELS.index(label) for label in label(texts)])
            seconds[name].append(time.perf_counter() - started)
    rows = []
    for name, label in contestants.items():
        each = [timed(label, [text]) for text in texts[:300]]
        rows.append(
            {
                "contestant": name,
                "texts/s": len(texts) / statistics.median(seconds[name]),
                "ms a text, median": 1000 * float(np.median(each)),
                "99%": 1000 * float(np.quantile(each, 0.99)),
                "macro-F1": macro_f1(test["label"].to_numpy(), found[name]),
                "labels as PyTorch": float((found[name] == found["ours, PyTorch"]).mean()),
            }
        )
    table = pd.DataFrame(rows).set_index("contestant")
    print(table.round(3).to_string())
    folder = options.run / deployment.OWN
    paths = {"path": str(folder), "torch": str(options.run / deployment.FINAL)}
    for name, code in START.items():
        taken, peak = start(code.format(int8=deployment.INT8, **paths))
        print(f"{name}: first label after {taken:.2f} s in a new process, peak {peak:,} MiB")
    for file in (deployment.INT8, deployment.FLOAT32, "model.safetensors"):
        print(f"{file}: {deployment.size(folder / file):.1f} MB")
    return table


def peers(run: Path, train: pd.DataFrame, trial: list[str]) -> dict[str, Label]:
    """Name -> function from texts to labels."""
    folder = run / deployment.OWN
    classify = pipeline("text-classification", model=str(folder), device="cpu")
    encoder = SentenceTransformer(str(folder), device="cpu")
    labels = train["label"].to_numpy()
    head = LogisticRegression(max_iter=1000, class_weight="balanced")
    head.fit(encoder.encode(train["text"].tolist(), batch_size=32), labels)
    words = tfidf().fit(train["text"], labels)
    trained = load_classifier(run / deployment.FINAL)
    ours = Predictor(trained, **hardware("float32", "cpu"))

    def piped(texts: Sequence[str], size: int, by_length: bool = False) -> list[str]:
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]) if by_length else i)
        rows = classify([texts[i] for i in order], batch_size=size, truncation=True)
        named = dict(zip(order, rows, strict=True))
        return [named[i]["label"] for i in range(len(texts))]

    trials = {size: timed(lambda t, size=size: piped(t, size, True), trial) for size in BATCH_SIZES}
    size = min(trials, key=trials.__getitem__)
    plain = {size: timed(lambda t, size=size: piped(t, size), trial) for size in BATCH_SIZES}
    unsorted = min(plain, key=plain.__getitem__)
    return {
        "ours, int8": SentimentModel(folder, deployment.INT8).predict,
        "ours, ONNX float32": SentimentModel(folder, deployment.FLOAT32).predict,
        "ours, PyTorch": lambda texts: [
            LABELS[i] for i in ours(trained.tokenize(texts))[0].argmax(1)
        ],
        f"pipeline, sorted, batch {size}": lambda texts: piped(texts, size, True),
        f"pipeline, batch {unsorted}": lambda texts: piped(texts, unsorted),
        "sentence-transformers + regression": lambda texts: [
            LABELS[i] for i in head.predict(encoder.encode(list(texts), batch_size=32))
        ],
        "TF-IDF + regression": lambda texts: [LABELS[i] for i in words.predict(texts)],
    }


def timed(label: Callable, texts: Sequence[str]) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    label(texts)
    return time.perf_counter() - started


def start(code: str) -> tuple[float, int]:
    """Seconds and MiB of a new process that runs code, the second of two times."""
    code = f"T = 'Отличный магазин!'\n{code}\n"
    code += "print(*(x.split()[1] for x in open('/proc/self/status') if x.startswith('VmHWM')))"
    for _ in range(2):
        started = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        taken = time.perf_counter() - started
        if done.returncode:
            raise RuntimeError(done.stderr)
    return taken, int(done.stdout.splitlines()[-1]) // 1024


if __name__ == "__main__":
    main()
