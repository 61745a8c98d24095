"""Sweeps: many runs that differ in a few parameters, declared in one file.

A sweep file names a parameter file (`base`) and what is varied:

    name: lambda                      # the folder in outputs/
    base: ../demo.yaml                # relative to this file
    set: {05.steps: 50}               # for all points
    grid:                             # all combinations
      lambda_metric: [0.0, 0.1, 0.5]
      seed: [0, 1, 2]
    variants:                         # named sets of overrides, each combined with the grid
      base: {last: 02}                # only up to 02: its model is measured
      full: {}
    variants_of: other.yaml           # those of another sweep file, too
    compare_with: base                # paired differences, point by point of the grid
    measure: validation               # or test: the gold test and audit texts, too
    last: 05                          # last step that is run

Names of parameters are as in `-p`: `step.name`, or `name` for every step that has it. For a
parameter that is a list (05 compares the values of `lambda_metric`), a single value stands for a
list of one. `measure: test` is for reporting what was decided before: nothing may be chosen by it.

This module reads such a file into validated points; `lib.sweep_runner` runs them, `lib.sweep_table`
compares them.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lib import params, runner
from lib.errors import UserError
from lib.params import RunParams
from lib.schema import STEPS

MODEL_STEPS = ("02_base_classifier", "05_metric_learning")
"""The steps that leave a model; a point's last one is measured."""


@dataclass(frozen=True)
class Point:
    """One run of a sweep.

    `name` is its folder, `variant` the variant's name ("" if the sweep has none), `values` the
    grid's values of it by parameter, `last` the last step that it runs.
    """

    name: str
    variant: str
    values: dict[str, Any]
    params: RunParams
    last: str

    @property
    def steps(self) -> list[str]:
        """The steps that this point runs, in order."""
        return runner.choose_steps(None, self.last, None)


@dataclass(frozen=True)
class Sweep:
    """A validated sweep; `axes` are the grid's parameters in the file's order."""

    name: str
    axes: list[str]
    points: list[Point]
    measure: Literal["validation", "test"]
    compare_with: str | None


class SweepFile(BaseModel):
    """What a sweep file may hold."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    base: str
    overrides: dict[str, Any] = Field({}, alias="set")
    grid: dict[str, list[Any]] = {}
    variants: dict[str, dict[str, Any] | None] = {}
    variants_of: str | None = None
    measure: Literal["validation", "test"] = "validation"
    compare_with: str | None = None
    last: str | int = "05"


def load(path: Path | str, overrides: list[str] | None = None, base: Path | None = None) -> Sweep:
    """Read a sweep file and validate all its points.

    Args:
        path: the sweep file.
        overrides: `-p` of the command line, `name=value`: like `set`, and stronger.
        base: parameter file to take instead of the sweep file's.
    Raises:
        UserError: with one line for each thing that is wrong, in the file or in any point.
    """
    path, given = Path(path), overrides or []
    file = _validated(path, params.read_yaml(path))
    if not re.fullmatch(r"\w[\w.-]*", file.name):
        raise UserError(f"{path}: name: {file.name!r} is not a folder name; use letters and digits")
    variants = {name: _flat(values or {}) for name, values in _variants(path, file).items()}
    common, grid = _flat(file.overrides), file.grid
    if not grid and not variants:
        raise UserError(f"{path}: nothing to sweep; give `grid`, `variants` or both")
    for key, values in grid.items():
        if not values:
            raise UserError(f"{path}: grid: {key} has an empty list; give at least one value")
    if file.compare_with is not None and file.compare_with not in variants:
        raise UserError(
            f"{path}: compare_with: no variant {file.compare_with!r}; there are {list(variants)}"
        )
    _check_conflicts(path, grid, variants, given)
    base = base or path.parent / file.base
    points, problems = [], {}
    for variant, changes in (variants or {"": {}}).items():
        for combination in itertools.product(*grid.values()):
            values = dict(zip(grid, combination, strict=True))
            name = point_name(variant, values)
            last = _last(path, changes.get("last", file.last))
            own = {key: value for key, value in changes.items() if key != "last"}
            texts = [f"run={name}", *map(_override, common.items()), *given]
            texts += map(_override, [*values.items(), *own.items()])
            try:
                points.append(Point(name, variant, values, params.load(base, texts), last))
            except UserError as error:
                problems.setdefault(str(error), name)
    if problems:
        lines = [f"point {name}: {problem}" for problem, name in problems.items()]
        raise UserError(f"{path}: " + "\n".join(lines))
    _check_names(path, points)
    return Sweep(file.name, list(grid), points, file.measure, file.compare_with)


def point_name(variant: str, values: dict[str, Any]) -> str:
    """A folder name such as `full__lambda_metric-0.1__seed-0`."""
    parts = [_slug(variant)] if variant else []
    parts += [f"{key.rsplit('.', 1)[-1]}-{_slug(label(value))}" for key, value in values.items()]
    return "__".join(parts)


def label(value: Any) -> str:
    """A parameter's value as people write it; a list of one as its value."""
    if isinstance(value, list):
        return ",".join(map(label, value))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def _slug(text: str) -> str:
    return re.sub(r"[^\w.]+", "-", text).strip("-.")[-60:] or "none"


def _validated(path: Path, content: dict[str, Any]) -> SweepFile:
    try:
        return SweepFile(**content)
    except ValidationError as error:
        lines = []
        for detail in error.errors():
            place = ".".join(map(str, detail["loc"]))
            lines.append(f"{place}: {detail['msg']}, got {detail['input']!r:.80}")
    known = [field.alias or name for name, field in SweepFile.model_fields.items()]
    raise UserError(f"{path}: " + "; ".join(lines) + f" (a sweep file has {', '.join(known)})")


def _variants(path: Path, file: SweepFile) -> dict[str, dict[str, Any] | None]:
    """Those of the file that it names, then its own; its own wins where both have a name."""
    if file.variants_of is None:
        return file.variants
    other = path.parent / file.variants_of
    found = _validated(other, params.read_yaml(other))
    if not found.variants:
        raise UserError(f"{path}: variants_of: {other} has no variants of its own; name their file")
    return found.variants | file.variants


def _flat(overrides: dict[str, Any]) -> dict[str, Any]:
    """Sections as in a parameter file (`05_metric_learning: {steps: 9}`) as `step.name`."""
    flat: dict[str, Any] = {}
    for key, value in overrides.items():
        nested = value.items() if isinstance(value, dict) else None
        flat |= {f"{key}.{name}": v for name, v in nested} if nested is not None else {key: value}
    return flat


def _override(item: tuple[str, Any]) -> str:
    """The `name=value` of an override; one value for a list parameter becomes a list."""
    key, value = item
    fields = [STEPS[step].model_fields[name] for step, name in _targets(key) if step]
    if not isinstance(value, list) and any(get_origin(f.annotation) is list for f in fields):
        value = [value]
    return f"{key}={params.value_to_yaml(value)}"


def _targets(key: str) -> set[tuple[str, str]]:
    """The (step, parameter) pairs that an override's name means; a run's own are of step ""."""
    step, _, name = key.rpartition(".")
    if not step and name in ("run", "rounds"):
        return {("", name)}
    return {
        (known, name)
        for known, schema in STEPS.items()
        if name in schema.model_fields and (known == step or known.startswith(step and step + "_"))
    }


def _check_conflicts(
    path: Path, grid: dict[str, Any], variants: dict[str, dict[str, Any]], given: list[str]
) -> None:
    """No parameter may get its value from two places that are equally strong."""
    swept: dict[tuple[str, str], str] = {}
    for key in grid:
        for target in _targets(key):
            if target in swept:
                raise UserError(f"{path}: grid: {swept[target]} and {key} set the same parameter")
            swept[target] = key
    for variant, changes in variants.items():
        for key in changes:
            if shared := [swept[target] for target in _targets(key) if target in swept]:
                raise UserError(
                    f"{path}: {key} of variant {variant!r} is set by the grid, too ({shared[0]}); "
                    "keep one of them"
                )
    for changes in variants.values():
        swept |= {target: key for key in changes for target in _targets(key)}
    for text in given:
        key = text.partition("=")[0]
        if key == "run":
            raise UserError("-p run: the points of a sweep have names of their own")
        if shared := [swept[target] for target in _targets(key) if target in swept]:
            raise UserError(f"-p {text}: {shared[0]} is what {path} varies; change it there")
    if any(key == "run" for key in [*grid, *itertools.chain(*variants.values())]):
        raise UserError(f"{path}: run: the points of a sweep have names of their own")


def _last(path: Path, name: str | int) -> str:
    step = runner.find_step(str(name))
    if step < MODEL_STEPS[0]:
        raise UserError(f"{path}: last: {step} leaves no model to measure; take 02 or later")
    return step


def _check_names(path: Path, points: list[Point]) -> None:
    seen: dict[str, Point] = {}
    for point in points:
        other = seen.setdefault(point.name.lower(), point)  # some file systems ignore case
        if other is not point:
            raise UserError(
                f"{path}: two points have the name {point.name!r}: {other.variant} {other.values} "
                f"and {point.variant} {point.values}; name a value once only"
            )
