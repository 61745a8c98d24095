"""Step 01 at scale: made-up texts through reading, cleaning, deduplication and writing.

The texts are made in one process and prepared in another, whose memory is measured. Their lengths
are those of a mixed corpus: seven in ten are short (median 15 words), three are articles (median
150). Of the corpus texts 5% are copies with other case and punctuation, 5% near-copies, and 0.2%
copies of gold texts.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lib.bench.memory import peak_memory

MOST_GOLD = 20_000
FILE_ROWS = 25_000
BLOCK = 4 * FILE_ROWS  # one file of each format, so that blocks can be compared
FORMATS = ("csv", "tsv", "jsonl.gz", "parquet")
COPIES, NEAR_COPIES, LEAKS = 0.05, 0.05, 0.002
PROGRESS = "progress.jsonl"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command line."""
    parser.add_argument("--texts", type=int, default=2_400_000, help="number of corpus texts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where the files go; default: a temporary one")
    parser.add_argument(
        "--interrupt", action="store_true", help="kill the run half-way and start it again"
    )
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--prepare", type=Path, help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> int:
    """Measure and print; returns the exit status."""
    if options.make:
        make_files(options.make, options.texts, options.seed)
        return 0
    if options.prepare:
        return _prepare(options.prepare, options.seed)
    with tempfile.TemporaryDirectory(prefix="corpus-", dir=options.folder) as name:
        folder, started = Path(name), time.time()
        if status := _child(options, "--make", folder).wait():
            return status
        size = sum(path.stat().st_size for path in (folder / "data").iterdir())
        print(f"{options.texts:,} texts in {size / 1e9:.1f} GB of files made in ", end="")
        print(f"{time.time() - started:.0f} s", flush=True)
        if options.interrupt:
            _interrupt(options, folder)
        if status := _child(options, "--prepare", folder).wait():
            return status
        _print_results(folder)
    return 0


def _child(options: argparse.Namespace, task: str, folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "lib", "bench", "corpus", task, str(folder)]
    return subprocess.Popen([*command, "--texts", str(options.texts), "--seed", str(options.seed)])


def _interrupt(options: argparse.Namespace, folder: Path) -> None:
    """Kill the preparation when half of the parts are deduplicated; print what is there."""
    child, corpus = _child(options, "--prepare", folder), folder / "out" / "corpus"
    while child.poll() is None:
        parts = list(corpus.glob("part-*.parquet"))
        if len(parts) * 2 * _part_rows() >= options.texts:
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
            print(f"\nkilled after {len(parts)} parts; starting again", flush=True)
            return
        time.sleep(0.05)


def _part_rows() -> int:
    from lib.sources import CHUNK

    return CHUNK


def _prepare(folder: Path, seed: int) -> int:
    """The measured process: step 01 on the files, with a line per part in PROGRESS."""
    from lib import corpus, sources
    from lib.schema import GoldDataParams

    params = GoldDataParams(
        sources=["local"],
        data_dir=str(folder / "data"),
        test_files=["gold_test.*"],
        gold_files=["gold_train.*"],
        seed=seed,
    )
    started = last = time.perf_counter()
    with (folder / PROGRESS).open("a") as log:

        def on_part(stage: str, rows: int) -> None:
            nonlocal last
            now = time.perf_counter()
            json.dump({"stage": stage, "rows": rows, "seconds": now - last}, log)
            log.write("\n")
            log.flush()
            last = time.perf_counter()

        prepared = corpus.prepare(sources.portions(params), folder / "out", params, on_part)
    result = {
        "seconds": time.perf_counter() - started,
        "peak_gib": peak_memory(),
        "counts": prepared.counts.table().sum().to_dict(),
    }
    (folder / "result.json").write_text(json.dumps(result))
    return 0


def _print_results(folder: Path) -> None:
    lines = [json.loads(line) for line in (folder / PROGRESS).read_text().splitlines()]
    result = json.loads((folder / "result.json").read_text())
    blocks = {stage: _blocks(lines, stage) for stage in ("read", "deduplicate")}
    print(f"\nseconds per {BLOCK:,} texts")
    print(f"{'texts':>12} {'read, clean':>12} {'deduplicate':>12} {'sum':>8}")
    sums = []
    for number, (read, unlike) in enumerate(zip(*blocks.values(), strict=False), 1):
        sums.append(read + unlike)
        print(f"{number * BLOCK:>12,} {read:>12.2f} {unlike:>12.2f} {sums[-1]:>8.2f}")
    if len(sums) > 1:
        quarter = max(1, len(sums) // 4)
        first, last = np.mean(sums[:quarter]), np.mean(sums[-quarter:])
        print(f"first quarter {first:.2f} s, last quarter {last:.2f} s: {last / first - 1:+.0%}")
    gold = sum(line["seconds"] for line in lines if line["stage"] == "gold")
    print(f"gold table and index: {gold:.1f} s")
    print(f"last run: {result['seconds']:.0f} s in all; peak memory {result['peak_gib']:.2f} GiB")
    for reason, count in result["counts"].items():
        print(f"{count:>12,} {reason}")


def _blocks(lines: list[dict[str, float]], stage: str) -> list[float]:
    """Seconds per BLOCK rows, from the seconds of parts that do not end at the blocks' ends."""
    rows = np.cumsum([0, *(line["rows"] for line in lines if line["stage"] == stage)])
    seconds = np.cumsum([0, *(line["seconds"] for line in lines if line["stage"] == stage)])
    edges = np.arange(0, rows[-1] + 1, BLOCK)
    return np.diff(np.interp(edges, rows, seconds)).tolist()


def make_files(folder: Path, texts: int, seed: int) -> None:
    """Write `data/`: gold_train.csv, gold_test.csv, and corpus files in all formats."""
    (folder / "data").mkdir(parents=True)
    rng = np.random.default_rng(seed)
    make = made_up_texts(rng)
    count = min(MOST_GOLD, texts // 10)
    gold = [next(make) for _ in range(count)]
    labels = rng.choice(["negative", "neutral", "positive"], count).tolist()
    tests = count // 10
    _write(folder / "data" / "gold_test.csv", gold[:tests], labels[:tests])
    _write(folder / "data" / "gold_train.csv", gold[tests:], labels[tests:])
    known: list[str] = []
    for number, start in enumerate(range(0, texts, FILE_ROWS)):
        rows = [corpus_text(rng, make, known, gold) for _ in range(min(FILE_ROWS, texts - start))]
        path = folder / "data" / f"corpus-{number:05d}.{FORMATS[number % len(FORMATS)]}"
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
    import pandas as pd

    frame = pd.DataFrame({"text": texts, "label": labels, "source": path.name.split(".")[0][:6]})
    if path.suffix == ".parquet":
        frame.to_parquet(path, index=False)
    elif path.suffix == ".gz":
        with gzip.open(path, "wt", encoding="utf-8", compresslevel=1) as file:
            frame.to_json(file, orient="records", lines=True, force_ascii=False)
    else:
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
