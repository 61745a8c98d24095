"""Step 01 at scale: made-up texts through reading, cleaning, deduplication and writing.

    python tests/benchmarks/corpus.py --texts 2400000

The texts are made in one process and prepared in another, whose memory is measured. Their lengths
are those of a mixed corpus: seven in ten are short (median 15 words), three are articles (median
150). Of the corpus texts 5% are copies with other case and punctuation, 5% near-copies, and 0.2%
copies of gold texts.

How to read it: a row is the parts of 100,000 texts, the last one gold. Its seconds should stay the
same: a column that grows is a stage that slows down with the size of the corpus. What is not done
part by part is below the table.
"""

from __future__ import annotations

import argparse
import gzip
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
from common import alone

from lib.data import corpus, duplicates, sources, staging
from lib.data.counts import fates_table
from lib.files import read_json
from lib.parameters import GoldDataParams
from lib.runs.steps import machine

MOST_GOLD = 20_000
FILE_ROWS = 25_000
FORMATS = ("csv", "tsv", "jsonl.gz", "parquet")
BLOCK = len(FORMATS) * FILE_ROWS  # one file of each format, so that blocks can be compared
COPIES, NEAR_COPIES, LEAKS = 0.05, 0.05, 0.002
Log = list[tuple[str, float]]
"""Stage and seconds."""


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--texts", type=int, default=2_400_000, help="number of corpus texts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where the files go; default: a temporary one")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="corpus-", dir=options.folder) as name:
        folder = Path(name)
        _, seconds, _ = alone(make_files, folder / "data", options.texts, options.seed)
        size = sum(path.stat().st_size for path in (folder / "data").iterdir())
        print(f"{machine()}\n{options.texts:,} texts, {size / 1e9:.1f} GB, made in {seconds:.0f} s")
        log, seconds, peak = alone(prepare, folder, options.seed)
        counts = fates_table(read_json(folder / "out" / corpus.SUMMARY)["counts"])
    print(f"\nseconds per {BLOCK:,} texts\n{blocks(log).round(2).to_string()}\n")
    for stage in ("gold", "deduplicate"):
        print(f"{stage}: {sum(s for found, s in log if found == stage):.1f} s")
    print(f"{seconds:.0f} s in all, peak memory {peak:.2f} GiB")
    print(counts.sum().to_string())


def prepare(folder: Path, seed: int) -> Log:
    """The measured process: step 01 on the files."""
    params = GoldDataParams(
        sources=["local"],
        data_dir=str(folder / "data"),
        test_files=["gold_test.*"],
        gold_files=["gold_train.*"],
        seed=seed,
    )
    log: Log = []
    last = time.perf_counter()

    def watch(stage: str, module: ModuleType, name: str) -> None:
        """Log the time from the end of what was logged before to the end of each call."""
        function = getattr(module, name)

        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal last
            result = function(*arguments, **options)
            now = time.perf_counter()
            log.append((stage, now - last))
            last = now
            return result

        setattr(module, name, call)

    contents = sources.fingerprint(params)
    watch("read", staging, "write_part")
    watch("compare", duplicates, "earlier_twins")
    watch("gold", corpus, "build_gold")
    watch("write", corpus, "write_corpus")
    parameters = params.model_dump(mode="json")
    corpus.prepare(folder / "out", parameters=parameters, contents=contents)
    stages = [stage for stage, _ in log]
    searches = [place for place, stage in enumerate(stages) if stage == "compare"]
    log[searches[0]] = "gold", log[searches[0]][1]
    for place in searches[-2:]:  # the exact comparison, and that within the corpus
        log[place] = "deduplicate", log[place][1]
    return log


def blocks(log: Log) -> pd.DataFrame:
    """Seconds of the stages that go part by part, for the parts of each BLOCK of texts."""
    parts = -(-FILE_ROWS // staging.CHUNK) * len(FORMATS)
    columns = {}
    for name in ("read", "compare", "write"):
        seconds = pd.Series([found for stage, found in log if stage == name])
        columns[name] = seconds.groupby(seconds.index // parts).sum()
    return pd.DataFrame(columns).rename_axis("block")


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
