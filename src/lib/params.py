"""Parameter files: reading, overriding, validating and printing them.

A parameter file has one section per step and, above them, values for all steps: a value at the
top level (`seed: 0`) goes to every step that has a parameter of that name; a section's own value
wins. Defaults are the original report's values. Everything is validated once, before a run starts.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from lib.errors import UserError
from lib.schema import STEPS, StepParams


class _Loader(yaml.SafeLoader):
    """YAML 1.1 takes 1e-4 for a text; people mean the number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


@dataclass(frozen=True)
class RunParams:
    """One validated parameter file: the run's name (its folder in outputs/) and all steps.

    `rounds` is how often steps 03 to 05 run at most, see `lib.rounds`.
    """

    run: str
    steps: dict[str, StepParams]
    rounds: int = 1


MAX_ROUNDS = 5
ROUNDS_HELP = (
    f"a whole number >= 1 and <= {MAX_ROUNDS}; how often 03 to 05 run, the final model of one "
    "round labels the corpus for the next, while validation improves"
)


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
    values: dict[str, dict[str, Any]] = {step: {} for step in STEPS}
    sections = {key: value for key, value in content.items() if key in STEPS}
    common = {key: value for key, value in content.items() if key not in STEPS}
    names, overrides = _take("run", overrides)
    run = str([common.pop("run", default_run), *names][-1])
    counts, overrides = _take("rounds", overrides)
    rounds = [common.pop("rounds", 1), *(int(t) if t.isdecimal() else t for t in counts)][-1]
    if type(rounds) is not int or not 1 <= rounds <= MAX_ROUNDS:
        problems.append(f"rounds: expected {ROUNDS_HELP.split(';')[0]}, got {rounds!r}")
    if not run.replace("-", "").replace("_", "").replace(".", "").isalnum() or run[0] == ".":
        problems.append(f"run: {run!r} is not a folder name; use letters, digits, '-', '_' and '.'")
    for name, value in common.items():
        problems += _set_everywhere(values, str(name), value)
    for step, section in sections.items():
        if not isinstance(section or {}, dict):
            problems.append(f"{step}: expected `name: value` lines, got {section!r}")
            continue
        for name, value in (section or {}).items():
            problems += _set(values, step, str(name), value)
    for override in overrides:
        problems += _apply_override(values, override)
    steps = {}
    for step, given in values.items():
        known = {name: value for name, value in given.items() if name in STEPS[step].model_fields}
        try:
            steps[step] = STEPS[step](**known)
        except ValidationError as error:
            problems += [_explain(step, detail, STEPS[step]) for detail in error.errors()]
    if problems:
        problems = list(dict.fromkeys(problems))
        raise UserError("invalid parameters:\n" + "\n".join(f"  {line}" for line in problems))
    return RunParams(run, steps, rounds)


def from_cell(step: str, variables: dict[str, Any]) -> StepParams:
    """The validated parameters of a notebook: its `parameters` cell's variables.

    Args:
        step: the step's name.
        variables: `globals()` of the notebook; names that are no parameters are ignored.
    """
    names = STEPS[step].model_fields
    given = {name: variables[name] for name in names if name in variables}
    return resolve({step: given}, []).steps[step]


def to_yaml(params: RunParams) -> str:
    """The complete parameters as YAML, each with its description and bounds as a comment."""
    lines = [yaml.safe_dump({"run": params.run}, allow_unicode=True).rstrip()]
    lines.append(f"rounds: {params.rounds}  # {ROUNDS_HELP}")
    for step, values in params.steps.items():
        lines += ["", f"{step}:"]
        for name, field in type(values).model_fields.items():
            value = value_to_yaml(getattr(values, name))
            lines.append(f"  {name}: {value}  # {_expected(field)}; {field.description}")
    return "\n".join(lines) + "\n"


def value_to_yaml(value: Any) -> str:
    """A parameter's value in one line of YAML."""
    options = {"default_flow_style": True, "width": 10_000}
    text = yaml.safe_dump(value, allow_unicode=True, **options)
    if "\x85" in text:  # a line break to YAML, which PyYAML does not quote
        text = yaml.safe_dump(value, allow_unicode=False, **options)
    return text.removesuffix("\n").removesuffix("\n...")


def _take(name: str, overrides: list[str]) -> tuple[list[str], list[str]]:
    """The values given to a parameter of the run itself, and all other overrides."""
    own = [text for text in overrides if text.startswith(f"{name}=")]
    return [text.split("=", 1)[1] for text in own], [text for text in overrides if text not in own]


def _apply_override(values: dict[str, dict[str, Any]], override: str) -> list[str]:
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
    matching = [known for known in STEPS if known == step or known.startswith(step + "_")]
    if len(matching) != 1:
        return [f"-p {override}: no step {step!r}{_nearest(step, STEPS)}"]
    return _set(values, matching[0], name, value)


def _set_everywhere(values: dict[str, dict[str, Any]], name: str, value: Any) -> list[str]:
    holders = [step for step, schema in STEPS.items() if name in schema.model_fields]
    if not holders:
        known = {field for schema in STEPS.values() for field in schema.model_fields}
        return [
            f"{name}: no such step or parameter{_nearest(name, [*known, *STEPS, 'run', 'rounds'])}"
        ]
    for step in holders:
        values[step][name] = value
    return []


def _set(values: dict[str, dict[str, Any]], step: str, name: str, value: Any) -> list[str]:
    if name not in STEPS[step].model_fields:
        hint = _nearest(name, STEPS[step].model_fields)
        return [f"{step}.{name}: no such parameter (given: {value!r}){hint}"]
    values[step][name] = value
    return []


def _nearest(name: str, known: Any) -> str:
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.0)
    return f"; the nearest valid name is {found[0]!r}" if found else ""


def _explain(step: str, detail: dict[str, Any], schema: type[StepParams]) -> str:
    name = str(detail["loc"][0])
    place = f"{step}.{name}" + "".join(f"[{part}]" for part in detail["loc"][1:] if part != "float")
    expected = _expected(schema.model_fields[name])
    given = detail["input"]
    choices = get_args(schema.model_fields[name].annotation)
    hint = ""
    if detail["type"] == "literal_error" and isinstance(given, str):
        hint = _nearest(given, choices)
    return f"{place}: expected {expected}, got {given!r}{hint}"


def _expected(field: FieldInfo) -> str:
    """Type and bounds of a parameter in words."""
    return _type_in_words(field.annotation) + _bounds(field.metadata)


def _type_in_words(annotation: Any) -> str:
    if get_origin(annotation) is Annotated:
        kind, *metadata = get_args(annotation)
        inner = [m for part in metadata for m in getattr(part, "metadata", [part])]
        return _type_in_words(kind) + _bounds(inner)
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(map(str, get_args(annotation)))
    if get_origin(annotation) is list:
        return f"a list of ({_type_in_words(get_args(annotation)[0])})"
    names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    if annotation in names:
        return names[annotation]
    return " or ".join("null" if a is type(None) else names[a] for a in get_args(annotation))


def _bounds(metadata: list[Any]) -> str:
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<", "min_length": "length >="}
    parts = [
        f"{sign} {getattr(part, name)}"
        for part in metadata
        for name, sign in signs.items()
        if getattr(part, name, None) is not None
    ]
    return " " + " and ".join(parts) if parts else ""
