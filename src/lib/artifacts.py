"""Artefacts of a step: where they lie, how they are written, and when a step counts as complete.

A step owns the folder `outputs/<run>/<step>/`. Its `manifest.json` is written last, so a step is
complete exactly when its manifest is there. The manifest holds a fingerprint of everything the
artefacts depend on (parameters, code, artefacts of earlier steps, data files, model): same
fingerprint, same artefacts, nothing to do. Work interrupted half-way is kept and gone on with only
if its fingerprint is still the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from lib.errors import UserError
from lib.schema import StepParams

MANIFEST = "manifest.json"
PARTIAL = "partial.json"
PACKAGES = (
    "torch",
    "transformers",
    "datasets",
    "scikit-learn",
    "faiss-cpu",
    "umap-learn",
    "numpy",
    "pytorch-metric-learning",
)
UPSTREAM: dict[str, dict[str, tuple[str, ...]]] = {
    "01_gold_data": {},
    "02_base_classifier": {"01_gold_data": ("gold.parquet",)},
    "03_embed_corpus": {
        "01_gold_data": ("corpus", "foreign.parquet", "gold.parquet"),
        "02_base_classifier": ("model",),
    },
    "04_cluster_purity": {
        "01_gold_data": ("corpus",),
        "03_embed_corpus": ("bank", "reduced.npy"),
    },
    "05_metric_learning": {
        "01_gold_data": ("corpus", "gold.parquet"),
        "02_base_classifier": ("model",),
        "03_embed_corpus": ("bank", "pca.npz"),
        "04_cluster_purity": ("clusters.parquet", "kmeans.npz"),
    },
    "06_final_eval": {
        "01_gold_data": ("corpus", "gold.parquet", "labelled_twice.parquet"),
        "02_base_classifier": ("model",),
        "05_metric_learning": ("heldout.parquet", "model"),
    },
}
"""What a step reads of which earlier steps: files and folders. Nothing else makes it stale."""
ROUNDS = "rounds.json"
ROUND_STEPS = ("03_embed_corpus", "04_cluster_purity", "05_metric_learning")
"""The steps that every round has its own of, see `lib.rounds`."""


@dataclass
class Step:
    """An open step: its folder, and what earlier steps left for it.

    Use `open_step` to get one and `finish` to complete it.
    """

    name: str
    run_dir: Path
    params: StepParams
    fingerprint: dict[str, Any]
    started: float
    commit: str | None

    @property
    def directory(self) -> Path:
        """Folder of this step's artefacts."""
        return self.run_dir / self.name

    def path(self, file: str) -> Path:
        """Path of one of this step's own artefacts; its folder is made."""
        target = self.directory / file
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def input(self, step: str, file: str) -> Path:
        """Path of an earlier step's artefact.

        Raises:
            UserError: the file is not there.
            ValueError: UPSTREAM does not say that this step reads it.
        """
        if file not in UPSTREAM[self.name].get(step, ()):
            raise ValueError(f"{file} of {step} is missing in artifacts.UPSTREAM[{self.name!r}]")
        target = input_dir(self.run_dir, self.name, step) / file
        if not target.exists():
            raise UserError(f"{self.name} needs {target}, which is missing; run {step} again")
        return target

    def finish(self, metrics: list[dict[str, Any]]) -> dict[str, Any]:
        """Write metrics.json, then the manifest; from here on the step is complete.

        Args:
            metrics: one dict per figure: name, value, dataset, split, texts, and low/high of its
                95% interval where it has one.
        Returns:
            The manifest.
        """
        write_json(self.path("metrics.json"), metrics)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        manifest = {
            "step": self.name,
            "fingerprint": digest(self.fingerprint),
            **self.fingerprint,
            "outputs": {
                str(file.relative_to(self.directory)): file_digest(file)
                for file in sorted(self.directory.rglob("*"))
                if file.is_file() and file.name not in (MANIFEST, PARTIAL)
            },
            "commit": self.commit,
            "seconds": round(time.time() - self.started, 1),
            "peak_memory_mib": round(peak / (2**20 if sys.platform == "darwin" else 2**10)),
            "machine": machine(),
            "python": platform.python_version(),
            "packages": {name: metadata.version(name) for name in PACKAGES},
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
        write_json(self.directory / MANIFEST, manifest)
        (self.directory / PARTIAL).unlink(missing_ok=True)
        return manifest


def open_step(name: str, run_dir: Path | str, params: StepParams) -> Step:
    """Open a step for (re)doing: checks its inputs, clears what an older version left.

    Half-finished work with the same fingerprint stays, so that long parts can go on from there.

    Raises:
        UserError: an earlier step is not complete in this run.
    """
    from lib import code, distributed  # heavy, and only needed here

    run_dir = Path(run_dir).resolve()
    for upstream in UPSTREAM[name]:
        if _read_input(run_dir, name, upstream) is None:
            raise UserError(
                f"{name} reads the artefacts of {upstream}, which is not complete in {run_dir}; "
                f"run that step first"
            )
    fingerprint = compute_fingerprint(name, run_dir, params)
    with distributed.main_first():
        _clear(run_dir / name, digest(fingerprint))
    # now, not when the step ends: the checkout may have moved on by then
    return Step(name, run_dir, params, fingerprint, time.time(), code.commit())


def _clear(directory: Path, fingerprint: str) -> None:
    """Leave only what a step with this fingerprint can go on from."""
    if directory.is_symlink():  # what it leads to belongs to another run
        directory.unlink()
    partial = directory / PARTIAL
    resumable = partial.exists() and read_json(partial).get("fingerprint") == fingerprint
    if not resumable:
        shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True, exist_ok=True)
    for stray in directory.rglob(".*"):  # what `atomic` was writing when the process was killed
        shutil.rmtree(stray) if stray.is_dir() else stray.unlink()
    (directory / MANIFEST).unlink(missing_ok=True)
    write_json(partial, {"fingerprint": fingerprint})


def discard_partial(name: str, run_dir: Path) -> None:
    """Remove an incomplete step's folder, so that nothing half-written is left behind."""
    if read_manifest(run_dir, name) is None:
        discard(name, run_dir)


def discard(name: str, run_dir: Path) -> None:
    """Remove a step's folder, complete or not; of a link only the link."""
    directory = Path(run_dir) / name
    if directory.is_symlink():
        directory.unlink()
    shutil.rmtree(directory, ignore_errors=True)


def read_manifest(run_dir: Path, step: str) -> dict[str, Any] | None:
    """The manifest of a complete step, None if the step is not complete."""
    path = Path(run_dir) / step / MANIFEST
    return read_json(path) if path.exists() else None


def input_dir(run_dir: Path, reader: str, step: str) -> Path:
    """The folder in which the step `reader` finds the artefacts of an earlier step.

    It is the run's own one, but 06 judges the best round's model by that round's artefacts.
    """
    if reader == "06_final_eval" and step in ROUND_STEPS:
        found = read_rounds(run_dir)
        return round_dir(run_dir, found["best"] if found else 1) / step
    return Path(run_dir) / step


def round_dir(run_dir: Path, number: int) -> Path:
    """The folder of a round; the first one is the run itself."""
    return Path(run_dir) / f"round_{number}" if number > 1 else Path(run_dir)


def read_rounds(run_dir: Path) -> dict[str, Any] | None:
    """What `lib.rounds` wrote; None without it, or if it belongs to another first round."""
    path, first = Path(run_dir) / ROUNDS, read_manifest(run_dir, ROUND_STEPS[-1])
    if first is None or not path.exists():
        return None
    found = read_json(path)
    return found if found["first"] == digest(first["outputs"]) else None


def _read_input(run_dir: Path, reader: str, step: str) -> dict[str, Any] | None:
    return read_manifest(input_dir(run_dir, reader, step).parent, step)


def executed_path(name: str, run_dir: Path) -> Path:
    """The executed copy of a step's notebook."""
    return Path(run_dir) / "notebooks" / f"{name}.ipynb"


def read_metrics(run_dir: Path, step: str) -> list[dict[str, Any]]:
    """The figures of a complete step; see `Step.finish`."""
    path = Path(run_dir) / step / "metrics.json"
    return read_json(path) if path.exists() else []


def is_current(name: str, run_dir: Path, params: StepParams) -> bool:
    """Whether a complete step's artefacts are what this code, these parameters and inputs give."""
    manifest = read_manifest(run_dir, name)
    if manifest is None or any(_read_input(run_dir, name, up) is None for up in UPSTREAM[name]):
        return False
    return manifest["fingerprint"] == digest(compute_fingerprint(name, run_dir, params))


def compute_fingerprint(name: str, run_dir: Path, params: StepParams) -> dict[str, Any]:
    """Everything the artefacts of a step depend on, as plain values."""
    from lib import ablation, code, encoder, sources  # heavy, and only needed here

    inputs = {
        upstream: digest(outputs_read(name, upstream, _read_input(run_dir, name, upstream)))
        for upstream in UPSTREAM[name]
    }
    if name == "01_gold_data":
        inputs |= sources.fingerprint(params)
    if hasattr(params, "base_model"):
        inputs |= {params.base_model: encoder.fingerprint(params.base_model, params.base_revision)}
    if name == "06_final_eval":
        inputs |= ablation.fingerprint(run_dir, params.ablations)
        if rounds := read_rounds(run_dir):
            inputs |= {"rounds": digest(rounds)}  # it shows all rounds, not just the best
    return {
        "parameters": params.model_dump(mode="json"),
        "inputs": inputs,
        "code": code.fingerprint(name),
    }


def outputs_read(name: str, upstream: str, manifest: dict[str, Any]) -> dict[str, str]:
    """Digests of those artefacts of an earlier step that the step reads."""
    read = UPSTREAM[name][upstream]
    outputs = manifest["outputs"].items()
    return {file: found for file, found in outputs if file.split("/")[0] in read}


def digest(value: Any) -> str:
    """SHA-256 of a JSON-like value, 16 hex digits."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, 16 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path in the same folder that becomes `path` only if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically: UTF-8, indented, keys as given; NaN is refused."""
    with atomic(path) as temporary:
        text = json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False)
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def machine() -> str:
    """Processor, number of usable cores and memory, as text."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{name}, {cores()} cores, {memory:.0f} GiB"


def cores() -> int:
    """Number of processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
