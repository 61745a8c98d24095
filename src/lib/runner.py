"""Run the steps in order: skip what is up to date, execute the rest with Papermill, report."""

from __future__ import annotations

import contextlib
import difflib
import logging
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import papermill
from papermill.exceptions import PapermillExecutionError

from lib import ablation, artifacts, code, encoder, report, report_front, rounds, sources
from lib.artifacts import executed_path
from lib.errors import UserError
from lib.evaluation import metrics_table
from lib.params import RunParams
from lib.schema import STEPS, StepParams

log = logging.getLogger(__name__)

OUTPUTS = code.PROJECT / "outputs"


def run(
    params: RunParams,
    *,
    first: str | None = None,
    last: str | None = None,
    only: str | None = None,
    force: bool = False,
    outputs: Path = OUTPUTS,
    render: bool = True,
) -> int:
    """Run the chosen steps of a run into outputs/<run>/ and write its report.

    Args:
        first, last, only: names, or beginnings of names such as `03`.
        force: run steps even if they are up to date.
        render: write the report.
    Returns:
        0, or 1 if a notebook failed for another reason than bad input.
    Raises:
        UserError: bad input or parameters; nothing half-written is left.
    """
    chosen = choose_steps(first, last, only)
    params = absolute_paths(params)
    check_inputs(params, chosen)
    run_dir = outputs / params.run
    if "06_final_eval" in chosen:
        ablation.folders(run_dir, params.steps["06_final_eval"].ablations)
    started = time.time()

    def do(name: str, run_dir: Path, title: str) -> bool:
        if not force and is_done(name, run_dir, params.steps[name]):
            log.info("%s: unchanged, skipped", title)
            return True
        if force:
            artifacts.discard(name, run_dir)
        return execute(name, run_dir, params.steps[name], title)

    if params.rounds == 1:
        (run_dir / artifacts.ROUNDS).unlink(missing_ok=True)  # of a run with more of them
    for number, name in enumerate(chosen, 1):
        if not do(name, run_dir, f"[{number}/{len(chosen)}] {name}"):
            return 1
        more = name == artifacts.ROUND_STEPS[-1] and params.rounds > 1
        if more and not rounds.run(run_dir, params.rounds, do):
            return 1
    if not render:
        return 0
    page = report.write(run_dir)
    print_summary(run_dir, page, time.time() - started)
    return 0


def choose_steps(first: str | None, last: str | None, only: str | None) -> list[str]:
    """The steps from `first` to `last`, or `only` one; all if nothing is given.

    Raises:
        UserError: an unknown step, or a contradictory choice.
    """
    names = list(STEPS)
    if only:
        if first or last:
            raise UserError("--only cannot be combined with --from or --to")
        return [find_step(only)]
    begin = names.index(find_step(first)) if first else 0
    end = names.index(find_step(last)) if last else len(names) - 1
    if begin > end:
        raise UserError(f"--from {first} comes after --to {last}")
    return names[begin : end + 1]


def find_step(name: str) -> str:
    """A step by its name, the beginning of its name (`03`), or its number (`3`)."""
    wanted = name.zfill(2) if name.isdigit() else name
    found = [step for step in STEPS if step.startswith(wanted)]
    if len(found) != 1:
        nearest = difflib.get_close_matches(name, STEPS, n=1, cutoff=0.0)[0]
        raise UserError(f"no step {name!r}; the nearest valid name is {nearest!r}")
    return found[0]


def absolute_paths(params: RunParams) -> RunParams:
    """Folders given relative to the working directory, made absolute: notebooks run elsewhere."""
    steps = {}
    for name, step in params.steps.items():
        paths = {
            field: str(Path(value).expanduser().resolve())
            for field in ("data_dir", "cache_dir", "base_model")
            if (value := getattr(step, field, None))
            and (field == "cache_dir" or Path(value).expanduser().is_dir())
        }
        steps[name] = step.model_copy(update=paths)
    return RunParams(params.run, steps, params.rounds)


def check_inputs(params: RunParams, chosen: list[str]) -> None:
    """Everything that can be known to be wrong before a step starts.

    Raises:
        UserError: see `lib.sources.check` and `lib.encoder.resolve`.
    """
    for name in chosen:
        step = params.steps[name]
        if name == "01_gold_data":
            sources.check(step)
        if hasattr(step, "device"):
            encoder.choose_device(step.device)
        if hasattr(step, "base_model"):
            encoder.fingerprint(step.base_model, step.base_revision)
        if not code.notebook_path(name).exists():
            raise UserError(
                f"{code.notebook_path(name)} is missing; the notebooks belong to a checkout of the "
                "repository: install it with pip install -e ."
            )


def is_done(name: str, run_dir: Path, params: StepParams) -> bool:
    """Whether a step's artefacts and its executed notebook are up to date."""
    return executed_path(name, run_dir).exists() and artifacts.is_current(name, run_dir, params)


def execute(name: str, run_dir: Path, params: StepParams, title: str) -> bool:
    """Execute one notebook; its copy appears in the run's notebooks/ when it is complete.

    Returns:
        False if it failed; the failed copy is kept for looking into it, and named in the log.
    Raises:
        UserError: the notebook ended with one.
    """
    target = executed_path(name, run_dir)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    running = target.with_name(f"{name}.running.ipynb")
    failed = target.with_name(f"{name}.failed.ipynb")
    failed.unlink(missing_ok=True)
    started = time.time()
    try:
        with _figures_in_the_notebook():
            papermill.execute_notebook(
                str(code.notebook_path(name)),
                str(running),
                parameters={"run_dir": str(run_dir)} | params.model_dump(mode="json"),
                cwd=str(code.notebook_path(name).parent),
                kernel_name="python3",
                progress_bar={"desc": title, "unit": "cell"},
                extra_arguments=["--log-level=40"],  # no warnings about the kernel's transport
                stderr_file=sys.stderr if sys.stderr.isatty() else None,
            )
    except PapermillExecutionError as error:
        if error.ename in ("UserError", "SourceUnavailable"):
            running.unlink(missing_ok=True)
            if error.ename == "UserError":  # the other one may go away: work done is kept
                artifacts.discard_partial(name, run_dir)
            raise UserError(error.evalue) from None
        running.replace(failed)
        log.error("%s failed: %s: %s", title, error.ename, error.evalue)
        log.error("the notebook up to the failure: %s", failed)
        return False
    except BaseException:  # interrupted: artefacts stay for going on, the copy is of no use
        running.unlink(missing_ok=True)
        raise
    running.replace(target)
    log.info("%s: done in %.0f s", title, time.time() - started)
    return True


@contextlib.contextmanager
def _figures_in_the_notebook() -> Iterator[None]:
    """Kernels started in here show matplotlib's figures, whatever backend the shell has set.

    With MPLBACKEND=Agg, as it is usual on servers, a notebook shows `<Figure size …>` instead.
    """
    before = os.environ.get("MPLBACKEND")
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    try:
        yield
    finally:
        if before is None:
            del os.environ["MPLBACKEND"]
        else:
            os.environ["MPLBACKEND"] = before


def print_summary(run_dir: Path, page: Path, seconds: float) -> None:
    """Print the figures of the run, and where the report is."""
    rows = artifacts.read_metrics(run_dir, "06_final_eval")
    if rows:
        print("\n" + metrics_table(report_front.headline(rows)).to_string(index=False))
    print(f"\n{seconds:.0f} s in all. Report: {page}")
