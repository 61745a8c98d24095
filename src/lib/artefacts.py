"""A run's folder, read: manifests, metrics, and whether a step's inputs are still the run's.

`outputs/<run>/<step>/manifest.json` is written last (see `lib.runs.steps`): a step is complete
exactly when it is there. It records the digest of everything that the step wrote (`outputs`) and of
everything that it read from earlier steps (`inputs`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lib.files import digest, read_record

MANIFEST = "manifest.json"
METRICS = "metrics.json"
NOTEBOOKS = "notebooks"

Manifest = dict[str, Any]


def read_manifest(run_dir: Path, step: str) -> Manifest | None:
    """The manifest of a complete step, None if the step is not complete or its manifest damaged."""
    return read_record(Path(run_dir) / step / MANIFEST, dict)


def read_metrics(run_dir: Path, step: str) -> list[dict[str, Any]]:
    """The figures of a complete step: name, value, dataset, split, texts, maybe low and high."""
    return read_record(Path(run_dir) / step / METRICS, list) or []


def output_digest(manifest: Manifest, file: str) -> str:
    """One digest for a file or folder that a step wrote; that of nothing if it is not there."""
    outputs = manifest.get("outputs", {}).items()
    return digest({f: d for f, d in outputs if f == file or f.startswith(f"{file}/")})


def changed_inputs(run_dir: Path, manifest: Manifest) -> list[str]:
    """What a step read of earlier steps that the run no longer holds, as `step/file`, sorted."""
    changed = []
    for name, recorded in manifest.get("inputs", {}).items():
        step, _, file = name.partition("/")
        upstream = read_manifest(run_dir, step)
        if upstream is None or output_digest(upstream, file) != recorded:
            changed.append(name)
    return sorted(changed)


def executed_notebook(run_dir: Path, step: str) -> Path:
    """Where the executed copy of a step's notebook is."""
    return Path(run_dir) / NOTEBOOKS / f"{step}.ipynb"
