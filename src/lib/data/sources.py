"""Where the rows of a run come from: its sources as portions, each a file or a split on the hub.

What a data set is, and how its labels map to the three classes, is declared in the registry
(`lib.data.registry`); how a file is read is in `lib.data.readers`.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.data import hub, readers
from lib.data.cleaning import clean
from lib.data.registry import ROLES, Role, Source, configured
from lib.errors import UserError
from lib.files import digest, file_digest
from lib.parameters import GoldDataParams, nearest

COLUMNS = ["text", "label", "original_label", "source", "group", "role", "split"]
"""text: raw; label: class or None; group: entry of the registry: its rows share an official test
split; role: gold, corpus, or `unlabelled` for a row that is left out; split: `test` if official."""
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
            UserError: the hub cannot be reached, no row for the filters, a text that is none, or a
                label outside the mapping; with file and line, or source and column.
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
                if any(str(row[column]) != value for column, value in source.filters.items()):
                    continue
                passed = True
                original, label = _label(source, classes, place, row)
                origin = source.name
                if source.says_origin:
                    origin = _given(row, "source") or name
                    original = _given(row, "original_label") or original
                role: str = self.role
                split = None
                if label is None and role != "corpus":
                    # the rest of a test split is too near to the test to be used elsewhere
                    unused = role == "test" or self.drop_unlabelled
                    role = "unlabelled" if unused else "corpus"
                elif role == "test":
                    role, split = "gold", "test"
                for text in _texts(source, place, row):
                    yield text, label, original, origin, source.name, role, split
            if not passed:
                wanted = f" with {source.filters}" if source.filters else ""
                raise UserError(f"{self.part} has no row{wanted}; see lib.data.registry")
        except UserError as error:
            raise UserError(f"source {source.name!r}: {error}") from error


def portions(params: GoldDataParams) -> list[Portion]:
    """The files and splits of a run's sources.

    Raises:
        UserError: an unknown source, or one that is listed twice; a missing file.
    """
    found = []
    sources = configured(params)
    for source in sources:
        parts: list[tuple[Path | str, Role]]
        if source.hub_id:
            parts = [(s, "test" if s == source.test_split else source.role) for s in source.splits]
        elif source.name == "sample":
            parts = [*SAMPLE_FILES]
        else:
            parts = [*local_files(params, source, [s for s in sources if s != source])]
        drop = params.unlabelled_gold == "drop"
        found += [Portion(source, part, role, drop) for part, role in parts]
    return found


def fingerprint(params: GoldDataParams) -> dict[str, str]:
    """What the sources hold: digests of files, revisions on the hub, and their registry entries.

    Raises:
        UserError: see `portions`.
    """
    contents = {f"{s.name} (registry)": digest(s.model_dump()) for s in configured(params)}
    for portion in portions(params):
        source, part = portion.source, portion.part
        if isinstance(part, Path):
            contents[f"{source.name}: {part.name} ({portion.role})"] = file_digest(part)
        else:
            contents[source.name] = source.place
    return contents


def local_files(
    params: GoldDataParams, source: Source, others: Iterable[Source] = ()
) -> list[tuple[Path, Role]]:
    """The files of data_dir that a source reads with their roles, in the order of their names.

    A file takes the first of ROLES that names it in full; else the first, one of whose patterns
    matches. Names need not say `.gz`; names that begin with a dot are other programs' business.

    Args:
        others: the run's other sources; files that they declare are theirs.
    Raises:
        UserError: no data_dir, a named file that is not there or is there twice, packed and
            unpacked, or no gold file among the user's own.
    """
    patterns = source.files or {role: getattr(params, f"{role}_files") for role in ROLES}
    wanted = [(pattern, role) for role in ROLES for pattern in patterns.get(role, ())]
    folder = Path(params.data_dir or "").expanduser()
    if not params.data_dir or not folder.is_dir():
        raise UserError(
            f"01_gold_data.data_dir: {params.data_dir or 'nothing'} is not a folder; the source "
            f"{source.name!r} reads its files from there: name one with -p data_dir=FOLDER"
        )
    names = sorted(p.name for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    if not source.file_format:
        names = [name for name in names if readers.is_readable(name)]
    if not source.files:
        taken = [p for other in others for given in other.files.values() for p in given]
        names = [name for name in names if not any(_matches(name, p) for p in taken)]
    found: dict[str, Role] = {}
    absent = []
    for pattern, role in sorted(wanted, key=lambda each: _is_pattern(each[0])):
        mine = [name for name in names if _matches(name, pattern)]
        found |= {name: found.get(name, role) for name in mine}
        if not mine and (source.files or not _is_pattern(pattern)):
            absent.append(pattern)
    if not source.files and "gold" not in found.values():
        absent += [pattern for pattern in params.gold_files if pattern not in absent]
    if absent:
        raise UserError(
            f"01_gold_data.data_dir: source {source.name!r} finds no {' and no '.join(absent)} in "
            f"{folder}; files there that it may read: {', '.join(names) or 'none'} (formats: "
            f"{', '.join(readers.FORMATS)}). "
            + (
                f"Fetch them ({source.citation}), or remove the source from 01_gold_data.sources"
                if source.files
                else "Rename the files, or name them: gold_files, test_files, corpus_files"
            )
        )
    for name in found:
        if f"{name}.gz" in found:
            raise UserError(f"{folder} has {name} and {name}.gz; remove one of them")
    return [(folder / name, found[name]) for name in sorted(found)]


def _matches(name: str, pattern: str) -> bool:
    names = name, name.removesuffix(".gz")
    return pattern in names or any(fnmatch.fnmatchcase(n, pattern) for n in names)


def _is_pattern(name: str) -> bool:
    return bool(set(name) & set("*?["))


def _given(row: dict[str, Any], column: str) -> str:
    """What a row says in a column that not every file has; empty if it says nothing."""
    value = row.get(column)
    return "" if value is None else clean(str(value))


def _label(
    source: Source, classes: dict[str, str | None], place: str, row: dict[str, Any]
) -> tuple[str, str | None]:
    """The original label as text, and its class."""
    if not source.label_column:
        return "", None
    value = row[source.label_column]
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


def _texts(source: Source, place: str, row: dict[str, Any]) -> list[str]:
    """The texts of a row: one per text column (more if it is a list), or all columns joined."""
    texts = []
    for column in source.text_columns:
        value = row[column]
        for text in value if isinstance(value, list) else [value]:
            if not isinstance(text, str | None):
                kind = type(text).__name__
                raise UserError(f"{place}, column {column}: expected a text, found {kind}")
            texts.append(text or "")
    return ["\n".join(filter(str.strip, texts))] if source.joined else texts
