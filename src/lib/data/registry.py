"""The data sets that a run may name in `sources`, declared in `registry.yaml`.

Only the entries that a run uses count for its fingerprint, so a new one repeats no step.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict

from lib.data.readers import Format
from lib.errors import UserError
from lib.parameters import GoldDataParams, nearest

Role = Literal["test", "gold", "corpus"]
ROLES: tuple[Role, ...] = get_args(Role)
NOTHING = ("", "nan", "none", "null")
"""No label, in the user's own files."""
Labels = dict[Literal["negative", "neutral", "positive", "none"], tuple[str, ...]]
_WHOLE = re.compile(r"([-+]?\d+)(?:[.,]0+)?")  # 5.0: a spreadsheet's or a data frame's way


class Source(BaseModel):
    """One data set; `registry.yaml` says what each field means."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    name: str
    role: Role
    hub_id: str = ""
    revision: str | None = None
    config: str | None = None
    splits: tuple[str, ...] = ("train",)
    test_split: str | None = None
    files: dict[Role, tuple[str, ...]] = {}
    file_format: Format | None = None
    text_columns: tuple[str, ...] = ("text",)
    joined: bool = False
    label_column: str | None = None
    says_origin: bool = False
    origin_column: str = "source"
    labels: Labels = {}
    label_choices: dict[str, Labels] = {}
    filters: dict[str, str] = {}
    russian: bool = True
    licence: str = "not stated"
    citation: str

    @property
    def columns(self) -> list[str]:
        """The columns that must be there."""
        others = [self.label_column] if self.label_column else []
        others += [self.origin_column] if self.origin_column != "source" else []
        return list(dict.fromkeys([*self.text_columns, *others, *self.filters]))

    @property
    def classes(self) -> dict[str, str | None]:
        """Original label in lower case -> class, or None."""
        return classes_of(self.labels)

    @property
    def place(self) -> str:
        """Where it is, in words; for the hub its id and revision."""
        if self.hub_id:
            return f"{self.hub_id}@{self.revision or 'newest'}"
        return "this package" if self.name == "sample" else "files in data_dir"


_FILE = Path(__file__).with_name("registry.yaml")
_ENTRIES = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
REGISTRY = {name: Source(name=name, **entry) for name, entry in _ENTRIES.items()}


def configured(params: GoldDataParams) -> list[Source]:
    """The entries that a run uses, in its order, with its labels.

    Raises:
        UserError: an unknown source, or one that is listed twice; a label that the mapping of the
            user's own files has in two classes.
    """
    found = []
    for name in params.sources:
        if name not in REGISTRY:
            raise UserError(
                f"01_gold_data.sources: no source {name!r}{nearest(name, REGISTRY)}, all names: "
                f"{', '.join(REGISTRY)}"
            )
        if params.sources.count(name) > 1:
            raise UserError(f"01_gold_data.sources: {name} is listed twice")
        entry = REGISTRY[name]
        found.append(_local(entry, params) if name == "local" else entry)
    return found


def classes_of(labels: Labels) -> dict[str, str | None]:
    """Original label in lower case -> class, or None."""
    return {
        original.strip().lower(): None if name == "none" else name
        for name, originals in sorted(labels.items(), key=lambda item: item[0] != "none")
        for original in originals
    }


def plain_label(value: Any) -> str:
    """An original label as mappings have it: in lower case, 5.0 as 5, the minus sign of ASCII."""
    key = "" if value is None else str(value).strip().lower().replace("\u2212", "-")
    whole = _WHOLE.fullmatch(key)
    return whole[1].removeprefix("+") if whole else key


def _by_hand(given: dict[Any, list[str]]) -> Labels:
    """The labels of a mapping by hand as `plain_label` has those of the files."""
    found = {name: tuple({plain_label(one): None for one in given[name]}) for name in given}
    every = [label for labels in found.values() for label in labels]
    if twice := sorted({label for label in every if every.count(label) > 1}):
        raise UserError(
            f"01_gold_data.local_labels: {', '.join(map(repr, twice))} in two classes; case does "
            "not count, and 1.0 is 1"
        )
    return found


def _local(entry: Source, params: GoldDataParams) -> Source:
    """The entry of the user's own files, as the parameters say that they are."""
    given = params.local_labels
    known: dict[str, Any] = (
        {"mapping": _by_hand(given)} if isinstance(given, dict) else entry.label_choices
    )
    choices = {
        name: labels | {"none": (*NOTHING, *labels.get("none", ()))}
        for name, labels in known.items()
        if given in ("auto", name) or isinstance(given, dict)
    }
    return entry.model_copy(
        update={
            "text_columns": (params.text_column,),
            "label_column": params.label_column,
            "origin_column": params.source_column,
            "file_format": Format(delimiter=params.delimiter, encoding=params.encoding),
            "label_choices": choices,
            "labels": {} if len(choices) > 1 else next(iter(choices.values())),
        }
    )
