"""Steps of a run: where their artefacts lie, when they are current, and how they are replaced.

A step owns the folder `outputs/<run>/<step>/`. It is *complete* exactly when `manifest.json`,
written last, is there. A successor is built beside it, in `outputs/<run>/.new/<step>/`, and takes
its place when it is complete; until then the old one stays, whatever happens.

What takes long is a **part**: a folder that a function makes from files and plain values.

    gold = step.input("01_gold_data", "tables/gold.parquet")
    model = step.make("model", base.train, gold=gold, epochs=3)

A part is made again only if its function's code, an argument, the content of a file that it reads
or a package has changed. Otherwise it is taken (by hard links) from the present step, or from
another run beside this one. A function that was interrupted gets the same folder again, to go on
in. `lib.runs.parts` names all parts of the process.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import resource
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import joblib

from lib import files
from lib.artefacts import MANIFEST, METRICS, changed_inputs, output_digest, read_manifest
from lib.errors import UserError
from lib.parameters import StepParams
from lib.runs import fingerprints
from lib.runs.locks import lock, one_at_a_time

log = logging.getLogger(__name__)

NEW = ".new"
PARTS = ".parts"
FORCE = ".force"
RECORDED = {"outputs", "seconds", "bytes"}  # of a part, besides what it was made from


class _OneProcess:
    is_main_process = True

    @staticmethod
    def wait_for_everyone() -> None:
        """Nobody to wait for."""


@dataclass
class Step:
    """An open step: where its artefacts go, and what earlier steps left for it.

    Use `open_step` to get one and `finish` to complete it.
    """

    name: str
    run_dir: Path
    params: Any  # the step's class in lib.parameters.CHAPTERS
    started: float = field(default_factory=time.time)
    commit: str | None = field(default_factory=fingerprints.commit)
    identity: dict[str, Any] = field(default_factory=dict)
    group: Any = _OneProcess  # see `processes`
    _inputs: dict[str, str] = field(default_factory=dict)  # step/file -> digest
    _digests: dict[Path, str] = field(default_factory=dict)  # what `make` is given
    _kept: set[str] = field(default_factory=set)  # files and parts of this execution

    @property
    def folder(self) -> Path:
        """Where this execution's artefacts are built."""
        return self.run_dir / NEW / self.name

    def path(self, file: str) -> Path:
        """Where to write an artefact; its folder is made."""
        target = self.folder / file
        target.parent.mkdir(parents=True, exist_ok=True)
        self._kept.add(file)
        return target

    def input(self, step: str, file: str) -> Path:
        """Path of an earlier step's artefact, a file or folder.

        Raises:
            UserError: that step is not complete, or has no such artefact.
        """
        manifest = read_manifest(self.run_dir, step)
        if manifest is None:
            raise UserError(
                f"{self.name} reads the artefacts of {step}, which is not complete in "
                f"{self.run_dir}; run that step first"
            )
        path = self.run_dir / step / file
        if not path.exists():
            raise UserError(f"{self.name} needs {path}, which is missing; run {step} with --force")
        self._inputs[f"{step}/{file}"] = self._digests[path] = output_digest(manifest, file)
        return path

    def make(
        self, name: str, function: Callable[..., Any], *, together: bool = False, **arguments: Any
    ) -> Path:
        """The folder that `function(folder, **arguments)` fills, made only if it is not there yet.

        Args:
            name: of the folder, such as `model` or `candidates/0.1`.
            function: of a module of `lib`. It writes into `folder`, which may hold what an
                interrupted call has left.
            together: all processes of `group` share the work; else the main one does it.
            arguments: paths, and plain values as JSON has them.
        Returns:
            The folder in this execution's artefacts.
        """
        target = self.folder / name
        identity = {
            "function": f"{function.__module__}.{function.__qualname__}",
            "arguments": {key: self._identify(value) for key, value in arguments.items()},
            "code": fingerprints.of_modules({function.__module__}),
            "packages": fingerprints.packages(),
        }
        fingerprint = files.digest(identity)
        unfinished = target.with_name(f".{target.name}-{fingerprint[:8]}")
        group = self.group
        with contextlib.ExitStack() as stack:
            if group.is_main_process:
                stack.enter_context(lock(self.run_dir, f"{self.name}: part {name}"))
                stack.enter_context(one_at_a_time(self.run_dir.parent, fingerprint))
                if not self._find(name, fingerprint):
                    unfinished.mkdir(parents=True, exist_ok=True)
            group.wait_for_everyone()
            if not self._has(self.folder, name, fingerprint):
                started = time.time()
                if together or group.is_main_process:
                    function(unfinished, **arguments)
                group.wait_for_everyone()
                if group.is_main_process:
                    self._put(name, unfinished, fingerprint, identity, time.time() - started)
                group.wait_for_everyone()
        outputs = self._read_part(self.folder, name)["outputs"]
        self._digests[target] = files.digest(outputs)
        self._digests |= {target / file: digest for file, digest in outputs.items()}
        self._kept.add(name)
        return target

    def finish(self, metrics: list[dict[str, Any]], summary: str) -> None:
        """Write metrics and manifest and put this execution in the place of the present step.

        Args:
            metrics: one dict per figure: name, value, dataset, split, texts, and low/high of its
                95% interval where it has one.
            summary: the step's result in two lines.
        Raises:
            UserError: another process works in this run, or this execution's artefacts are not
                here any more: it was finished before.
        """
        with lock(self.run_dir, f"{self.name}: finishing"):
            missing = sorted(name for name in self._kept if not (self.folder / name).exists())
            if missing:
                raise UserError(
                    f"{self.name} was finished before, or never wrote {', '.join(missing)}: run "
                    "its notebook again from the first cell; nothing that is done is done again"
                )
            files.write_json(self.path(METRICS), metrics)
            self._remove_the_rest()
            files.write_json(self.folder / MANIFEST, self._manifest(summary))
            files.replace_folder(self.folder, self.run_dir / self.name)

    def _manifest(self, summary: str) -> dict[str, Any]:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        parts = {name: self._read_part(self.folder, name) for name in self._part_names()}
        return {
            "step": self.name,
            "summary": summary,
            **self.identity,
            "inputs": dict(sorted(self._inputs.items())),
            "outputs": self._outputs(parts),
            "bytes": files.lengths(self.folder),
            "parts": {name: part["seconds"] for name, part in parts.items()},
            "commit": self.commit,
            "seconds": round(time.time() - self.started, 1),
            "peak_memory_mib": round(peak / (2**20 if sys.platform == "darwin" else 2**10)),
            "machine": machine(),
            "python": platform.python_version(),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }

    def _find(self, name: str, fingerprint: str) -> bool:
        """Whether the part is here; if another folder has it, it is now."""
        if self._has(self.folder, name, fingerprint):
            return True
        if (self.folder / FORCE).exists():
            return False
        beside = [*self.run_dir.parent.glob(f"*/{self.name}")]
        beside += self.run_dir.parent.glob(f"*/{NEW}/{self.name}")
        for folder in [self.run_dir / self.name, *sorted(beside)]:
            with contextlib.suppress(OSError):  # another run may replace its step meanwhile
                if not self._has(folder, name, fingerprint):
                    continue
                record = self.folder / PARTS / f"{name}.json"
                record.unlink(missing_ok=True)  # it is of the files that are replaced now
                files.link_tree(folder / name, self.folder / name)
                part = self._read_part(folder, name)
                if self._is_whole(self.folder / name, part, fingerprint):
                    files.write_json(record, part)
                    return True
        return False

    def _has(self, folder: Path, name: str, fingerprint: str) -> bool:
        return self._is_whole(folder / name, self._read_part(folder, name), fingerprint)

    def _is_whole(self, folder: Path, part: dict[str, Any], fingerprint: str) -> bool:
        """Whether a part is this one, and nobody has removed a file, as one does to free space, or
        cut it."""
        if part.get("fingerprint") != fingerprint or not part.keys() >= RECORDED:
            return False
        if found := files.damage(folder, part["bytes"]):
            log.warning("%s; it is made again", found)
        return not found

    def _read_part(self, folder: Path, name: str) -> dict[str, Any]:
        return files.read_record(folder / PARTS / f"{name}.json", dict) or {}

    def _put(
        self, name: str, made: Path, fingerprint: str, identity: dict[str, Any], seconds: float
    ) -> None:
        record = self.folder / PARTS / f"{name}.json"
        record.unlink(missing_ok=True)
        files.make_readable(made)
        outputs = files.folder_digests(made)  # takes long: if killed here, `made` is gone on with
        files.replace_folder(made, self.folder / name)
        part = {"fingerprint": fingerprint, "outputs": outputs, "seconds": round(seconds, 1)}
        part["bytes"] = files.lengths(self.folder / name)
        files.write_json(record, part | identity)

    def _part_names(self) -> list[str]:
        records = self.folder / PARTS
        found = (path.relative_to(records).with_suffix("") for path in records.rglob("*.json"))
        return sorted(path.as_posix() for path in found)

    def _outputs(self, parts: dict[str, dict[str, Any]]) -> dict[str, str]:
        found = {
            f"{name}/{file}": digest
            for name, part in parts.items()
            for file, digest in part["outputs"].items()
        }
        for path in sorted(self.folder.rglob("*")):
            file = path.relative_to(self.folder).as_posix()
            if path.is_file() and file not in found and not file.startswith(f"{PARTS}/"):
                found[file] = files.file_digest(path)
        return found

    def _remove_the_rest(self) -> None:
        """What earlier, interrupted executions left and this one did not write or make."""
        kept = [self.folder / name for name in self._kept]
        kept += [self.folder / PARTS / f"{name}.json" for name in self._kept]
        for path in sorted(self.folder.rglob("*"), reverse=True):
            if any(path == k or k in path.parents for k in kept):
                continue
            if path.is_dir():
                with contextlib.suppress(OSError):  # not empty: holds what is kept
                    path.rmdir()
            else:
                path.unlink()

    def _identify(self, value: Any) -> Any:
        """An argument of `make` as a plain value; a path by what it holds."""
        if isinstance(value, Path):
            path = Path(os.path.abspath(value))
            if path not in self._digests:
                found = files.folder_digests(path) if path.is_dir() else files.file_digest(path)
                self._digests[path] = files.digest(found)
            return {"content": self._digests[path]}
        if isinstance(value, list | tuple):
            return [self._identify(item) for item in value]
        if isinstance(value, dict):
            return {key: self._identify(item) for key, item in value.items()}
        return value


def open_step(name: str, run_dir: Path | str, params: StepParams, group: Any = _OneProcess) -> Step:
    """Open a step, to look at it or to do it again; what is there stays until `finish`.

    Args:
        group: the processes that open it together, see `processes`.
    Raises:
        UserError: another process works in this run, or its folder cannot be written.
    """
    run_dir = Path(run_dir).resolve()
    if group.is_main_process:  # the others would find it locked by each other
        with lock(run_dir, f"{name}: opening"):
            files.recover(run_dir / name)
    group.wait_for_everyone()
    # now, not when the step ends: the checkout may have moved on by then
    step = Step(name, run_dir, params, identity=identity(name, params), group=group)
    step.folder.mkdir(parents=True, exist_ok=True)
    return step


def last_result(name: str, run_dir: Path | str) -> str:
    """The result of a step's last execution in two lines, as Markdown."""
    manifest = read_manifest(Path(run_dir), name)
    if manifest is None:
        return "*Not run yet: this notebook ends with its result, and then begins with it.*"
    return "  \n".join(f"**{line}**" for line in manifest["summary"].splitlines())


def force(name: str, run_dir: Path) -> None:
    """Let the next execution of a step make all its parts anew.

    Those that an interrupted execution has made so stay: the same command goes on.
    """
    folder = Path(run_dir) / NEW / name
    if (folder / FORCE).exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / FORCE).touch()


def identity(name: str, params: StepParams) -> dict[str, Any]:
    """What a step depends on besides the artefacts of earlier steps, as plain values."""
    return {
        "parameters": params.model_dump(mode="json"),
        "external": fingerprints.external(name, params),
        "code": fingerprints.of_notebook(name),
        "packages": fingerprints.packages(),
    }


def is_current(name: str, run_dir: Path, params: StepParams) -> bool:
    """Whether a complete step's artefacts are what this code, these parameters and inputs give."""
    manifest = read_manifest(run_dir, name)
    if manifest is None or changed_inputs(run_dir, manifest):
        return False
    if any(manifest.get(key) != value for key, value in identity(name, params).items()):
        return False
    if found := files.damage(Path(run_dir) / name, manifest.get("bytes", {})):
        log.warning("%s; %s makes it again", found, name)
    return not found


def machine() -> str:
    """Processor, number of usable cores, memory and GPUs, as text."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    text = f"{name}, {joblib.cpu_count()} cores, {memory:.0f} GiB"
    torch = sys.modules.get("torch")  # steps that never load it use no GPU
    if torch and torch.cuda.is_available():
        gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        text += f", {', '.join(gpus)}"
    return text
