"""Sharing a complete step between runs, so that the same work is done once.

A step's fingerprint names everything its artefacts depend on, so a complete step with the
fingerprint that a run needs *is* that run's step. It is taken over as a folder of hard links: no
disk space, no time, and every run keeps a whole folder of its own. Nothing that happens to one
run reaches the other: a step that is done again drops its folder first (`artifacts.open_step`), and
files of a complete step are never written to. Links to folders would be simpler, but removing the
run that they lead to would break all others.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from lib import artifacts
from lib.artifacts import executed_path


def find(step: str, fingerprint: str, run_dirs: Iterable[Path]) -> Path | None:
    """The first run that has this step complete, with this fingerprint and executed notebook."""
    for run_dir in run_dirs:
        manifest = artifacts.read_manifest(run_dir, step)
        if (
            manifest
            and manifest["fingerprint"] == fingerprint
            and executed_path(step, run_dir).exists()
            and not _missing(run_dir / step, manifest)
        ):
            return run_dir
    return None


def known_runs(outputs: Path) -> list[Path]:
    """Folders of runs below `outputs`, those of sweeps (a level deeper) included."""
    manifests = [
        path
        for pattern in ("*/*/", "*/*/*/")
        for path in outputs.glob(pattern + artifacts.MANIFEST)
    ]
    return sorted({path.parent.parent for path in manifests})


def share(step: str, source: Path, target: Path, as_step: str | None = None) -> None:
    """Give the run `target` the complete step of the run `source`, perhaps as another step.

    The folder appears whole or not at all, and the executed notebook after it: a step counts as
    done when both are there, so a kill at any moment only means to share it again.

    Raises:
        OSError: the step of `source` was changed meanwhile.
    """
    as_step = as_step or step
    notebook = executed_path(as_step, target)
    notebook.parent.mkdir(parents=True, exist_ok=True)
    notebook.unlink(missing_ok=True)
    copy = Path(tempfile.mkdtemp(prefix=f".{as_step}-", dir=target))
    try:
        shutil.copytree(source / step, copy, copy_function=_link, dirs_exist_ok=True)
        if missing := _missing(copy, artifacts.read_json(copy / artifacts.MANIFEST)):
            raise OSError(f"{source / step} is incomplete: {missing[0]} is missing")
        os.chmod(copy, 0o755)  # mkdtemp gives a private one
        artifacts.discard(as_step, target)
        copy.rename(target / as_step)
    finally:
        shutil.rmtree(copy, ignore_errors=True)
    shutil.copyfile(executed_path(step, source), notebook.with_name(f".{as_step}.ipynb"))
    notebook.with_name(f".{as_step}.ipynb").replace(notebook)


def clean(run_dir: Path) -> None:
    """Remove what `share` was making when the process was killed."""
    for stray in [*run_dir.glob(".*-*"), *(run_dir / "notebooks").glob(".*.ipynb")]:
        shutil.rmtree(stray) if stray.is_dir() else stray.unlink()


def _missing(directory: Path, manifest: dict) -> list[str]:
    return [name for name in manifest["outputs"] if not (directory / name).exists()]


def _link(source: str, target: str) -> None:
    try:
        os.link(os.path.realpath(source), target)
    except OSError:  # no hard links on this file system, or another one
        shutil.copy2(source, target)
