"""Several runs side by side: parameters that differ, metrics with intervals, confusion matrices,
purity of the clusters. One self-contained page, without plotly.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd

from lib import metrics
from lib.artefacts import read_metrics
from lib.errors import UserError
from lib.evaluation.comparison import MODELS
from lib.parameters import STEPS
from lib.reports import chapters, front, page
from lib.reports.chapters import Chapter

BOOTSTRAP: dict[str, Any] = {"samples": 10_000, "seed": 0}


@dataclass(frozen=True)
class Run:
    """What is compared of one run.

    Attributes:
        predictions: for the gold test texts, see `by_text`; empty if 06 is not there.
    """

    name: str
    folder: Path
    chapters: list[Chapter]
    predictions: pd.DataFrame


def write(directories: list[Path], out: Path | None = None) -> Path:
    """Compare two runs or more on one page, by default compare-<names>.html beside the first.

    Raises:
        UserError: see `read_runs`; or out is a folder.
    """
    runs = read_runs(directories)
    if out is None:
        file = "-".join(["compare", *(run.folder.name for run in runs)])[:80]
        out = runs[0].folder.parent / f"{file}.html"
    elif out.is_dir():
        raise UserError(f"--out {out}: is a folder; name a file, such as {out / 'compare.html'}")
    rows = [
        row | {"run": run.name}
        for run in runs
        for row in read_metrics(run.folder, "06_final_eval")
        if "low" in row
    ]
    tested = {run.name: set(run.predictions.index) for run in runs if len(run.predictions)}
    page.write(
        out,
        "compare.html",
        runs=runs,
        parameters=front.differences(*(front.parameters(run.chapters) for run in runs)),
        tested=tested,
        common=len(set.intersection(*tested.values())) if tested else 0,
        metrics=front.side_by_side(rows, ("name", "dataset", "split", "model"), "run"),
        paired=paired_differences(runs),
    )
    return out


def read_runs(directories: list[Path]) -> list[Run]:
    """Read what is there of every run.

    Raises:
        UserError: a folder is no run, is given twice, or is the only one.
    """
    if len(directories) < 2:
        raise UserError("compare needs two runs or more: python -m lib compare outputs/A outputs/B")
    folders = [Path(directory).resolve() for directory in directories]
    names, depth = [folder.name for folder in folders], 1
    while len(set(names)) < len(set(folders)):  # the same name in several output folders
        depth += 1
        names = [Path(*folder.parts[-depth:]).as_posix() for folder in folders]
    runs: list[Run] = []
    for name, folder in zip(names, folders, strict=True):
        if folder in (run.folder for run in runs):
            raise UserError(f"{folder} is given twice; a run cannot differ from itself")
        found = chapters.read(folder)
        if not any(chapter.manifest for chapter in found):
            raise UserError(
                f"{folder} is no run: no step in it is complete (no {next(iter(STEPS))}/"
                "manifest.json and so on); a run is a folder in outputs/"
            )
        path = folder / "06_final_eval" / "predictions" / "test.parquet"
        predictions = by_text(pd.read_parquet(path)) if path.exists() else pd.DataFrame()
        runs.append(Run(name, folder, found, predictions))
    return runs


def by_text(frame: pd.DataFrame) -> pd.DataFrame:
    """Predictions by what pairs them with those of another run: (text_id, label, how many-th).

    An official test split may hold a text more than once, and with different labels.
    """
    keys = ["text_id", "label"]
    return frame.set_index([*(frame[key] for key in keys), frame.groupby(keys).cumcount()])


def paired_differences(runs: list[Run]) -> list[dict[str, Any]]:
    """For every two runs with the same gold test texts and labels: either model's difference.

    Returns:
        Rows of metrics.json, other - one, with the runs' names as `one` and `other`.
    """
    rows = []
    for one, other in combinations([run for run in runs if len(run.predictions)], 2):
        both = one.predictions.join(other.predictions, rsuffix="_other", how="inner")
        if not len(both) == len(one.predictions) == len(other.predictions):
            continue
        for model in MODELS:
            name = f"{model}_predicted"
            columns = both[["label", name, f"{name}_other"]].to_numpy().T
            difference, *_ = metrics.compare(*columns, dataset="gold", split="test", **BOOTSTRAP)
            rows.append(difference | {"model": model, "one": one.name, "other": other.name})
    return rows
