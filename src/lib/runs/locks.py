"""Locks: one process at a time writes into a run, and one run at a time makes a part.

They are locks of the operating system, so a process that is killed leaves none behind.
"""

from __future__ import annotations

import contextlib
import os
import platform
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
        UserError: another process writes into it, or it cannot be written at all.
    """
    owner = run_dir / f"{LOCK}.json"
    ours = FileLock(run_dir / LOCK, timeout=0)
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        ours.acquire()
    except Timeout:
        _refuse_others(run_dir, owner)
    except OSError as error:
        raise UserError(f"{run_dir} cannot be written: {error}; name another --outputs") from error
    with contextlib.ExitStack() as stack:
        if ours.is_locked:
            stack.callback(ours.release)
            stack.callback(owner.unlink, missing_ok=True)
            pid, host = os.getpid(), platform.node()
            files.write_json(owner, {"pid": pid, "host": host, "what": what})
        yield


def _refuse_others(run_dir: Path, owner: Path) -> None:
    """Raises UserError unless this process or the one that started it holds the lock.

    The host counts, too: each container begins to number its processes anew.
    """
    holder = {"pid": 0, "host": "", "what": "starting"}
    with contextlib.suppress(OSError, ValueError, TypeError):
        holder |= files.read_json(owner)
    if holder["host"] == platform.node() and holder["pid"] in (os.getpid(), os.getppid()):
        return
    raise UserError(
        f"{run_dir} is in use by another process (pid {holder['pid']}, {holder['what']}); wait for "
        "it, stop it, or give this run another name: -p run=NAME"
    )


@contextlib.contextmanager
def one_at_a_time(outputs: Path, fingerprint: str) -> Iterator[None]:
    """Runs beside each other that need the same part wait for the one that makes it."""
    path = outputs / f".{fingerprint}.lock"
    with FileLock(path):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # while it is ours: FileLock takes no removed file
