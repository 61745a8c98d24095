"""Parameter files: reading, overriding, validating and printing them.

A parameter file has one section per step and, above them, values for all steps: a value at the
top level (`seed: 0`) goes to every step that has a parameter of that name; a section's own value
wins. Everything is validated once, before a run starts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lib.errors import UserError
from lib.parameters import CHAPTERS, StepParams, expected, invalid, nearest, validate


class _Loader(yaml.SafeLoader):
    """YAML 1.1 takes 1e-4 for a text; people mean the number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)

Values = dict[str, dict[str, Any]]
"""Step -> parameter -> value, as given."""


@dataclass(frozen=True)
class RunParams:
    """One validated parameter file: the run's name (its folder in outputs/), and its steps."""

    run: str
    steps: dict[str, StepParams]


def load(path: Path | str, overrides: list[str] | None = None) -> RunParams:
    """Read, override and validate a parameter file.

    Args:
        path: the YAML file.
        overrides: `step.name=value` or `name=value` (every step that has it); values are YAML.
    Raises:
        UserError: with one line for each thing that is wrong.
    """
    return resolve(read_yaml(path), overrides or [], default_run=Path(path).stem)


def read_yaml(path: Path | str) -> dict[str, Any]:
    """The content of a YAML file of `name: value` lines.

    Raises:
        UserError: no such file, or not such a content.
    """
    path = Path(path)
    if not path.is_file():
        known = sorted(p.name for p in path.parent.glob("*.yaml"))
        raise UserError(f"parameter file {path} does not exist; in {path.parent}: {known}")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not readable YAML: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected `name: value` lines, found {type(content).__name__}")
    return content


def resolve(content: dict[str, Any], overrides: list[str], default_run: str = "run") -> RunParams:
    """Validate the content of a parameter file; see `load`."""
    problems: list[str] = []
    values: Values = {step: {} for step in CHAPTERS}
    run = str(content.get("run", default_run))
    sections = {key: value for key, value in content.items() if key in CHAPTERS}
    for name, value in content.items():
        if name not in sections and name != "run":
            problems += _set_everywhere(values, str(name), value)
    for step, section in sections.items():
        if isinstance(section or {}, dict):
            values[step] |= section or {}
        else:
            problems.append(f"{step}: expected `name: value` lines, got {section!r}")
    for override in overrides:
        if override.startswith("run="):
            run = override.removeprefix("run=")
        else:
            problems += _apply_override(values, override)
    if not re.fullmatch(r"[\w-][\w.-]*", run):
        problems.append(f"run: {run!r} is not a folder name; use letters, digits, '-', '_' and '.'")
    steps: dict[str, StepParams] = {}
    for step, given in values.items():
        validated, found = validate(step, given)
        problems += found
        if validated:
            steps[step] = validated
    if problems:
        raise invalid(problems)
    return RunParams(run, steps)


def to_yaml(params: RunParams) -> str:
    """The complete parameters as YAML, each with its bounds and meaning as a comment."""
    lines = [yaml.safe_dump({"run": params.run}, allow_unicode=True).rstrip()]
    for step, values in params.steps.items():
        lines += ["", f"{step}:"]
        for name, field in type(values).model_fields.items():
            value = value_to_yaml(getattr(values, name))
            lines.append(f"  {name}: {value}  # {expected(field)}; {field.description}")
    return "\n".join(lines) + "\n"


def value_to_yaml(value: Any) -> str:
    """A parameter's value in one line of YAML."""
    options: dict[str, Any] = {"default_flow_style": True, "width": 10_000}
    text = yaml.safe_dump(value, allow_unicode=True, **options)
    if "\x85" in text:  # a line break to YAML, which PyYAML does not quote
        text = yaml.safe_dump(value, allow_unicode=False, **options)
    return text.removesuffix("\n").removesuffix("\n...")


def find_step(name: str) -> str:
    """A step by its name, the beginning of its name (`03`), or its number (`3`).

    Raises:
        UserError: no such step, or more than one.
    """
    wanted = name.zfill(2) if name.isdigit() else name
    found = [step for step in CHAPTERS if step.startswith(wanted)]
    if len(found) != 1:
        raise UserError(f"no step {name!r}{nearest(name, CHAPTERS)}")
    return found[0]


def _apply_override(values: Values, override: str) -> list[str]:
    name, equals, text = override.partition("=")
    if not equals:
        return [f"-p {override}: expected name=value"]
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        return [f"-p {override}: the value is not readable YAML ({error})"]
    if "." not in name:
        return _set_everywhere(values, name, value)
    step, name = name.split(".", 1)
    try:
        values[find_step(step)][name] = value
    except UserError as error:
        return [f"-p {override}: {error}"]
    return []


def _set_everywhere(values: Values, name: str, value: Any) -> list[str]:
    holders = [step for step, schema in CHAPTERS.items() if name in schema.model_fields]
    if not holders:
        known = {field for schema in CHAPTERS.values() for field in schema.model_fields}
        hint = nearest(name, [*known, *CHAPTERS, "run"])
        return [f"{name}: no such step or parameter{hint}"]
    for step in holders:
        values[step][name] = value
    return []
