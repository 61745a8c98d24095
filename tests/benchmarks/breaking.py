"""Break small runs in every way that comes to mind, go on, and compare with one left alone.

    python tests/benchmarks/breaking.py

A tiny model with random weights, a few hundred texts, all six steps. One accident after the other
hits a run, and the same command goes on each time. In the end all artefacts but pictures must have
the digests that they have in the run left alone, and no other file may lie about.

A full disk is a tmpfs, a read-only folder a bind mount: these want root and Linux.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

sys.path.append(str(Path(__file__).parents[1]))

from conftest import write_tiny_checkpoint
from lib import files
from lib.artefacts import MANIFEST, executed_notebook, read_manifest
from lib.data.sources import SAMPLE_FILES
from lib.parameters import STEPS
from lib.runs.fingerprints import PROJECT
from lib.runs.steps import NEW, PARTS

LIMIT = 1800  # seconds; longer is waiting for ever
WORDS = {"negative": "Ужасно плохо", "neutral": "Обычный день", "positive": "Прекрасно, спасибо"}
"""Begin the texts, so that the tiny model learns all three classes in a few steps."""
SETTINGS = {
    "run": "tiny",
    "device": "cpu",
    "max_tokens": 24,
    "freeze_word_embeddings": "false",
    "learning_rate": 2e-3,
    "epochs": 2,
    "shard_size": 50,
    "pca_dimensions": 8,
    "clusters": 6,
    "best_share": 0.8,
    "umap_points": 50,
    "05.steps": 4,
    "evaluations": 2,
}
CUT = [
    "01_gold_data/tables/gold.parquet",
    "01_gold_data/counts.csv",
    "02_base_classifier/model/model.safetensors",
    "03_embed_corpus/embeddings/shard-00001.safetensors",
    "03_embed_corpus/pca/reduced.npy",
    "04_cluster_purity/manifest.json",
    "05_metric_learning/.parts/model.json",
    "06_final_eval/predictions/test.parquet",
]
"""Files of a finished run, each of another kind."""
AT_WORK = [
    "01_gold_data/.tables-*/work/[0-9]*.parquet",
    "02_base_classifier/.model-*/checkpoints/checkpoint-*/model.safetensors",
    "03_embed_corpus/.embeddings-*/shard-*.safetensors",
]
"""Files of a part that is being made."""
Process = subprocess.Popen[bytes]


class Failure(Exception):
    """A run did not come out as it should."""


class Complete(Exception):
    """A run was done before the accident."""


@dataclass
class Bench:
    """`known` is the run left alone, `run` the one that is being broken."""

    work: Path
    known: Path
    run: Path
    seconds: float = 0.0
    tenths: int = 0

    @property
    def outputs(self) -> Path:
        return self.run.parent

    def command(self) -> list[str]:
        given = SETTINGS | {"data_dir": self.work / "data", "base_model": self.work / "model"}
        options = [part for name, value in given.items() for part in ("-p", f"{name}={value}")]
        file = str(PROJECT / "params" / "local.yaml")
        outputs = ["--outputs", str(self.outputs)]
        return [sys.executable, "-m", "lib", "run", file, *outputs, *options]

    def start(self, *command: str) -> Process:
        self.outputs.mkdir(exist_ok=True)
        with self.outputs.with_suffix(".log").open("wb") as log:
            return subprocess.Popen(
                command or self.command(),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def end(self, process: Process, *said: str, status: tuple[int, ...] = (0,)) -> None:
        """Wait for it, and see how it ended and that it said so."""
        try:
            found = process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            raise Failure("waits for ever") from None
        text = self.outputs.with_suffix(".log").read_text(encoding="utf-8")
        if found == 0 and 0 not in status:
            raise Complete
        if found not in status or "Traceback" in text or any(part not in text for part in said):
            raise Failure(f"status {found}: {text[-900:]}")

    def go_on(self, *said: str) -> None:
        """Run to the end and compare."""
        self.end(self.start(), *said)
        ours, theirs = digests(self.run), digests(self.known)
        names = sorted(ours.keys() | theirs.keys())
        if other := [name for name in names if ours.get(name) != theirs.get(name)]:
            raise Failure(f"other, missing or too many: {', '.join(other)}")


def digests(run: Path) -> dict[str, str]:
    """Of all files; of pages, pictures and records only the name counts, and of what lies beside
    the run."""
    found = {f"../{path.name}": "" for path in run.parent.iterdir() if path != run}
    for path in run.rglob("*"):
        name = path.relative_to(run)
        if path.is_file() and name.parts != (".lock",):
            counts = name.parts[0] in STEPS and name.suffix != ".png" and name.name != MANIFEST
            same = counts and PARTS not in name.parts
            found[name.as_posix()] = files.file_digest(path) if same else ""
    return found


def children(pid: int) -> list[int]:
    """Processes that a process has started: the runner's kernel."""
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_for(bench: Bench, process: Process, look: Callable[[], list[Any]]) -> Any:
    """The last one of what is seen as soon as something is."""
    while process.poll() is None:
        with contextlib.suppress(OSError):
            if found := look():
                return found[-1]
        time.sleep(0.01)
    bench.end(process, status=())


def wait_for_kernel(bench: Bench, process: Process) -> int:
    return wait_for(bench, process, lambda: children(process.pid))


def wait_for_file(bench: Bench, process: Process, pattern: str) -> Path:
    return wait_for(bench, process, lambda: sorted((bench.run / NEW).glob(pattern)))


def start_for_a_while(bench: Bench, *command: str) -> Process:
    """For a sixth of a run or so."""
    process = bench.start(*command)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(random.uniform(0, bench.seconds / 3))
        bench.end(process, status=())
    return process


def kill(process: Process) -> None:
    """Runner and kernel at once."""
    for pid in [process.pid, *children(process.pid)]:
        os.kill(pid, signal.SIGKILL)
    process.wait()


def kill_runner(bench: Bench) -> None:
    process = start_for_a_while(bench)
    process.kill()
    process.wait()


def kill_kernel(bench: Bench) -> None:
    process = start_for_a_while(bench)
    os.kill(wait_for_kernel(bench, process), signal.SIGKILL)
    bench.end(process, "as the system does when memory is full", status=(1,))


def stop(bench: Bench, process: Process, runner: int, send: Callable[[], Any]) -> None:
    """It says that it was stopped, and no process is left."""
    kernel = wait_for(bench, process, lambda: children(runner))
    send()
    bench.end(process, "interrupted; the same command goes on from here", status=(130,))
    time.sleep(3)
    if Path(f"/proc/{kernel}/cmdline").exists():
        raise Failure("the kernel lives on")


def sigterm(bench: Bench) -> None:
    process = start_for_a_while(bench)
    stop(bench, process, process.pid, process.terminate)


def ctrl_c(bench: Bench) -> None:
    """In a terminal, which `script` makes."""
    command = shlex.join(bench.command())
    process = start_for_a_while(bench, "script", "-qec", command, "/dev/null")
    runner = wait_for_kernel(bench, process)
    stop(bench, process, runner, lambda: os.write(process.stdin.fileno(), b"\x03"))


def full_disk(bench: Bench) -> None:
    """There is room for one tenth of the run, the next time for two, and then enough."""
    needed = sum(path.stat().st_size for path in bench.known.rglob("*") if path.is_file())
    bench.outputs.mkdir(exist_ok=True)
    if not bench.outputs.is_mount():
        mount("-t", "tmpfs", "tmpfs", str(bench.outputs))
    bench.tenths += 1
    room = int((bench.tenths - random.random()) / 10 * needed)
    room = max(room, shutil.disk_usage(bench.outputs).used) + 1
    mount("-o", f"remount,size={room}", str(bench.outputs))
    bench.end(bench.start(), "the disk is full", status=(1, 2))
    mount("-o", f"remount,size={4 * needed}", str(bench.outputs))


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def unmount(folder: Path) -> None:
    subprocess.run(["umount", str(folder)], check=True)


def read_only(bench: Bench) -> None:
    bench.outputs.mkdir(exist_ok=True)
    mount("--bind", "-o", "ro", str(bench.outputs), str(bench.outputs))
    try:
        bench.end(bench.start(), "cannot be written", "name another --outputs", status=(2,))
    finally:
        unmount(bench.outputs)


def change_input(bench: Bench) -> None:
    """A row more in a file, while 01 reads."""
    file = bench.work / "data" / "corpus.csv"
    before = file.read_bytes()
    process = bench.start()
    wait_for_file(bench, process, "01_gold_data/.tables-*")
    file.write_bytes(before + "Новая строка про погоду и природу,,дописано\n".encode())
    try:
        bench.end(process, "changed while it was read", status=(2,))
    finally:
        file.write_bytes(before)


def cut_at_work(bench: Bench) -> None:
    """Killed as soon as there is a file of each kind, which is then cut; the notebooks say so."""
    for pattern in AT_WORK:
        process = bench.start()
        path = wait_for_file(bench, process, pattern)
        kill(process)
        halve(path)
    bench.go_on()
    for step in [*STEPS][: len(AT_WORK)]:
        text = executed_notebook(bench.run, step).read_text(encoding="utf-8")
        if not re.search("is damaged|is not whole", text):
            raise Failure(f"{step} says nothing of its damaged file")


def halve(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def set_clock_back(bench: Bench) -> None:
    """Killed; all its files are then from the future."""
    process = start_for_a_while(bench)
    kill(process)
    for path in bench.run.rglob("*"):
        os.utime(path, times=(time.time() + 86_400,) * 2)


def start_twice(bench: Bench) -> None:
    first = bench.start()
    wait_for_kernel(bench, first)
    second = subprocess.run(bench.command(), capture_output=True, text=True, check=False)
    if first.poll() is not None or "is in use by another process" not in second.stderr:
        raise Failure(second.stderr)
    kill(first)


def cut_finished(bench: Bench) -> None:
    bench.go_on()
    for name in CUT:
        halve(bench.run / name)
    bench.go_on(*(f"{name} is damaged" for name in CUT))


RUNS: dict[str, list[Callable[[Bench], None]]] = {
    "kills": [kill_runner, kill_kernel] * 10,
    "stops": [sigterm, ctrl_c] * 2,
    "disk": [full_disk] * 10,
    "files": [read_only, change_input, cut_at_work, set_clock_back, start_twice, cut_finished],
}
"""Accidents one after the other: to a run, and when it is done, to the next."""


def break_runs(bench: Bench, name: str) -> None:
    accidents, number = list(RUNS[name]), 0
    while accidents:
        bench.run = bench.work / f"{name}-{number}" / SETTINGS["run"]
        try:
            with contextlib.suppress(Complete):
                while accidents:
                    accidents[0](bench)
                    done = [step[:2] for step in STEPS if read_manifest(bench.run, step)]
                    say(bench, f"{accidents.pop(0).__name__}; complete: {' '.join(done)}")
            bench.go_on()
            say(bench, "in the end the same artefacts")
        except (Failure, OSError) as failure:
            failed = accidents.pop(0).__name__ if accidents else "the end"
            say(bench, f"FAILED: {failed}: {failure}")
        if bench.outputs.is_mount():
            unmount(bench.outputs)
        number += 1


def say(bench: Bench, what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {bench.outputs.name}: {what}", flush=True)


def prepare(work: Path) -> Bench:
    """Texts, model, and the run that is left alone, made twice."""
    (work / "data").mkdir(parents=True)
    for (path, _), name in zip(SAMPLE_FILES, ("gold_train", "corpus"), strict=True):
        rows = pd.read_csv(path, keep_default_na=False).sample(300, random_state=0)
        rows["text"] = rows["label"].map(WORDS).fillna("") + " " + rows["text"]
        rows[["text", "label", "source"]].to_csv(work / "data" / f"{name}.csv", index=False)
    write_tiny_checkpoint(work / "model")
    known, again = (work / f"left-alone-{i}" / SETTINGS["run"] for i in range(2))
    bench = Bench(work, known, known)
    started = time.time()
    bench.end(bench.start())
    bench.run, bench.seconds = again, time.time() - started
    bench.go_on()
    say(bench, f"{bench.seconds:.0f} s; a second time the same artefacts")
    return bench


def main() -> None:
    """Break and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="*", choices=RUNS, default=[*RUNS])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background
    with tempfile.TemporaryDirectory(prefix="breaking-") as folder:
        bench = prepare(Path(folder))
        for name in parser.parse_args().runs:
            break_runs(bench, name)


if __name__ == "__main__":
    main()
