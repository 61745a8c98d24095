"""Several runs side by side: parameters that differ, metrics with intervals, confusion matrices,
purity of the clusters. One self-contained page, without plotly.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, cycle
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from lib import LABELS, metrics
from lib.artefacts import read_metrics
from lib.errors import UserError
from lib.evaluation.comparison import MODELS
from lib.parameters import STEPS
from lib.reports import chapters, front, page
from lib.reports.chapters import Chapter
from lib.style import CLUSTER_COLORS, done, plain

STEP = "04_cluster_purity"
BOOTSTRAP: dict[str, Any] = {"samples": 10_000, "seed": 0}


@dataclass(frozen=True)
class Run:
    """What is compared of one run.

    Attributes:
        predictions: for the gold test texts, by their keys; empty if 06 is not there.
    """

    name: str
    folder: Path
    chapters: list[Chapter]
    predictions: pd.DataFrame


def write(directories: list[Path], out: Path | None = None) -> Path:
    """Compare two runs or more on one page, by default compare-<names>.html beside the first.

    Returns:
        The page's path.
    Raises:
        UserError: a folder is no run, is given twice, or is the only one; or out is a folder.
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
        purity=purity_overlay(runs),
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
    names = [folder.name for folder in folders]
    if len(set(names)) < len(names):  # the same name in several output folders
        names = [f"{folder.parent.name}/{folder.name}" for folder in folders]
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
        frame = pd.read_parquet(path) if path.exists() else pd.DataFrame({"text_id": []})
        runs.append(Run(name, folder, found, frame.set_index(metrics.text_keys(frame))))
    return runs


def paired_differences(runs: list[Run]) -> list[dict[str, Any]]:
    """For every two runs that share their gold test texts: difference of either model, paired.

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


def purity_overlay(runs: list[Run]) -> Figure | None:
    """Purity histograms of the runs' clusters over each other, as shares of texts.

    A dotted line is a run's threshold. None if no run has clusters.
    """
    tables, thresholds = {}, {}
    for run in runs:
        path = run.folder / STEP / "purity.csv"
        if path.exists():
            name = plain(run.name)
            tables[name] = pd.read_csv(path)
            thresholds[name] = front.parameters(run.chapters)[STEP]["min_purity"]
    if not tables:
        return None
    frame = pd.concat(tables, names=["run", "row"]).reset_index()
    colors = dict(zip(tables, cycle(CLUSTER_COLORS), strict=False))
    figure, axes = plt.subplots(figsize=(9, 4.2))
    sns.histplot(
        frame,
        x="purity",
        weights="size",
        hue="run",
        palette=colors,
        bins=40,
        binrange=(1 / len(LABELS), 1),
        stat="proportion",
        common_norm=False,
        element="step",
        fill=False,
        ax=axes,
    )
    for name, threshold in thresholds.items():
        axes.axvline(threshold, color=colors[name], linestyle=":")
    axes.set(
        title="Purity of the clusters of the runs",
        xlabel="purity (share of the dominant predicted class)",
        ylabel="share of the run's texts",
    )
    return done(figure)
