"""What runs have in common and what not: their parameters, test texts and predictions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd

from lib import artifacts, evaluation, final_eval, report_front
from lib.errors import UserError
from lib.schema import STEPS

SAMPLES = 10_000  # resamples of the paired comparison
MISSING = "–"


@dataclass(frozen=True)
class Run:
    """What is compared of one run.

    Attributes:
        metrics: rows of 06's metrics.json; purity: 04's purity.csv; predictions: 06's
            predictions.parquet. The last two are None if their step is not complete.
    """

    name: str
    directory: Path
    manifests: report_front.Manifests
    metrics: list[dict[str, Any]]
    purity: pd.DataFrame | None
    predictions: pd.DataFrame | None

    def parameter(self, step: str, name: str) -> str:
        """A parameter as text; a dash where the step is not complete."""
        parameters = self.manifests.get(step, {}).get("parameters", {})
        return report_front.as_text(parameters[name]) if name in parameters else MISSING


def read_runs(directories: list[Path]) -> list[Run]:
    """Read what is there of every run.

    Raises:
        UserError: a folder is no run, is given twice, or is the only one.
    """
    if len(directories) < 2:
        raise UserError("compare needs two runs or more: python -m lib compare outputs/A outputs/B")
    resolved = [Path(directory).resolve() for directory in directories]
    for place, directory in enumerate(resolved):
        if directory in resolved[:place]:
            raise UserError(f"{directories[place]} is given twice; a run cannot differ from itself")
    names = [directory.name for directory in resolved]
    if len(set(names)) < len(names):  # the same name in several output folders
        names = [f"{directory.parent.name}/{directory.name}" for directory in resolved]
    return [_read_run(*both) for both in zip(names, resolved, strict=True)]


def _read_run(name: str, directory: Path) -> Run:
    if not directory.is_dir():
        raise UserError(f"{directory}: no such folder; a run is a folder in outputs/")
    try:
        manifests = report_front.read_manifests(directory)
        metrics = artifacts.read_metrics(directory, "06_final_eval")
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(
            f"{directory}: a manifest.json or metrics.json is not readable ({error}); run the step "
            "again with --force"
        ) from error
    if not manifests:
        raise UserError(
            f"{directory} is no run: no step in it is complete (no {next(iter(STEPS))}/"
            f"{artifacts.MANIFEST} and so on); a run is a folder in outputs/"
        )
    purity = directory / "04_cluster_purity" / "purity.csv"
    predictions = directory / "06_final_eval" / "predictions.parquet"
    done_04, done_06 = "04_cluster_purity" in manifests, "06_final_eval" in manifests
    return Run(
        name,
        directory,
        manifests,
        metrics if done_06 else [],
        pd.read_csv(purity) if done_04 and purity.exists() else None,
        pd.read_parquet(predictions) if done_06 and predictions.exists() else None,
    )


def different_parameters(runs: list[Run]) -> list[tuple[str, ...]]:
    """Step, name and value in each run of every parameter that is not the same in all runs.

    A step that is not complete in a run has no parameters there, and counts as no difference.
    """
    rows = []
    for step, schema in STEPS.items():
        for name in schema.model_fields:
            values = [run.parameter(step, name) for run in runs]
            if len(set(values) - {MISSING}) > 1:
                rows.append((step, name, *values))
    return rows


def tested_on(runs: list[Run]) -> str:
    """Whether all runs were tested on the same texts, in words."""
    tested = [run for run in runs if run.predictions is not None]
    if len(tested) < 2:
        return "Fewer than two of these runs have completed step 06."
    texts = [frozenset(evaluation.text_keys(run.predictions)) for run in tested]
    if len(set(texts)) == 1:
        return f"All were tested on the same {len(texts[0]):,} gold test texts."
    common = len(frozenset.intersection(*texts))
    sizes = ", ".join(f"{run.name} {len(ids):,}" for run, ids in zip(tested, texts, strict=True))
    return (
        f"The gold test texts differ ({sizes}; {common:,} in common): figures in one line are not "
        "of the same texts, and a difference may be one of the texts."
    )


def paired_differences(runs: list[Run]) -> list[tuple[str, ...]]:
    """For every two runs that share their gold test texts: difference of either model, paired."""
    rows = []
    for one, other in combinations([run for run in runs if run.predictions is not None], 2):
        left, right = (
            run.predictions.set_axis(evaluation.text_keys(run.predictions)) for run in (one, other)
        )
        if set(left.index) != set(right.index):
            continue
        right = right.loc[left.index]
        for model in final_eval.MODELS:
            (row,) = [
                row
                for row in evaluation.compare(
                    left["label"].to_numpy(),
                    left[f"{model}_predicted"].to_numpy(),
                    right[f"{model}_predicted"].to_numpy(),
                    dataset="gold",
                    split="test",
                    samples=SAMPLES,
                    seed=0,
                )
                if row["name"] == "macro_f1"
            ]
            shows = "no difference shown"
            if row["low"] > 0 or row["high"] < 0:
                shows = f"{other.name if row['low'] > 0 else one.name} is better"
            difference = report_front.with_interval(row, signed=True)
            pair = f"{other.name} - {one.name}"
            rows.append((model, pair, f"{row['texts']:,}", difference, shows))
    return rows
