"""The data sets of a run as portions, each a stream of rows of the same columns.

What a data set is, and how its labels map to the three classes, is declared in the registry
(`lib.data.registry`), not here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.data import hub, local, readers
from lib.data.cleaning import strip_emoticons
from lib.data.registry import Role, Source, configured
from lib.errors import SourceUnavailable, UserError
from lib.files import digest, file_digest
from lib.parameters import GoldDataParams, nearest

COLUMNS = ["text", "label", "original_label", "source", "group", "role", "split", "left_out"]
"""text: raw; label: class or None; group: entry of the registry: its rows share an official test
split; role: gold or corpus; split: `test` if official; left_out: why a row is not used, or None."""
SAMPLE_DIR = Path(__file__).parent / "sample"
SAMPLE_FILES: list[tuple[Path, Role]] = [
    (SAMPLE_DIR / "gold.csv", "gold"),
    (SAMPLE_DIR / "corpus.csv", "corpus"),
]
Row = tuple[str | None, ...]
_WHOLE = re.compile(r"(\d+)[.,]0+")  # a spreadsheet's or a data frame's way to write 5


@dataclass(frozen=True)
class Portion:
    """A part of a data set that is read on its own.

    part: a file, or the name of a split on the hub.
    drop_unlabelled: leave out gold rows without a label; else they are corpus rows.
    """

    source: Source
    part: Path | str
    role: Role
    drop_unlabelled: bool = False

    def rows(self, commits: Path) -> Iterator[Row]:
        """Tuples of COLUMNS, the same at each call.

        Args:
            commits: see `lib.data.hub.commit`.
        Raises:
            SourceUnavailable: the hub cannot be reached.
            UserError: no row for the filters, a text that is none, or a label outside the mapping;
                with file and line, or source and column.
        """
        source, classes = self.source, self.source.classes
        if isinstance(self.part, Path):
            records = readers.read(self.part, source.columns, source.file_format)
            name = readers.stem(self.part.name)
        else:
            records, name = hub.read(source, self.part, commits), self.part
        passed = False
        try:
            for place, row in records:
                if any(str(row[name]) != value for name, value in source.filters.items()):
                    other = f"other {' or '.join(source.filters)}"
                    yield None, None, "", source.name, source.name, source.role, None, other
                    continue
                passed = True
                original, label = _label(source, classes, name, place, row)
                origin = source.name
                if source.says_origin:
                    origin = str(row.get("source") or name)
                    original = str(row.get("original_label") or original)
                role, split, left_out = self.role, None, None
                if label is None and role != "corpus":
                    # the rest of a test split is too near to the test to be used elsewhere
                    dropped = role == "test" or self.drop_unlabelled
                    role, left_out = "corpus", "unlabelled" if dropped else None
                elif role == "test":
                    role, split = "gold", "test"
                for text in _texts(source, place, row):
                    yield text, label, original, origin, source.name, role, split, left_out
            if not passed:
                wanted = f" with {source.filters}" if source.filters else ""
                raise UserError(f"{self.part} has no row{wanted}; see lib.data.registry")
        except UserError as error:
            raise type(error)(f"source {source.name!r}: {error}") from error


def portions(params: GoldDataParams) -> tuple[list[Portion], dict[str, str]]:
    """The files and splits of a run's sources, and the sources whose files are not there.

    Raises:
        UserError: an unknown source, or one that is listed twice; a missing file (with
            skip_unavailable only one of the user's own).
    """
    found, unavailable = [], {}
    sources = configured(params)
    for source in sources:
        parts: list[tuple[Path | str, Role]]
        if source.hub_id:
            parts = [(s, "test" if s == source.test_split else source.role) for s in source.splits]
        elif source.name == "sample":
            parts = [*SAMPLE_FILES]
        else:
            try:
                parts = [*local.files(params, source, [s for s in sources if s != source])]
            except SourceUnavailable as error:
                if not params.skip_unavailable:
                    raise
                parts, unavailable[source.name] = [], str(error)
        drop = params.unlabelled_gold == "drop"
        found += [Portion(source, part, role, drop) for part, role in parts]
    return found, unavailable


def check(params: GoldDataParams) -> None:
    """Raises UserError for what can be known to be wrong before anything is read."""
    portions(params)


def fingerprint(params: GoldDataParams) -> dict[str, str]:
    """What the sources hold: digests of files, revisions on the hub, and their registry entries.

    Raises:
        UserError: see `portions`.
    """
    found, unavailable = portions(params)
    contents = {f"{s.name} (registry)": digest(s.model_dump()) for s in configured(params)}
    contents |= dict.fromkeys(unavailable, "unavailable")
    for portion in found:
        if isinstance(portion.part, Path):
            contents[f"{portion.part.name} ({portion.role})"] = file_digest(portion.part)
        else:
            contents[portion.source.name] = portion.source.place
    return contents


def _label(
    source: Source, classes: dict[str, str | None], name: str, place: str, row: dict[str, Any]
) -> tuple[str, str | None]:
    """The original label as text, and its class."""
    if source.label_is_file:
        value = name
    elif source.label_column:
        value = row[source.label_column]
    else:
        return "", None
    original = "" if value is None else str(value)
    key = original.strip().lower()
    if key not in classes and (whole := _WHOLE.fullmatch(key)):
        original = key = whole[1]
    if key in classes:
        return original, classes[key]
    names = [name for name in classes if name]
    raise UserError(
        f"{place}, column {source.label_column}: unknown label {original!r}; expected "
        f"{', '.join(names)}{' or nothing' if '' in classes else ''}{nearest(key, names)}; correct "
        "the label, or the entry in lib.data.registry"
    )


def _texts(source: Source, place: str, row: dict[str, Any]) -> Iterator[str]:
    """The texts of a row: one per text column (more if it is a list), or all columns joined."""
    parts = []
    for column in source.text_columns:
        value = row[column]
        for text in value if isinstance(value, list) else [value]:
            if not isinstance(text, str | None):
                kind = type(text).__name__
                raise UserError(f"{place}, column {column}: expected a text, found {kind}")
            parts.append(text or "")
    for text in ["\n".join(filter(str.strip, parts))] if source.joined else parts:
        yield strip_emoticons(text) if source.emoticon_labels else text
