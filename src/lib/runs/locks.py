"""Locks: one process at a time writes into a run, and one run at a time makes a part.

They are locks of the operating system, so a process that is killed leaves none behind.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from lib import files
from lib.errors import UserError

LOCK = ".lock"


@contextlib.contextmanager
def lock(run_dir: Path, what: str) -> Iterator[None]:
    """Keep other processes from writing into a run; the runner's own notebooks may.

    Raises:
        UserError: another process writes into it.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    if _holder(run_dir)[0] in (os.getpid(), os.getppid()):
        yield
        return
    waiting = FileLock(run_dir / LOCK, timeout=0)
    try:
        waiting.acquire()
    except Timeout:
        raise _locked(run_dir) from None
    owner = run_dir / f"{LOCK}.json"
    try:
        files.write_json(owner, {"pid": os.getpid(), "what": what})
        yield
    finally:
        owner.unlink(missing_ok=True)
        waiting.release()


def refuse_if_locked(run_dir: Path) -> None:
    """Raises UserError if another process writes into this run."""
    with lock(run_dir, "opening"):
        pass


def _holder(run_dir: Path) -> tuple[int, str]:
    with contextlib.suppress(OSError, ValueError):
        owner = files.read_json(run_dir / f"{LOCK}.json")
        return owner["pid"], owner["what"]
    return 0, ""


def _locked(run_dir: Path) -> UserError:
    pid, what = _holder(run_dir)
    return UserError(
        f"{run_dir} is in use by another process (pid {pid}, {what}); wait for it, stop it, or "
        "give this run another name: -p run=NAME"
    )


@contextlib.contextmanager
def one_at_a_time(outputs: Path, fingerprint: str) -> Iterator[None]:
    """Runs beside each other that need the same part wait for the one that makes it."""
    path = outputs / f".{fingerprint}.lock"
    with FileLock(path):
        yield
    path.unlink(missing_ok=True)
