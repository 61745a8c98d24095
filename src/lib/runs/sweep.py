"""Sweeps: many runs that differ in a few parameters, declared in one file, and their comparison.

    name: purity                      # the folder in outputs/
    base: ../demo.yaml                # a parameter file, relative to this one
    set: {05.steps: 50}               # for all points
    grid:                             # all combinations
      min_purity: [0.0, 0.9]          # names as in -p: 04.min_purity, or for all steps
      seed: [0, 1, 2]
    variants:                         # named sets of overrides, each combined with the grid
      base: {last: 02}                # only up to 02: its model is measured
      full: {}
    compare_with: base                # paired differences, point by point of the grid
    measure: validation               # test: gold test and audit texts; nothing may be chosen by it
    last: 05                          # last step that is run

Every point is a normal run in outputs/<sweep>/<point>/. What is complete is skipped, and parts that
several points need are made once (`lib.runs.steps`). joblib runs several points at a time, each
with its share of the cores, or on a cluster whose machines share the folder, if `run` is called
inside `with joblib.parallel_config(backend="dask"):` (or "ray").

Intervals are 95%. *Over texts*, would other texts of this kind give the same: the bootstrap of
`lib.metrics`, where a resample counts its texts for all seeds alike. *Over seeds*, would others:
Student's t interval; with three seeds t is 4.3, so these are honestly wide.
"""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass as validated

from lib import files, metrics
from lib.artefacts import read_metrics
from lib.errors import UserError
from lib.evaluation.comparison import ALL_AUDIT, DOMAINS, LEAST_TEXTS, as_dataset, predict_one
from lib.runs import parameter_files, parts, runner, steps
from lib.runs.parameter_files import RunParams, value_to_yaml
from lib.runs.steps import Step

log = logging.getLogger(__name__)

SPLITS = {"validation": ["validation", "audit validation"], "test": ["test", "audit"]}
SAMPLES = 2000
DATA = ["dataset", "split"]
MACRO_F1 = metrics.METRICS["macro_f1"]
STATISTICS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "macro_f1": lambda counts: MACRO_F1(counts.sum(-2)),
    "difference": lambda counts: MACRO_F1(counts.sum(-2)) - MACRO_F1(counts.sum(-1)),
}
"""Name -> function of counts [..., 3, 3, 3]: true class, reference's and point's prediction."""


@dataclass(frozen=True)
class Point:
    """One run of a sweep: its folder's name, variant ("" if there are none) and grid values."""

    name: str
    variant: str
    values: dict[str, Any]
    params: RunParams
    steps: list[str]


@validated(config=ConfigDict(extra="forbid", strict=True))
class Sweep:
    """What a sweep file holds, and the points that it means."""

    name: Annotated[str, Field(pattern=r"^\w[\w.-]*$")]
    base: str
    set: dict[str, Any] = Field(default_factory=dict)
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(default_factory=dict)
    variants: dict[str, dict[str, Any]] = Field(default_factory=dict)
    compare_with: str | None = None
    measure: Literal["validation", "test"] = "validation"
    last: str | int = "05"
    points: list[Any] = Field(default_factory=list, init=False)

    @property
    def axes(self) -> list[str]:
        """What tells the lines of a table apart: the variant and the grid without the seed."""
        return ["variant", *(name for name in self.grid if name != "seed")]


def load(path: Path | str, overrides: list[str] | None = None, base: Path | None = None) -> Sweep:
    """Read a sweep file and validate all its points.

    Args:
        path: the sweep file.
        overrides: `-p` of the command line, `name=value`: like `set`, and stronger.
        base: parameter file to take instead of the sweep file's.
    Raises:
        UserError: what is wrong in the file, or in the first point that is not valid.
    """
    path, given = Path(path), overrides or []
    try:
        sweep = Sweep(**parameter_files.read_yaml(path))
    except ValidationError as error:
        found = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise UserError(f"{path}: " + "; ".join(found)) from error
    base = base or path.parent / sweep.base
    grid = [
        dict(zip(sweep.grid, values, strict=True))
        for values in itertools.product(*sweep.grid.values())
    ]
    variants = sweep.variants or {"": {}}
    for (variant, changes), values in itertools.product(variants.items(), grid):
        name = _point_name(variant, values) or sweep.name
        changed = sweep.set | values | changes
        last = str(changed.pop("last", sweep.last))
        texts = [f"{key}={value_to_yaml(value)}" for key, value in changed.items()]
        try:
            chosen = runner.choose_steps(None, last, None)
            params = parameter_files.load(base, [*texts, *given, f"run={name}"])
        except UserError as error:
            raise UserError(f"{path}, {name}: {error}") from error
        sweep.points.append(Point(name, variant, values, params, chosen))
    if problems := _problems(sweep, [text.partition("=")[0] for text in given]):
        raise UserError(f"{path}: " + "; ".join(problems))
    return sweep


def _problems(sweep: Sweep, given: list[str]) -> list[str]:
    """What is wrong with a sweep besides single values of parameters."""
    grid = {_bare(key) for key in sweep.grid}
    varied = {_bare(key) for changes in sweep.variants.values() for key in changes}
    problems = [f"{name} is set by the grid and by a variant; keep one" for name in grid & varied]
    fixed = grid | varied | {"run"}
    problems += [f"-p {key}: the sweep sets it itself" for key in given if _bare(key) in fixed]
    names = [point.name.lower() for point in sweep.points]  # some systems ignore case
    problems += [f"two points have the name {n}" for n in set(names) if names.count(n) > 1]
    if any(len(point.steps) < 2 for point in sweep.points):
        problems.append("last: 01 leaves no model to measure; take 02 or later")
    if len(names) < 2:
        problems.append("nothing to compare; give a grid, variants or both")
    if sweep.compare_with is not None and sweep.compare_with not in sweep.variants:
        problems.append(f"compare_with: no variant {sweep.compare_with!r}; {list(sweep.variants)}")
    return problems


def _bare(key: str) -> str:
    return key.rpartition(".")[2]


def _point_name(variant: str, values: dict[str, Any]) -> str:
    """A folder name such as `full__lambda_metric-0.1__seed-0`."""
    parts = [variant] if variant else []
    parts += [f"{_bare(key)}-{value_to_yaml(value)}" for key, value in values.items()]
    return "__".join(re.sub(r"[^\w.]+", "-", part).strip("-.")[-80:] for part in parts)


def run(sweep: Sweep, outputs: Path, jobs: int = 1) -> list[str]:
    """Run all points of a sweep into outputs/<sweep>/<point>/, `jobs` at a time.

    Returns:
        Names of the points that failed; the log says why. Bad input of the first raises UserError.
    """
    first = sweep.points[0]
    runner.check_inputs(runner.absolute_paths(first.params), first.steps)
    calls = (delayed(_run_point)(point, outputs / sweep.name) for point in sweep.points)
    failed = []
    for name, problem in Parallel(n_jobs=jobs, return_as="generator_unordered")(calls):
        log.log(logging.ERROR if problem else logging.INFO, "%s: %s", name, problem or "done")
        failed += [name] if problem else []
    return failed


def _run_point(point: Point, folder: Path) -> tuple[str, str]:
    """Run one point, in any process; its name and what went wrong."""
    logging.getLogger("papermill").setLevel(logging.ERROR)  # as the command line does
    try:
        failed = runner.run(point.params, last=point.steps[-1], outputs=folder, render=False)
    except Exception as error:  # whatever it is, the other points go on
        return point.name, f"failed: {str(error) or type(error).__name__}"
    return point.name, f"failed; see {folder / point.name / 'notebooks'}" if failed else ""


def write(sweep: Sweep, folder: Path) -> pd.DataFrame:
    """Compare the complete points in `folder`: comparison.csv and, of several seeds, seeds.csv.

    Returns:
        the main rows of the last table, which are printed, too; empty if no point is complete.
    """
    table = texts = collect(sweep, folder)
    if texts.empty:
        log.error("no point of %s is complete: nothing to compare", sweep.name)
        return texts
    seeds = {"seeds": sweep.axes} if "seed" in sweep.grid else {}
    for name, keys in {"comparison": ["point", "variant", *sweep.grid], **seeds}.items():
        table = summary(texts, keys)
        files.write_csv(folder / f"{name}.csv", table.round(6))
    table = table[table["dataset"].isin(["gold", DOMAINS, ALL_AUDIT])]
    shown = table[[*sweep.axes, *DATA, "seeds"]].copy()
    for name, kind in itertools.product(STATISTICS, ("", "_texts")):
        columns = [name, f"{name}{kind}_low", f"{name}{kind}_high"]
        shown[name + kind] = [metrics.with_interval(*row) for row in table[columns].to_numpy()]
    print(f"\n{shown.to_string(index=False)}\n\n{folder}")
    return table


def collect(sweep: Sweep, folder: Path) -> pd.DataFrame:
    """The predictions of all points that are complete and current, one row per data set and text.

    Returns:
        point, variant, the grid's parameters as texts, kept_share (of 04), dataset (each text is in
        that of its source and in that of all), split, text_id, nth (of this text), label,
        predicted, and reference: what the point with the same grid values and the variant
        `compare_with` predicts (NaN for that point itself).
    """
    frames = []
    for point in sweep.points:
        run_dir, params = folder.resolve() / point.name, runner.absolute_paths(point.params)
        try:
            params = runner.with_revisions(params, point.steps, run_dir)
            if not all(steps.is_current(step, run_dir, params.steps[step]) for step in point.steps):
                continue
        except UserError:  # `run` has said it
            continue
        figures = {row["name"]: row["value"] for row in read_metrics(run_dir, "04_cluster_purity")}
        about = {name: value_to_yaml(value) for name, value in point.values.items()}
        about |= {"point": point.name, "variant": point.variant}
        frame = predictions(point, run_dir, sweep.measure).assign(**about)
        frames.append(frame.assign(kept_share=figures.get("kept_share", float("nan"))))
    if not frames:
        return pd.DataFrame()
    texts = pd.concat(frames, ignore_index=True)
    texts["nth"] = texts.groupby(["point", "split", "text_id"]).cumcount()
    is_reference = texts["variant"] == sweep.compare_with
    same = [*sweep.grid, "split", "text_id", "nth"]
    reference = texts.loc[is_reference, [*same, "predicted"]]
    texts = texts.merge(reference.rename(columns={"predicted": "reference"}), "left", on=same)
    texts["reference"] = texts["reference"].mask(is_reference)
    is_audit = texts["split"].str.startswith("audit")
    whole = texts.assign(dataset=np.where(is_audit, ALL_AUDIT, "gold"))
    of_source = texts.assign(dataset=texts["source"].map(as_dataset))
    return pd.concat([whole, of_source], ignore_index=True)


def predictions(point: Point, run_dir: Path, measure: str) -> pd.DataFrame:
    """What a point's last model says of the texts of `measure`; a part, which is made once."""
    step = Step("sweep", run_dir, point.params.steps["06_final_eval"])
    trained = "05_metric_learning" if point.steps[-1] >= "05" else "02_base_classifier"
    model = step.input(trained, "model")
    folder = parts.make(step, measure, predict_one, model=model, splits=SPLITS[measure])
    return pd.read_parquet(folder / "predictions.parquet")


def summary(texts: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Means over the points (seeds) of each cell of `keys` and data set.

    Args:
        texts: of `collect`.
    Returns:
        keys, dataset (also DOMAINS: the mean over the sources of audit texts that all points
        have; of a difference, over those that all points share with their reference, NaN without
        any), split, seeds (number), kept_share, texts, and for each of STATISTICS its mean with
        _low and _high over seeds (NaN with one) and _texts_low and _texts_high over texts.
    """
    cells = [(cell, [part]) for cell, part in texts.groupby([*keys, *DATA], sort=False)]
    of_source = texts["split"].str.startswith("audit") & (texts["dataset"] != ALL_AUDIT)
    for cell, part in texts[of_source].groupby([*keys, "split"], sort=False):
        sizes = part.groupby(["dataset", "point"]).size().unstack(fill_value=0).min(axis="columns")
        large = sizes.index[sizes >= LEAST_TEXTS]
        if len(large):
            parts = [part[part["dataset"] == source] for source in large]
            cells.append(((*cell[:-1], DOMAINS, cell[-1]), parts))
    rows = []
    for cell, parts in cells:
        row = dict(zip([*keys, *DATA], cell, strict=True))
        points = parts[0].groupby("point")
        row |= {"seeds": len(points), "kept_share": points["kept_share"].first().mean()}
        row["texts"] = sum(map(len, parts)) / len(points)
        for name, statistic in STATISTICS.items():
            paired = [p.dropna(subset="reference") if name == "difference" else p for p in parts]
            count = pd.concat(paired)["point"].nunique()
            each = [
                over_texts(p, statistic, i)
                for i, p in enumerate(paired)
                if p["point"].nunique() == count
            ]
            found = np.mean(each, axis=0) if each else np.empty((0, 1 + SAMPLES))
            columns = (name, f"{name}_low", f"{name}_high")
            row |= dict(zip(columns, metrics.t_interval(found[:, 0]), strict=True))
            ends = np.quantile(found[:, 1:].mean(0), [0.025, 0.975]) if len(found) else [np.nan] * 2
            row |= {f"{name}_texts_low": ends[0], f"{name}_texts_high": ends[1]}
        rows.append(row)
    return pd.DataFrame(rows)


def over_texts(
    texts: pd.DataFrame, statistic: Callable[[np.ndarray], np.ndarray], stream: int
) -> np.ndarray:
    """A statistic of each point and its resamples over texts: float [points, 1 + resamples].

    Texts that all points treat alike are interchangeable, so a resample is a multinomial draw over
    the kinds of texts that there are, as in `lib.metrics`. A text that a point does not have
    (another split) counts only where it is.

    Args:
        texts: rows of `collect` of one data set; stream: of random numbers, another one for each.
    """
    if texts.empty:
        return np.empty((0, 1 + SAMPLES))
    k = metrics.K
    cell = (texts["label"] * k + texts["reference"].fillna(0)) * k + texts["predicted"]
    of_text = cell.set_axis(pd.MultiIndex.from_frame(texts[["text_id", "nth", "point"]])).unstack()
    kinds, counts = np.unique(of_text.fillna(-1).astype(int), axis=0, return_counts=True)
    drawn = np.vstack([counts, metrics.resample(counts, SAMPLES, [0, stream])]).astype(float)
    one_hot = kinds.T[:, :, None] == np.arange(k**3)  # [points, kinds, cells]
    cubes = (drawn @ one_hot.astype(float)).reshape(len(one_hot), -1, k, k, k)
    return statistic(cubes)
