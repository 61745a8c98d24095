"""Run the steps in order: skip what is up to date, execute the rest with Papermill, report."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
import papermill
from papermill.exceptions import PapermillExecutionError

from lib import files
from lib.artefacts import executed_notebook, read_manifest, read_metrics
from lib.data import examine
from lib.errors import DISK_FULL, UserError, is_disk_full
from lib.metrics import table
from lib.models import encoder
from lib.parameters import APPENDICES, CHAPTERS, STEPS, StepParams
from lib.reports import chapters, front, report
from lib.runs import fingerprints, steps
from lib.runs import plan as plans
from lib.runs.locks import lock
from lib.runs.parameter_files import RunParams, find_step

log = logging.getLogger(__name__)

OUTPUTS = fingerprints.PROJECT / "outputs"
REVISIONS = "revisions.json"
KERNEL = ["--matplotlib=inline", "--log-level=50"]
"""Show figures, also where MPLBACKEND=Agg is set; no words on the kernel's transport and end."""


def run(
    params: RunParams,
    *,
    first: str | None = None,
    last: str | None = None,
    only: str | None = None,
    force: bool = False,
    appendix: bool = False,
    plan: bool = False,
    outputs: Path = OUTPUTS,
    render: bool = True,
) -> int:
    """Run the chosen steps of a run into outputs/<run>/ and write its report.

    Args:
        first, last, only: names, or beginnings of names such as `03`.
        force: run steps even if they are up to date, and make all their parts anew.
        appendix: run the appendices after the steps.
        plan: only print what the steps will need.
        render: write the report.
    Returns:
        0, or 1 if a notebook failed for another reason than bad input.
    Raises:
        UserError: bad input or parameters, too little memory or disk (`lib.runs.plan`), or another
            process works in this run.
    """
    started = time.time()
    chosen = choose_steps(first, last, only) + (list(APPENDICES) if appendix else [])
    if plan:
        print(plans.describe(absolute_paths(params), chosen, outputs.resolve() / params.run))
        return 0
    run_dir, params = prepare(params, chosen, outputs)
    plans.check(params, chosen, run_dir, force)
    with lock(run_dir, "run"):
        for name in CHAPTERS:
            files.recover(run_dir / name)
        for number, name in enumerate(chosen, 1):
            title = f"[{number}/{len(chosen)}] {name}"
            if force:
                steps.force(name, run_dir)
            elif is_done(name, run_dir, params.steps[name]):
                log.info("%s: unchanged, skipped", title)
                continue
            if not execute(name, run_dir, params.steps[name], title):
                return 1
        if render:
            print_summary(run_dir, report.write(run_dir), time.time() - started)
    return 0


def choose_steps(first: str | None, last: str | None, only: str | None) -> list[str]:
    """The steps from `first` to `last`, or `only` one; all if nothing is given.

    Raises:
        UserError: an unknown step, or a contradictory choice.
    """
    if only:
        if first or last:
            raise UserError("--only cannot be combined with --from or --to")
        return [find_step(only)]
    for name in map(find_step, filter(None, (first, last))):
        if name in APPENDICES:
            raise UserError(f"{name} is an appendix: take --only {name}, or --appendix for all")
    names = list(STEPS)
    begin = names.index(find_step(first)) if first else 0
    end = names.index(find_step(last)) if last else len(names) - 1
    if begin > end:
        raise UserError(f"--from {first} comes after --to {last}")
    return names[begin : end + 1]


def prepare(params: RunParams, chosen: list[str], outputs: Path) -> tuple[Path, RunParams]:
    """The folder of a run, and its parameters as the notebooks get them; what can be is checked.

    Raises:
        UserError: see `check_inputs`; all problems of the user's files come first, a line each.
    """
    run_dir = outputs.resolve() / params.run
    params = absolute_paths(params)
    if "01_gold_data" in chosen:
        data: Any = params.steps["01_gold_data"]
        for note in examine.examine(data, examine.FIRST)[1]:
            log.info("%s", note)
    params = with_revisions(params, chosen, run_dir)
    check_inputs(params, chosen)
    return run_dir, params


def absolute_paths(params: RunParams) -> RunParams:
    """Folders given relative to the working directory, made absolute: notebooks run elsewhere."""
    changed = {}
    for name, step in params.steps.items():
        paths = {}
        for field in ("data_dir", "base_model", "start_model"):
            value = getattr(step, field, None)
            if value and (field != "base_model" or Path(value).expanduser().is_dir()):
                paths[field] = str(Path(value).expanduser().resolve())
        changed[name] = step.model_copy(update=paths)
    return RunParams(params.run, changed)


def with_revisions(params: RunParams, chosen: list[str], run_dir: Path) -> RunParams:
    """Hub models that no revision is named for, pinned to what the hub had at the run's first use.

    The commits are kept in revisions.json, so that a run never changes its model on the way.

    Raises:
        UserError: that file is damaged, or cannot be written; or another process works in this run.
    """
    path = run_dir / REVISIONS
    known = files.read_commits(path)
    changed = dict(params.steps)
    for name in chosen:
        step = params.steps[name]
        model = getattr(step, "base_model", None)
        if model is None or getattr(step, "base_revision", None):
            continue
        if model not in known:
            revision = encoder.resolve_revision(model, None)
            if revision is None:  # not of a hub
                continue
            known[model] = revision
            with lock(run_dir, "run"):
                files.write_json(path, known)
        changed[name] = step.model_copy(update={"base_revision": known[model]})
    return RunParams(params.run, changed)


def check_inputs(params: RunParams, chosen: list[str]) -> None:
    """Everything that can be known to be wrong before a step starts.

    Raises:
        UserError: a missing file, model or device, or no notebooks.
    """
    for name in chosen:
        step: Any = params.steps[name]
        if hasattr(step, "device"):
            encoder.choose_device(step.device)
        fingerprints.external(name, step)
        if not fingerprints.notebook_path(name).exists():
            raise UserError(
                f"{fingerprints.notebook_path(name)} is missing; notebooks belong to a checkout of "
                "the repository: install it with pip install -e ."
            )


def is_done(name: str, run_dir: Path, params: StepParams) -> bool:
    """Whether a step's artefacts are current, and its executed notebook shows them."""
    path = executed_notebook(run_dir, name)
    if not path.exists() or not steps.is_current(name, run_dir, params):
        return False
    shown = (files.read_record(path, dict) or {}).get("metadata", {}).get("manifest")
    return shown == files.digest(read_manifest(run_dir, name))


def execute(name: str, run_dir: Path, params: StepParams, title: str) -> bool:
    """Execute one notebook; its copy appears in the run's notebooks/ when it is complete.

    Returns:
        False if it failed; the failed copy is kept for looking into it, and named in the log.
    Raises:
        UserError: the notebook ended with one.
    """
    target = executed_notebook(run_dir, name)
    target.parent.mkdir(parents=True, exist_ok=True)
    running = target.with_name(f"{name}.running.ipynb")
    failed = target.with_name(f"{name}.failed.ipynb")
    failed.unlink(missing_ok=True)
    started = time.time()
    try:
        papermill.execute_notebook(
            str(fingerprints.notebook_path(name)),
            str(running),
            parameters={"run_dir": str(run_dir)} | params.model_dump(mode="json"),
            cwd=str(fingerprints.notebook_path(name).parent),
            kernel_name="python3",
            progress_bar={"desc": title, "unit": "cell"},
            extra_arguments=KERNEL,
            stderr_file=sys.stderr if sys.stderr.isatty() else None,
        )
    except PapermillExecutionError as error:
        if error.ename == "UserError":
            running.unlink(missing_ok=True)
            raise UserError(error.evalue) from None
        reason = f"{error.ename}: {error.evalue}"
        if is_disk_full(error.ename, error.evalue):
            reason = f"{reason}; {DISK_FULL}"
    except RuntimeError as error:  # of a cell, or from before the first one
        reason = str(error)
        if "Kernel died" in reason:
            reason = (
                "its process was killed, as the system does when memory is full; the same "
                "command goes on from here (smaller: batch_size, batch_groups, tokens_per_batch, "
                "max_tokens)"
            )
    except BaseException:  # interrupted: artefacts stay for going on, the copy is of no use
        running.unlink(missing_ok=True)
        raise
    else:
        reason = ""
    if reason:
        running.replace(failed)
        log.error("%s failed: %s", title, reason)
        log.error("the notebook up to the failure: %s", failed)
        return False
    _show_result(running, name, run_dir)
    running.replace(target)
    log.info("%s: done in %.0f s", title, time.time() - started)
    return True


def _show_result(path: Path, name: str, run_dir: Path) -> None:
    """Let an executed notebook begin with its own result, and say whose artefacts it shows."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if "result" in cell.metadata.get("tags", []):
            data = {"text/markdown": steps.last_result(name, run_dir)}
            cell.outputs = [nbformat.v4.new_output("display_data", data)]
    notebook.metadata["manifest"] = files.digest(read_manifest(run_dir, name))
    nbformat.write(notebook, path)


def print_summary(run_dir: Path, page: Path, seconds: float) -> None:
    """Print the figures of the run, and where the report is."""
    rows = read_metrics(run_dir, "06_final_eval")
    if rows:
        if any(c.stale for c in chapters.read(run_dir) if c.name == "06_final_eval"):
            print("\nout of date: 06, and so these figures, come from earlier artefacts")
        print("\n" + table(front.headline(rows), "dataset", "split", "texts").to_string())
    print(f"\n{seconds:.0f} s in all. Report: {page}")
