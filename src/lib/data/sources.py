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
from lib.data.encodings import unpacked
from lib.data.registry import NOTHING, ROLES, Role, Source, configured, plain_label
from lib.data.spreadsheets import split_sheet, workbook
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
MOST_NAMES = 20  # of files in a message


@dataclass(frozen=True)
class Portion:
    """A part of a data set that is read on its own.

    part: a file, or the name of a split on the hub; name: in data_dir.
    drop_unlabelled: leave out gold rows without a label; else they are corpus rows.
    """

    source: Source
    part: Path | str
    role: Role
    drop_unlabelled: bool = False
    name: str = ""

    def rows(self, commits: Path) -> Iterator[Row]:
        """Tuples of COLUMNS, the same at each call.

        Args:
            commits: see `lib.data.hub.commit`.
        Raises:
            UserError: the hub cannot be reached, no row for the filters, a text that is none, or a
                label outside the mapping; with file and line, or source and column.
        """
        source, classes = self.source, self.source.classes
        passed = False
        try:
            for place, row in self.records(commits):
                passed = True
                original, label = _label(source, classes, place, row)
                origin = source.name
                if source.says_origin:
                    origin = _given(row, source.origin_column) or clean(readers.stem(self.name))
                    original = _given(row, "original_label") or original
                role, split = self.place_of(label is not None)
                for text in texts_of(source, place, row):
                    yield text, label, original, origin, source.name, role, split
            if not passed:
                wanted = f" with {source.filters}" if source.filters else ""
                raise UserError(f"{self.part} has no row{wanted}; see lib.data.registry")
        except UserError as error:
            raise UserError(f"source {source.name!r}: {error}") from error

    def place_of(self, labelled: bool) -> tuple[str, str | None]:
        """Role and split of a row with or without a label; see COLUMNS."""
        if self.role == "corpus" or (labelled and self.role == "gold"):
            return self.role, None
        if labelled:
            return "gold", "test"
        # the rest of a test split is too near to the test to be used elsewhere
        unused = self.role == "test" or self.drop_unlabelled
        return "unlabelled" if unused else "corpus", None

    @property
    def needed(self) -> list[str]:
        """The columns that must be there: corpus files of the user's own may have no labels."""
        columns = self.source.columns
        if self.source.label_choices and self.role == "corpus":
            columns = [name for name in columns if name != self.source.label_column]
        return columns

    def records(self, commits: Path) -> readers.Rows:
        """Place and values of each row that passes the filters."""
        source = self.source
        if isinstance(self.part, Path):
            optional = [source.label_column or "", source.origin_column, "original_label"]
            rows = readers.read(self.part, self.needed, source.file_format, optional=optional)
        else:
            rows = hub.read(source, self.part, commits)
        for place, row in rows:
            if all(str(row[column]) == value for column, value in source.filters.items()):
                yield place, row


def portions(params: GoldDataParams) -> list[Portion]:
    """The files and splits of a run's sources.

    Raises:
        UserError: an unknown source, or one that is listed twice; a missing file.
    """
    found = []
    sources = configured(params)
    for source in sources:
        parts: list[tuple[Path | str, str, Role]]
        if source.hub_id:
            test = source.test_split
            parts = [(s, s, "test" if s == test else source.role) for s in source.splits]
        elif source.name == "sample":
            parts = [(path, path.name, role) for path, role in SAMPLE_FILES]
        else:
            files = local_files(params, source, [s for s in sources if s != source])
            parts = [(_folder(params) / name, name, role) for name, role in files.items()]
        drop = params.unlabelled_gold == "drop"
        found += [Portion(source, part, role, drop, name) for part, name, role in parts]
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
            file, _ = split_sheet(part)
            contents[f"{source.name}: {portion.name} ({portion.role})"] = file_digest(file)
        else:
            contents[source.name] = source.place
    return contents


def local_files(
    params: GoldDataParams, source: Source, others: Iterable[Source] = ()
) -> dict[str, Role]:
    """The files of data_dir that a source reads with their roles, in the order of their names.

    A file takes the first of ROLES that names it in full; else the first, one of whose patterns
    matches. Names need not say `.gz` or `.zip`; names that begin with a dot are other programs'
    business. `FILE.xlsx:SHEET` is a sheet; then the file's other sheets are not read.

    Args:
        others: the run's other sources; files that they declare are theirs.
    Raises:
        UserError: no data_dir, a named file that is not there or is there twice, packed and
            unpacked, or no gold file among the user's own.
    """
    patterns = source.files or {role: getattr(params, f"{role}_files") for role in ROLES}
    wanted = [(pattern, role) for role in ROLES for pattern in patterns.get(role, ())]
    folder = _folder(params)
    if not params.data_dir or not folder.is_dir():
        raise UserError(
            f"01_gold_data.data_dir: {params.data_dir or 'nothing'} is not a folder; the source "
            f"{source.name!r} reads its files from there: name one with -p data_dir=FOLDER"
        )
    there = _listed(folder, [pattern for pattern, _ in wanted])
    every = bool(source.files and source.file_format)  # else the extension says how to read it
    names = [n for n in there if (every or readers.is_readable(n)) and not n.endswith("/")]
    if not source.files:
        taken = [p for other in others for given in other.files.values() for p in given]
        names = [name for name in names if not any(_matches(name, p) for p in taken)]
    found: dict[str, Role] = {}
    absent = []
    for pattern, role in sorted(wanted, key=lambda each: _is_pattern(each[0])):
        file, sheet = split_sheet(Path(pattern))
        mine = [name for name in names if _matches(name, file.as_posix())]
        if sheet:
            mine = [f"{name}:{sheet}" for name in mine]
        found |= {name: found.get(name, role) for name in mine}
        if not mine and (source.files or not _is_pattern(pattern)):
            absent.append(pattern)
    if not source.files and "gold" not in found.values():
        absent += [pattern for pattern in params.gold_files if pattern not in absent]
    if absent:
        rest = [name for name in there if name not in names]
        raise UserError(
            f"01_gold_data.data_dir: source {source.name!r} finds no {' and no '.join(absent)} in "
            f"{folder}; files there that it may read: {shortened(names) or 'none'} (formats: "
            f"{', '.join(readers.FORMATS)}){'; others: ' if rest else ''}{shortened(rest)}. "
            + (
                f"Fetch them ({source.citation}), or remove the source from 01_gold_data.sources"
                if source.files
                else "Rename the files, or name them: gold_files, test_files, corpus_files (**/ "
                "looks into subfolders)"
            )
        )
    for name in found:
        if unpacked(name) != name and unpacked(name) in found:
            raise UserError(f"{folder} has {unpacked(name)} and {name}; remove one of them")
    sheets = {name.rpartition(":")[0] for name in found}
    return {name: found[name] for name in sorted(found) if name not in sheets}


def left_out(params: GoldDataParams, found: Iterable[Portion]) -> list[str]:
    """What is in data_dir and is not read: files, folders, sheets."""
    if not params.data_dir or not _folder(params).is_dir():  # no source that needs it
        return []
    read = {p.name for p in found if isinstance(p.part, Path) and p.source.name != "sample"}
    patterns = [*params.gold_files, *params.test_files, *params.corpus_files]
    rest = []
    for name in _listed(_folder(params), patterns):
        sheets = [name]
        if any(one == name or one.startswith(f"{name}:") for one in read):
            if readers.extension(name) != "xlsx":
                continue
            with workbook(_folder(params) / name) as book:
                sheets = [f"{name}:{sheet}" for sheet in [*book][int(name in read) :]]
        rest += [one for one in sheets if one not in read]
    return rest


def shortened(names: list[str]) -> str:
    """Names for a message, at most MOST_NAMES of them."""
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _folder(params: GoldDataParams) -> Path:
    return Path(params.data_dir or "").expanduser()


def _listed(folder: Path, patterns: Iterable[str]) -> list[str]:
    """Files of a folder, and its folders as `NAME/`; those inside only if a pattern has a `/`."""
    deep = any("/" in pattern for pattern in patterns)
    paths = sorted(folder.rglob("*") if deep else folder.iterdir())
    for path in paths:
        if re.search(r"[\ud800-\udfff]", path.name):
            raise UserError(f"{folder}: the name {path.name!r} is not UTF-8; rename it")
    found = [(path, path.relative_to(folder)) for path in paths]
    return [
        f"{name.as_posix()}{'' if path.is_file() else '/'}"
        for path, name in found
        if not any(part.startswith(".") for part in name.parts) and (path.is_file() or not deep)
    ]


def _matches(name: str, pattern: str) -> bool:
    """Whether a pattern is this name; `*` stays within a folder, `**/` is any folders or none."""
    rest = pattern.removeprefix("**/")
    parts, size = name.split("/"), rest.count("/") + 1
    if len(parts) < size or (len(parts) > size and rest == pattern):
        return False
    tail = "/".join(parts[-size:])
    names = tail, unpacked(tail)
    return rest in names or any(fnmatch.fnmatchcase(n, rest) for n in names)


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
    if not source.label_column or (source.label_choices and source.label_column not in row):
        return "", None
    value = row[source.label_column]
    original, plain = "" if value is None else str(value), plain_label(value)
    key = original.strip().lower()
    if key not in classes and plain != key:
        original = key = plain
    if key in classes:
        return original, classes[key]
    names = [name for name in classes if name and name not in NOTHING]
    raise UserError(
        f"{place}, column {source.label_column}: unknown label {original!r}; expected "
        f"{', '.join(names)}{' or nothing' if '' in classes else ''}{nearest(key, names)}; correct "
        f"the label, or {'local_labels' if source.label_choices else 'its lib.data.registry entry'}"
    )


def texts_of(source: Source, place: str, row: dict[str, Any]) -> list[str]:
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
