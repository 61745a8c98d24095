"""Running the points of a sweep: no step is computed twice, and every point is a normal run.

A point is the run folder outputs/<sweep>/<point>/, with its complete parameters beside the steps
(`python -m lib run outputs/<sweep>/<point>/params.yaml --outputs outputs/<sweep>` goes on with it
alone). The sweep goes step by step: of all points that need the same step (same fingerprint), one
computes it, in a process of its own, and the others share it (`lib.sharing`), also from earlier
runs in the same outputs folder. Points that are complete cost nothing, so a sweep goes on where it
was stopped.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from lib import artifacts, params, runner, sharing
from lib.errors import UserError
from lib.params import RunParams
from lib.schema import STEPS
from lib.sweep import Point, Sweep

log = logging.getLogger(__name__)

PARAMETERS, LOG, LOCK = "params.yaml", "sweep.log", ".lock"
HEAD = "--- "  # begins the part of a step in the log


def run(sweep: Sweep, outputs: Path, jobs: int = 1) -> list[str]:
    """Run all points of a sweep into outputs/<sweep>/<point>/.

    Args:
        jobs: so many steps at a time, each with its share of the cores.
    Returns:
        Names of the points that failed; what went wrong is in the log and in their sweep.log.
    Raises:
        UserError: bad input, before anything runs; or another sweep runs in this folder.
    """
    folder = outputs / sweep.name
    if any((folder / step).exists() for step in STEPS):
        raise UserError(f"{folder} is the folder of a run; give the sweep another name")
    dirs = {point.name: folder / point.name for point in sweep.points}
    resolved = {point.name: runner.absolute_paths(point.params) for point in sweep.points}
    check_inputs(sweep, resolved)
    failed: list[str] = []
    with _locked(folder) as lock:
        for point in sweep.points:
            dirs[point.name].mkdir(exist_ok=True)
            sharing.clean(dirs[point.name])
            with artifacts.atomic(dirs[point.name] / PARAMETERS) as temporary:
                temporary.write_text(params.to_yaml(resolved[point.name]), encoding="utf-8")
        for step in STEPS:
            points = [p for p in sweep.points if step in p.steps and p.name not in failed]
            groups = group(step, points, dirs, resolved)
            tasks = plan(step, groups, dirs, sharing.known_runs(outputs))
            log.info("%s: %d different for %d points", step, len(groups), len(points))
            execute(step, [dirs[name] for name in tasks.values()], jobs, lock)
            for fingerprint, names in groups.items():
                done = sharing.find(step, fingerprint, [dirs[name] for name in names])
                if done is None:
                    failed += names
                    continue
                for name in names:
                    if sharing.find(step, fingerprint, [dirs[name]]) is None:
                        sharing.share(step, done, dirs[name])
            if step == artifacts.ROUND_STEPS[-1]:  # more rounds follow it; they are not shared
                left = [p.name for p in points if p.name not in failed]
                several = [dirs[name] for name in left if resolved[name].rounds > 1]
                failed += [run_dir.name for run_dir in execute(step, several, jobs, lock)]
    return failed


def check_inputs(sweep: Sweep, resolved: dict[str, RunParams]) -> None:
    """`runner.check_inputs` for every step of every point, each different one once."""
    seen = set()
    for point in sweep.points:
        for step in point.steps:
            values = resolved[point.name].steps[step]
            key = (step, values.model_dump_json())
            if key not in seen:
                seen.add(key)
                runner.check_inputs(RunParams(point.name, {step: values}), [step])


def group(
    step: str, points: list[Point], dirs: dict[str, Path], resolved: dict[str, RunParams]
) -> dict[str, list[str]]:
    """Names of points by the fingerprint of this step in them; earlier steps are complete."""
    known: dict[str, str] = {}  # a fingerprint reads data files: each different one once
    groups: dict[str, list[str]] = {}
    for point in points:
        run_dir, values = dirs[point.name], resolved[point.name].steps[step]
        inputs = [
            artifacts.outputs_read(step, up, artifacts.read_manifest(run_dir, up))
            for up in artifacts.UPSTREAM[step]
        ]
        key = artifacts.digest([values.model_dump(mode="json"), inputs])
        if key not in known:
            found = artifacts.compute_fingerprint(step, run_dir, values)
            known[key] = artifacts.digest(found)
        groups.setdefault(known[key], []).append(point.name)
    return groups


def plan(
    step: str, groups: dict[str, list[str]], dirs: dict[str, Path], others: list[Path]
) -> dict[str, str]:
    """Which point computes which fingerprint; what any run has complete is shared instead."""
    tasks = {}
    for fingerprint, names in groups.items():
        if sharing.find(step, fingerprint, [dirs[name] for name in names]):
            continue
        if source := sharing.find(step, fingerprint, others):
            log.info("%s %s: taken over from %s", step, names[0], source)
            sharing.share(step, source, dirs[names[0]])
        else:
            tasks[fingerprint] = names[0]
    return tasks


def execute(step: str, run_dirs: list[Path], jobs: int, lock: IO[str]) -> list[Path]:
    """Execute one step in several runs, `jobs` at a time; returns those that failed."""
    waiting, running, broken = list(run_dirs), {}, []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                run_dir = waiting.pop(0)
                running[run_dir] = (start(step, run_dir, jobs, lock), time.time())
            for run_dir, (process, started) in list(running.items()):
                if process.poll() is None:
                    continue
                del running[run_dir]
                seconds = time.time() - started
                if process.returncode == 0:
                    log.info("%s %s: done in %.0f s", step, run_dir.name, seconds)
                else:
                    broken.append(run_dir)
                    log.error("%s %s failed: %s", step, run_dir.name, last_words(run_dir))
            time.sleep(0.1)
    finally:  # interrupted: steps keep what they have done, and go on from there
        for process, _ in running.values():
            process.send_signal(signal.SIGINT)
        for process, _ in running.values():
            stop(process)
    return broken


def start(step: str, run_dir: Path, jobs: int, lock: IO[str]) -> subprocess.Popen:
    """Start one step of one run as a process; it holds the sweep's lock until it ends."""
    command = [sys.executable, "-m", "lib", "run", str(run_dir / PARAMETERS), "--only", step]
    command += ["--outputs", str(run_dir.parent), "--no-report"]
    environment = dict(os.environ)
    if jobs > 1:
        environment["OMP_NUM_THREADS"] = str(max(1, artifacts.cores() // jobs))
    with (run_dir / LOG).open("a", encoding="utf-8") as output:
        output.write(f"{HEAD}{step}\n")
        output.flush()
        return subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C comes once, from `execute`
            pass_fds=[lock.fileno()],
        )


def stop(process: subprocess.Popen, seconds: float = 20.0) -> None:
    """Wait for the end of an interrupted process, or end it: one may ignore interrupts."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def last_words(run_dir: Path) -> str:
    """The error message of the last step in a run's log, and where the log is."""
    text = (run_dir / LOG).read_text(encoding="utf-8", errors="replace")
    lines = text.rpartition(HEAD)[2].splitlines()
    found = [i for i, line in enumerate(lines) if line.startswith("error: ") or " failed: " in line]
    text = "\n".join(lines[found[-1] :][:20] if found else lines[-1:])
    return f"{text.removeprefix('error: ')} ({run_dir / LOG})"


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[IO[str]]:
    """One sweep at a time in a folder.

    Steps hold the lock, too: those of a sweep that was killed go on to their end, and must not be
    done a second time meanwhile. The system releases it with the last process.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(
                f"another sweep, or a step of one that was killed, runs in {folder}; wait for it"
            ) from None
        yield lock
