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
    """Takes 1e-4 for a number, as people mean it, and no name twice, which one of them loses."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key} is there twice", node.start_mark
                )
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes the texts that `_Loader` would take for numbers."""


_NUMBER = re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")
for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver("tag:yaml.org,2002:float", _NUMBER, list("-+.0123456789"))


@dataclass(frozen=True)
class RunParams:
    """One validated parameter file: the run's name (its folder in outputs/), and its steps."""

    run: str
    steps: dict[str, StepParams]


def load(path: Path | str, overrides: list[str] | None = None) -> RunParams:
    """Read, override and validate a parameter file.

    Args:
        path: the YAML file.
        overrides: `step.name=value` or `name=value` (every step that has it); values are YAML,
            but a delimiter is taken as it is.
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
    settings = [(str(key), value) for key, value in content.items() if key not in CHAPTERS]
    for step in CHAPTERS:
        section = content.get(step) or {}
        if isinstance(section, dict):
            settings += [(f"{step}.{name}", value) for name, value in section.items()]
        else:
            problems.append(f"{step}: expected `name: value` lines, got {section!r}")
    for override in overrides:
        try:
            settings.append(_parse(override))
        except ValueError as error:
            problems.append(f"-p {override}: {error}")
    run = default_run
    values: dict[str, dict[str, Any]] = {step: {} for step in CHAPTERS}
    for name, value in settings:  # the later one wins
        if name == "run":
            run = str(value)
        else:
            problems += _set(values, name, value)
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
    lines = [f"run: {value_to_yaml(params.run)}"]
    for step, values in params.steps.items():
        lines += ["", f"{step}:"]
        for name, field in type(values).model_fields.items():
            value = value_to_yaml(getattr(values, name))
            bounds = expected(type(values), name)
            lines.append(f"  {name}: {value}  # {bounds}; {field.description}")
    return "\n".join(lines) + "\n"


def value_to_yaml(value: Any) -> str:
    """A parameter's value in one line of YAML."""
    options: dict[str, Any] = {"Dumper": _Dumper, "default_flow_style": True, "width": 10_000}
    text = yaml.dump(value, allow_unicode=True, **options)
    if "\x85" in text:  # a line break to YAML, which PyYAML does not quote
        text = yaml.dump(value, allow_unicode=False, **options)
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


def _parse(override: str) -> tuple[str, Any]:
    name, equals, text = override.partition("=")
    if not equals:
        raise ValueError("expected name=value")
    plain = name == "run" or (
        name.rpartition(".")[2] == "delimiter" and not re.fullmatch(r"""|null|(['"]).*\1""", text)
    )
    try:
        return name, text if plain else yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"the value is not readable YAML ({error})") from error


def _set(values: dict[str, dict[str, Any]], name: str, value: Any) -> list[str]:
    """Set `step.name`, or `name` in every step that has it; returns what is wrong."""
    section, dot, own = name.partition(".")
    if dot:
        try:
            values[find_step(section)][own] = value
        except UserError as error:
            return [f"{name}: {error}"]
        return []
    holders = [step for step, schema in CHAPTERS.items() if name in schema.model_fields]
    if not holders:
        known = {field for schema in CHAPTERS.values() for field in schema.model_fields}
        hint = nearest(name, [*known, *CHAPTERS, "run"])
        return [f"{name}: no such step or parameter{hint}"]
    for step in holders:
        values[step][name] = value
    return []
