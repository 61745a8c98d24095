"""Break a small run in every way that comes to mind, go on, and compare with one left alone.

    python tests/benchmarks/breaking.py --kills 20

A tiny model with random weights, a few hundred texts, all six steps. After every accident the same
command goes on; then metrics, predictions and all other artefacts must have the digests that they
have in the undisturbed run (pictures are not compared), and no other file may lie about.

A full disk is a tmpfs, a read-only folder a bind mount: these two want root and Linux.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

sys.path.append(str(Path(__file__).parents[1]))

from conftest import write_tiny_checkpoint
from lib import artefacts, files
from lib.data.sources import SAMPLE_FILES
from lib.parameters import STEPS
from lib.runs.fingerprints import PROJECT
from lib.runs.steps import NEW

NAME = "tiny"
LIMIT = 1800  # seconds; longer is waiting for ever
DAY = 86_400
SETTINGS = {
    "run": NAME,
    "device": "cpu",
    "epochs": 6,
    "evaluations_per_epoch": 1,
    "pooling": "cls",
    "freeze_word_embeddings": "false",
    "shard_size": 50,
    "pca_dimensions": 8,
    "clusters": 6,
    "min_purity": 0.0,
    "min_confidence": 0.34,
    "best_share": 1.0,
    "umap_points": 100,
    "05.steps": 6,
    "lambda_metric": "[0.0, 0.5]",
    "evaluations": 2,
    "learning_rate": 2.0e-3,
}
CUT = [
    ("01_gold_data", "tables/gold.parquet"),
    ("01_gold_data", "counts.csv"),
    ("02_base_classifier", "model/model.safetensors"),
    ("03_embed_corpus", "embeddings/shard-00001.safetensors"),
    ("03_embed_corpus", "pca/reduced.npy"),
    ("04_cluster_purity", "manifest.json"),
    ("05_metric_learning", ".parts/model.json"),
    ("06_final_eval", "predictions/test.parquet"),
]
"""Files of a finished run that are cut to half their length."""
CUT_AT_WORK = {
    "staged part": "01_gold_data/.tables-*/work/*.parquet",
    "checkpoint": "02_base_classifier/.model-*/checkpoints/checkpoint-*/model.safetensors",
    "shard": "03_embed_corpus/.embeddings-*/shard-*.safetensors",
}
"""Files of a part that is being made; the newest one is cut."""


class Failure(Exception):
    """A run did not come out as it should."""


@dataclass
class Bench:
    """A place for runs; `known` is the folder of the run that was left alone."""

    work: Path
    data: Path
    model: Path
    known: Path
    last: str
    seconds: float = 0.0

    def command(self, outputs: Path) -> list[str]:
        given = SETTINGS | {"data_dir": self.data, "base_model": self.model}
        options = [part for name, value in given.items() for part in ("-p", f"{name}={value}")]
        file, last = str(PROJECT / "params" / "local.yaml"), ["--to", self.last]
        return [
            sys.executable,
            "-m",
            "lib",
            "run",
            file,
            "--outputs",
            str(outputs),
            *options,
            *last,
        ]

    def start(self, outputs: Path) -> subprocess.Popen[str]:
        outputs.mkdir(parents=True, exist_ok=True)
        log = (outputs.parent / f"{outputs.name}.log").open("a+", encoding="utf-8")
        with log:
            return subprocess.Popen(
                self.command(outputs), stdout=log, stderr=log, text=True, start_new_session=True
            )

    def wait(self, process: subprocess.Popen[str], outputs: Path) -> tuple[int, str]:
        """Status and all that was printed since `start` was called first."""
        try:
            status = process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            kill(process.pid)
            raise Failure("waits for ever") from None
        return status, (outputs.parent / f"{outputs.name}.log").read_text(encoding="utf-8")

    def go_on(self, outputs: Path) -> str:
        """Run to the end and compare; returns what was printed."""
        status, text = self.wait(self.start(outputs), outputs)
        if status:
            raise Failure(f"does not go on: {text[-600:]}")
        self.compare(outputs / NAME)
        return text

    def compare(self, run: Path) -> None:
        for step in STEPS:
            found = (artefacts.read_manifest(each, step) for each in (run, self.known))
            ours, theirs = (manifest["outputs"] if manifest else {} for manifest in found)
            names = ours.keys() | theirs.keys()
            other = [n for n in names if ours.get(n) != theirs.get(n)]
            if other := [name for name in other if not name.endswith(".png")]:
                raise Failure(f"{step}: {', '.join(sorted(other))} differ")
            for file, digest in ours.items():
                if files.file_digest(run / step / file) != digest:
                    raise Failure(f"{step}/{file} is not what its manifest says")
        if stray := sorted(listed(run) ^ listed(self.known)):
            raise Failure(f"stray or missing: {', '.join(stray)}")


def listed(run: Path) -> set[str]:
    """All files of a run; those of its successors, which looking makes, must be gone."""
    found = (path.relative_to(run) for path in run.rglob("*") if not path.is_dir())
    return {path.as_posix() for path in found if path.parts[0] != ".lock"}


def children(pid: int) -> list[int]:
    """Processes that a process has started: the runner's kernel."""
    with contextlib.suppress(OSError):
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def kernel(process: subprocess.Popen[str]) -> int:
    """The kernel's process, when there is one."""
    deadline = time.time() + 120
    while process.poll() is None and time.time() < deadline:
        if found := children(process.pid):
            return found[0]
        time.sleep(0.05)
    raise Failure("no kernel was started")


def seen(process: subprocess.Popen[str], pattern: str, outputs: Path) -> Path:
    """The newest file of a pattern in the part that is being made, as soon as there is one."""
    deadline = time.time() + 600
    while process.poll() is None and time.time() < deadline:
        with contextlib.suppress(OSError):
            if found := list((outputs / NAME / NEW).glob(pattern)):
                return max(found, key=lambda path: path.stat().st_mtime)
        time.sleep(0.005)
    raise Failure(f"{pattern} was not seen")


def cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def expect(text: str, *parts: str) -> None:
    if absent := [part for part in parts if part not in text]:
        raise Failure(f"says nothing of {', '.join(absent)}: {text[-600:]}")
    if "Traceback" in text:
        raise Failure(f"a traceback: {text[-600:]}")


def killed(bench: Bench, outputs: Path, number: int) -> str:
    """Runner and kernel in turn, at a random instant."""
    process = bench.start(outputs)
    moment = random.uniform(0, bench.seconds)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(moment)
    if process.poll() is not None:
        raise Failure("was done before")
    at_work = children(process.pid)
    kill(at_work[0] if number % 2 and at_work else process.pid)
    if number % 2 == 0:
        process.wait()
        bench.go_on(outputs)
        return "runner: the same result"
    _, text = bench.wait(process, outputs)
    if at_work:
        expect(text, "memory is full")
    bench.go_on(outputs)
    return "kernel: named memory, the same result"


def stopped(bench: Bench, outputs: Path, number: int) -> str:
    """SIGTERM and Ctrl-C in turn, while a kernel works."""
    sent = signal.SIGINT if number % 2 else signal.SIGTERM
    process = bench.start(outputs)
    worker = kernel(process)
    time.sleep(random.uniform(1, 10))
    kill(process.pid, sent)
    status, text = bench.wait(process, outputs)
    expect(text, "interrupted; the same command goes on from here")
    if status != 130:
        raise Failure(f"status {status}")
    time.sleep(3)
    if Path(f"/proc/{worker}/cmdline").exists():
        raise Failure("the kernel lives on")
    bench.go_on(outputs)
    return f"{sent.name}: said so, left no process, the same result"


@contextlib.contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", *options, str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def full_disk(bench: Bench, outputs: Path, number: int) -> str:
    """At one of ten points: what is there when so much of the run is written."""
    needed = sum(path.stat().st_size for path in bench.known.rglob("*") if path.is_file())
    size = int(needed * (number % 10 + 1) / 11)
    with mounted(outputs, "-t", "tmpfs", "-o", f"size={size}", "tmpfs"):
        status, text = bench.wait(bench.start(outputs), outputs)
        if status == 0:
            raise Failure("had room enough")
        expect(text, "disk is full")
        subprocess.run(["mount", "-o", f"remount,size={4 * needed}", str(outputs)], check=True)
        bench.go_on(outputs)
    return "said so, the same result"


def read_only(bench: Bench, outputs: Path, number: int) -> str:
    outputs.mkdir()
    with mounted(outputs, "--bind", "-o", "ro", str(outputs)):
        status, text = bench.wait(bench.start(outputs), outputs)
    expect(text, "cannot be written", "--outputs")
    if status != 2:
        raise Failure(f"status {status}")
    return "one line, status 2"


def two_at_once(bench: Bench, outputs: Path, number: int) -> str:
    first = bench.start(outputs)
    kernel(first)
    second = subprocess.run(bench.command(outputs), capture_output=True, text=True, check=False)
    expect(second.stderr, "is in use by another process")
    bench.wait(first, outputs)
    bench.go_on(outputs)
    return "the second refused, the first not disturbed"


def clock_back(bench: Bench, outputs: Path, number: int) -> str:
    """Killed while it trains, all its files then from the future."""
    process = bench.start(outputs)
    seen(process, CUT_AT_WORK["checkpoint"], outputs)
    time.sleep(random.uniform(0, 3))
    worker = children(process.pid)
    for pid in [process.pid, *worker]:
        kill(pid)
    process.wait()
    for path in [*outputs.rglob("*")]:
        os.utime(path, times=(time.time() + DAY,) * 2)
    bench.go_on(outputs)
    return "the same result"


def cut_files(bench: Bench, outputs: Path, number: int) -> str:
    """Every one of CUT at once."""
    shutil.copytree(bench.known.parent, outputs)
    chosen = [(step, file) for step, file in CUT if (outputs / NAME / step).exists()]
    for step, file in chosen:
        cut(outputs / NAME / step / file)
    text = bench.go_on(outputs)
    for step, file in chosen:
        expect(text, f"{step}/{file} is damaged")
    return "each named, the same result"


def cut_at_work(bench: Bench, outputs: Path, number: int) -> str:
    """One of CUT_AT_WORK."""
    name, pattern = [*CUT_AT_WORK.items()][number % len(CUT_AT_WORK)]
    process = bench.start(outputs)
    path = seen(process, pattern, outputs)
    for pid in [process.pid, *children(process.pid)]:
        kill(pid)
    process.wait()
    if not path.exists():
        raise Failure(f"{name} was gone before it could be cut; once more")
    cut(path)
    bench.go_on(outputs)
    return f"{name}: the same result"


def changed_input(bench: Bench, outputs: Path, number: int) -> str:
    """A row more in a file, while 01 reads."""
    file = bench.data / "corpus.csv"
    before = file.read_bytes()
    try:
        process = bench.start(outputs)
        seen(process, "01_gold_data/.tables-*", outputs)
        with file.open("a", encoding="utf-8") as rows:
            rows.write("Новая строка про погоду и природу,,дописано\n")
        _, text = bench.wait(process, outputs)
    finally:
        file.write_bytes(before)
    noticed = "changed while it was read" in text
    bench.go_on(outputs)
    return "said so, the same result" if noticed else "read before it, made again"


Case = Callable[[Bench, Path, int], str]
CASES: dict[str, tuple[Case, int]] = {
    "killed": (killed, 20),
    "stopped": (stopped, 2),
    "full disk": (full_disk, 10),
    "read-only folder": (read_only, 1),
    "two at once": (two_at_once, 1),
    "clock set back": (clock_back, 1),
    "files cut": (cut_files, 1),
    "files cut at work": (cut_at_work, 3),
    "input changed": (changed_input, 1),
}
"""Accident -> its function, and how often."""


def prepare(work: Path, last: str) -> Bench:
    """Texts, model, and the run that is left alone."""
    data, model = work / "data", work / "model"
    data.mkdir(parents=True)
    gold, corpus = (pd.read_csv(path, keep_default_na=False) for path, _ in SAMPLE_FILES)
    gold.sample(450, random_state=0).to_csv(data / "gold_train.csv", index=False)
    corpus[["text", "label", "source"]][:300].to_csv(data / "corpus.csv", index=False)
    write_tiny_checkpoint(model)
    bench = Bench(work, data, model, work / "left-alone" / NAME, last)
    started = time.time()
    status, text = bench.wait(bench.start(bench.known.parent), bench.known.parent)
    if status:
        raise Failure(f"the run left alone fails: {text}")
    bench.seconds = time.time() - started
    return bench


def main(arguments: list[str] | None = None) -> pd.DataFrame:
    """Break and print; returns the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--times", type=int, help="of each accident, instead of the usual number")
    parser.add_argument("--to", default=list(STEPS)[-1], metavar="STEP", help="as of `lib run`")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    random.seed(options.seed)
    rows = []
    with tempfile.TemporaryDirectory(prefix="breaking-") as folder:
        bench = prepare(Path(folder), options.to)
        print(f"left alone: {bench.seconds:.0f} s", flush=True)
        for name in options.only:
            case, times = CASES[name]
            for number in range(options.times or times):
                outputs = bench.work / f"{case.__name__}-{number}"
                started = time.time()
                try:
                    outcome = case(bench, outputs, number)
                except Failure as failure:
                    outcome = f"FAILED: {failure}"
                rows.append({"what": name, "outcome": outcome})
                seconds = time.time() - started
                print(f"{name} {number + 1}: {outcome} ({seconds:.0f} s)", flush=True)
                shutil.rmtree(outputs, ignore_errors=True)
    table = pd.DataFrame(rows).value_counts(sort=False).rename("times").reset_index()
    print("\n" + table.to_string(index=False))
    return table


if __name__ == "__main__":
    main()
