"""Several runs side by side: parameters that differ, metrics with intervals, confusion matrices,
purity of the clusters. One self-contained page, without plotly.
"""

from __future__ import annotations

import html
import io
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from lib import LABELS, final_eval, plots, report_front, report_page
from lib.compare_runs import (
    Run,
    different_parameters,
    paired_differences,
    read_runs,
    tested_on,
)
from lib.errors import UserError

METRICS = {
    "macro_f1": "Macro-F1",
    "accuracy": "Accuracy",
    **{f"f1_{name}": f"F1 of {name}" for name in LABELS},
}


def write(directories: list[Path], out: Path | None = None) -> Path:
    """Compare runs on one page.

    Args:
        directories: folders of runs, two or more.
        out: the page; None: compare-<names>.html beside the first run.
    Returns:
        The page's path.
    Raises:
        UserError: a folder is no run, is given twice, or is the only one; or out is a folder.
    """
    runs = read_runs(directories)
    title = "Runs " + ", ".join(run.name for run in runs)
    if out is None:
        file = "-".join(["compare", *(run.directory.name for run in runs)])[:80]
        out = runs[0].directory.parent / f"{file}.html"
    elif out.is_dir():
        raise UserError(f"--out {out}: is a folder; name a file, such as {out / 'compare.html'}")
    report_page.write(out, report_page.page(title, _body(runs), [], here=""))
    return out


def _body(runs: list[Run]) -> str:
    parts = ["<h2>What was run</h2>", _facts(runs), "<h2>Parameters that differ</h2>"]
    different = different_parameters(runs)
    if different:
        parts.append(report_page.table(("step", "parameter", *_names(runs)), different))
    else:
        parts.append("<p>None: all parameters of the steps that are complete are the same.</p>")
    parts += ["<h2>Metrics</h2>", f"<p class='note'>{html.escape(tested_on(runs))}</p>"]
    parts += _metrics(runs)
    paired = paired_differences(runs)
    if paired:
        header = ("model", "runs", "texts", "difference of macro-F1", "what it shows")
        parts += ["<h2>Run against run, gold test, paired</h2>", report_page.table(header, paired)]
    parts += ["<h2>Confusion matrices, gold test</h2>", *map(_confusion, runs)]
    shown = {run.name: run for run in runs if run.purity is not None}
    if shown:
        reading = (
            "a curve further right has purer clusters; dotted lines are the thresholds, in the "
            "colour of their run."
        )
        parts += [
            "<h2>Purity of the clusters</h2>",
            _picture(purity_overlay(list(shown.values())), "Cluster purity of the runs", reading),
        ]
    return "\n".join(parts)


def purity_overlay(runs: list[Run]) -> Figure:
    """Purity histograms of several runs over each other: share of clusters, share of texts."""
    figure, axes = plt.subplots(1, 2, figsize=(13, 4.2), sharex=True)
    bins = np.linspace(1 / 3, 1, 41)
    for number, run in enumerate(runs):
        color = plots.CLUSTER_COLORS[number % len(plots.CLUSTER_COLORS)]
        table = run.purity.dropna(subset="purity")
        label = f"{plots.plain(run.name)} ({len(table):,} clusters)"
        for axis, weights in zip(axes, (np.ones(len(table)), table["size"]), strict=True):
            axis.hist(
                table["purity"],
                bins=bins,
                weights=weights / weights.sum(),
                histtype="step",
                linewidth=2,
                color=color,
                label=label,
            )
            threshold = run.manifests["04_cluster_purity"]["parameters"]["min_purity"]
            axis.axvline(threshold, color=color, linestyle=":", linewidth=1.5)
    for axis, what in zip(axes, ("clusters", "texts"), strict=True):
        axis.set(
            title=f"Purity of the clusters, share of {what}",
            xlabel="purity (share of the dominant predicted class)",
            ylabel=f"share of {what}",
        )
    axes[0].legend(loc="upper left")
    return plots.done(figure)


def _names(runs: list[Run]) -> list[str]:
    return [run.name for run in runs]


def _facts(runs: list[Run]) -> str:
    def seconds(run: Run) -> str:
        return report_front.duration(sum(m["seconds"] for m in run.manifests.values()))

    def commit(manifest: dict[str, Any]) -> str:
        return manifest.get("commit") or report_front.NOT_RECORDED

    facts = {
        "steps complete": lambda run: ", ".join(name[:2] for name in run.manifests),
        "data": lambda run: report_front.data_note(run.manifests),
        "commit": lambda run: report_front.per_step(run.manifests, commit),
        "machine": lambda run: report_front.per_step(run.manifests, lambda m: m["machine"]),
        "time": seconds,
    }
    rows = [(name, *(fact(run) for run in runs)) for name, fact in facts.items()]
    return report_page.table(("", *_names(runs)), rows)


def _metrics(runs: list[Run]) -> list[str]:
    """A table per metric: a line per data set, split and model, a column per run."""
    found: dict[tuple[str, str, str, str], dict[str, dict[str, Any]]] = {}
    for run in runs:
        for row in run.metrics:
            if "model" in row and "low" in row:
                key = (row["name"], row["dataset"], row["split"], row["model"])
                found.setdefault(key, {})[run.name] = row
    parts = []
    for metric, title in METRICS.items():
        rows = []
        for (name, dataset, split, model), by_run in found.items():
            if name == metric:
                signed = model == report_front.MODELS[-1]
                cells = [report_front.with_interval(by_run.get(n), signed) for n in _names(runs)]
                sizes = dict.fromkeys(f"{row['texts']:,}" for row in by_run.values())
                rows.append((dataset, split, " / ".join(sizes), model, *cells))
        if rows:
            header = ("data set", "split", "texts", "model", *_names(runs))
            parts += [f"<h3>{html.escape(title)}</h3>", report_page.table(header, rows)]
    return parts or ["<p>No run has figures of step 06.</p>"]


def _confusion(run: Run) -> str:
    if run.predictions is None:
        return f"<p>{html.escape(run.name)}: step 06 is not complete.</p>"
    named = final_eval.matrices(run.predictions).items()
    matrices = {f"{plots.plain(run.name)}, {model}": matrix for model, matrix in named}
    figure = plots.confusion_matrices(matrices, f"gold test, {len(run.predictions):,} texts")
    reading = "rows are true classes; what lies off the diagonal is a mistake."
    return _picture(figure, f"Run {run.name}: base against final", reading)


def _picture(figure: Figure, title: str, reading: str) -> str:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=100)
    return report_page.picture(content.getvalue(), title, reading)
