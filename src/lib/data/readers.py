"""File formats, each as a stream of rows: delimited text, JSON, plain lines, Parquet, spreadsheets.

A row has its place ("FILE, line 7") for messages; a broken one says what is wrong with it, and who
reads decides (`read` stops there, `python -m lib predict` may go on). Files are never read whole:
memory does not grow with their size, only with a spreadsheet's distinct texts. Text formats may be
packed with gzip or zip; their encoding and delimiter are detected.
"""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import pyarrow
from pyarrow import parquet

from lib.data import encodings
from lib.data.encodings import BLOCK, opened, undecoded, unpacked
from lib.data.spreadsheets import sheet_rows, split_sheet
from lib.errors import UserError

Rows = Iterator[tuple[str, dict[str, Any]]]

DELIMITERS = {"csv": ",", "tsv": "\t"}
FORMATS = ("csv", "tsv", "jsonl", "json", "parquet", "xlsx")
BATCH = 1000  # rows that are decoded at once from a parquet file
LONGEST = 10_000_000  # characters of a field, or of an element of a JSON array
_BETWEEN = " \t\r\n,"  # elements of a JSON array

csv.field_size_limit(LONGEST)


@dataclass(frozen=True)
class Format:
    """How a file is written, where its name and its content do not say it.

    columns: csv: their names, for files without a header line. Such files are taken as they are:
        last columns may be missing, and a stray quotation mark is part of the text.
    delimiter, encoding: None: detected.
    """

    kind: Literal["csv", "lines"] | None = None
    delimiter: str | None = None
    columns: tuple[str, ...] = ()
    encoding: str | None = None


class Row(NamedTuple):
    """values: column -> value; content: the fields, or a broken row as its file has it."""

    place: str
    values: dict[str, Any]
    content: Any = None
    problem: str | None = None


class MissingColumn(UserError):
    """A file has not these columns, or twice; found: those that it has."""

    columns: Sequence[str] = ()
    found: Sequence[str] = ()


def extension(name: str) -> str:
    """The extension without packing and sheet, lower case: `a.CSV.gz` -> `csv`."""
    file, _ = split_sheet(Path(unpacked(name)))
    return file.suffix.removeprefix(".").lower()


def stem(name: str) -> str:
    """The name without extension and packing, but with its sheet: `a.csv.gz` -> `a`."""
    file, sheet = split_sheet(Path(unpacked(name)))
    return f"{file.with_suffix('')}{f':{sheet}' if sheet else ''}"


def is_readable(name: str) -> bool:
    """Whether the name says that the file has one of FORMATS."""
    kind = extension(name)
    return kind in FORMATS and not (kind in ("parquet", "xlsx") and name != unpacked(name))


def read(
    path: Path,
    needed: Sequence[str],
    file_format: Format | None = None,
    *,
    optional: Sequence[str] = (),
    may_be_empty: bool = False,
) -> Rows:
    """Stream the rows of a file, each as place and values; see `rows`.

    Args:
        may_be_empty: else a file without rows is an error.
    Raises:
        MissingColumn: also if the first object of a JSON file has not a needed column.
        UserError: also for the first broken row, naming file, line (parquet: row) and column.
    """
    place = ""
    for row in rows(path, needed, file_format, optional=optional):
        if row.problem and not place and isinstance(row.content, dict):  # of JSON
            check_columns(row.place, needed, [*row.content])
        place, values, _, problem = row
        if problem:
            raise UserError(f"{place}: {problem}")
        yield place, values
    if not place and not may_be_empty:
        raise UserError(f"{path} has no rows; add rows or remove the file")


def rows(
    path: Path,
    needed: Sequence[str],
    file_format: Format | None = None,
    *,
    optional: Sequence[str] = (),
) -> Iterator[Row]:
    """Stream the rows of a file, broken ones with their problem.

    Args:
        path: may end in `.xlsx:SHEET`.
        needed: columns that must be there.
        optional: columns that are read if they are there; others may be left out.
    Yields:
        rows; values are text, except in JSON and Parquet.
    Raises:
        MissingColumn: a needed column is not there.
        UserError: the file cannot be read, or not any further.
    """
    count = 0
    try:
        for count, row in enumerate(_rows(path, needed, file_format, optional), 1):  # noqa: B007
            yield row
    except UnicodeError as error:  # of UTF-16 only: elsewhere a bad byte breaks its row
        raise UserError(f"{path}: not readable after row {count} ({error})") from error
    except PermissionError as error:
        raise UserError(f"{path}: this user may not read it; give the rights to it") from error
    except (
        *(pyarrow.ArrowException, OSError, EOFError, zlib.error, zipfile.BadZipFile),
        RuntimeError,  # a zip file with a password
    ) as error:
        reason = (str(error).splitlines() or ["no message"])[0][:200]
        raise UserError(
            f"{path}: not readable after row {count} ({reason}); the file is truncated or damaged: "
            "fetch or write it again"
        ) from error


def _rows(
    path: Path, needed: Sequence[str], file_format: Format | None, optional: Sequence[str]
) -> Iterator[Row]:
    kind = (file_format and file_format.kind) or extension(path.name)
    if kind == "parquet":
        return _parquet(path, needed, optional)
    if kind == "xlsx":
        return _sheet(path, needed, optional)
    written = detect(path, needed, file_format)
    if kind == "json":
        with opened(path, written.encoding) as file:
            blocks = iter(lambda: file.read(BLOCK), "")  # its first line may be all of it
            if next(filter(None, map(str.lstrip, blocks)), "").startswith("["):
                return _json_array(path, needed, written)
    if kind in ("json", "jsonl"):
        return _json_lines(path, needed, written)
    return _lines(path, written) if kind == "lines" else _csv(path, needed, written)


def check_columns(place: str, needed: Sequence[str], found: Sequence[str]) -> None:
    """Raises MissingColumn if a needed column is missing, or there twice."""
    wrong = [name for name in needed if found.count(name) != 1]
    if wrong:
        names = [f"{'two columns' if n in found else 'no column'} {n!r}" for n in wrong]
        error = MissingColumn(
            f"{place}: {' and '.join(names)}; expected {','.join(needed)}, found "
            f"{','.join(map(str, found))}"
        )
        error.columns, error.found = wrong, [*map(str, found)]
        raise error


def header(path: Path, file_format: Format | None = None) -> list[str]:
    """The columns of a delimited file whose format is known, or of a spreadsheet."""
    written = file_format or Format()
    if written.columns:
        return list(written.columns)
    if extension(path.name) == "xlsx":
        first = next((cells for _, cells in sheet_rows(path)), [])
    else:
        with opened(path, written.encoding) as file:
            records = _records(file, written.delimiter or ",", strict=True)
            first = next((fields for _, fields, _ in records), [])
    return [field.strip("\ufeff \t\r\n") for field in first]


def detect(path: Path, needed: Sequence[str], file_format: Format | None = None) -> Format:
    """The format of a text file with its encoding and, if it is delimited, its delimiter.

    The delimiter is that by which the first record has most of the columns that are needed, then
    most columns at all.
    """
    found = file_format or Format()
    if not found.encoding:
        found = dataclasses.replace(found, encoding=encodings.detect(path))
    usual = DELIMITERS.get(extension(path.name), ",")
    if found.delimiter or (found.kind or extension(path.name)) not in ("csv", "tsv"):
        return found
    written = [dataclasses.replace(found, delimiter=d) for d in dict.fromkeys([usual, *",;\t|"])]
    if found.columns:
        return written[0]

    def fit(candidate: Format) -> tuple[int, int]:
        names = header(path, candidate)
        return sum(name in names for name in needed), len(names)

    return max(written, key=fit)


def _csv(path: Path, needed: Sequence[str], written: Format) -> Iterator[Row]:
    columns, delimiter = header(path, written), written.delimiter or ","
    check_columns(str(path), needed, columns)
    named = bool(written.columns)
    least = 1 + max(map(columns.index, needed), default=0) if named else len(columns)
    with opened(path, written.encoding) as file:
        records = _records(file, delimiter, strict=not named, single=len(columns) == 1)
        for number, fields, problem in itertools.islice(records, 0 if named else 1, None):
            if not fields:  # a blank line
                continue
            problem = undecoded(delimiter.join(fields), written.encoding) or problem
            if not (problem or least <= len(fields) <= len(columns)):
                counts = f"{least} to {len(columns)}" if least < len(columns) else f"{least}"
                problem = (
                    f"{len(fields)} fields, expected {counts} with {delimiter!r} between them; "
                    "quote fields that contain it or line breaks"
                )
            values = dict(zip(columns, fields, strict=False))
            yield Row(f"{path}, line {number}", values, fields, problem)


def _records(
    file: IO[str], delimiter: str, strict: bool, single: bool = False
) -> Iterator[tuple[int, list[str], str | None]]:
    """Line, fields and problem of each record of a delimited file.

    Of a record that is not readable, the first line is taken for broken, and the next one begins
    anew: a quotation mark that nobody closes does not swallow the rest of the file.

    Args:
        single: there is one column: a line with delimiters is its text, unless fields are quoted.
    """
    number = 1
    waiting: list[str] = []
    taken: list[str] = []

    def lines() -> Iterator[str]:
        while line := waiting.pop() if waiting else file.readline():
            taken.append(line)
            yield line

    reader = csv.reader(lines(), delimiter=delimiter, strict=strict)
    while True:
        problem = None
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problem = f"not readable as CSV ({error})"
            fields = [taken[0].rstrip("\r\n")]
            waiting += reversed(taken[1:])
            del taken[1:]
            reader = csv.reader(lines(), delimiter=delimiter, strict=strict)
        if single and (line := delimiter.join(fields)) == taken[0].rstrip("\r\n"):
            fields = [line] if line else []
        yield number, fields, problem
        number += len(taken)
        taken.clear()


def _json_lines(path: Path, needed: Sequence[str], written: Format) -> Iterator[Row]:
    for place, values, _, problem in _lines(path, written):
        if not values["text"].strip():
            continue
        content: Any = values["text"]
        if not problem:
            try:
                content = json.loads(content)
            except (ValueError, RecursionError) as error:
                problem = f"not readable as JSON ({error})"
        yield _object(place, content, problem, needed)


def _json_array(path: Path, needed: Sequence[str], written: Format) -> Iterator[Row]:
    """Element by element: what is not read whole yet is tried again with more of the file."""
    decoder, number, size, start = json.JSONDecoder(), 1, BLOCK, 1
    with opened(path, written.encoding) as file:
        while not (text := file.read(size).lstrip()):
            pass
        while True:
            while text[start : start + 1] in _BETWEEN and start < len(text):
                start += 1
            place = f"{path}, row {number}"
            if text.startswith("]", start):
                rest = itertools.chain([text[start + 1 :]], iter(lambda: file.read(BLOCK), ""))
                if any(map(str.strip, rest)):
                    raise UserError(
                        f"{place}: the array ends before it, but the file goes on; write one array "
                        "of all rows, or one object per line"
                    )
                return
            try:
                content, end = decoder.raw_decode(text, start)
            except (ValueError, RecursionError) as error:
                more = "" if len(text) - start > LONGEST else file.read(size)
                if not more:
                    raise UserError(f"{place}: not readable as JSON ({error})") from error
                text, start, size = text[start:] + more, 0, size * 2
                continue
            yield _object(place, content, undecoded(text[start:end], written.encoding), needed)
            start, number, size = end, number + 1, BLOCK


def _object(place: str, content: Any, problem: str | None, needed: Sequence[str]) -> Row:
    if problem or not isinstance(content, dict):
        return Row(place, {}, content, problem or 'expected an object such as {"text": "…"}')
    try:
        check_columns("", needed, list(content))
    except MissingColumn as error:
        problem = str(error).removeprefix(": ")
    return Row(place, content, content, problem)


def _lines(path: Path, written: Format) -> Iterator[Row]:
    with opened(path, written.encoding) as file:
        for number, line in enumerate(file, 1):
            values = {"text": line.rstrip("\r\n")}
            yield Row(f"{path}, line {number}", values, line, undecoded(line, written.encoding))


def _parquet(path: Path, needed: Sequence[str], optional: Sequence[str]) -> Iterator[Row]:
    with parquet.ParquetFile(path) as file:
        names = file.schema_arrow.names
        check_columns(str(path), needed, names)
        wanted = [name for name in names if name in {*needed, *optional}]
        batches = file.iter_batches(BATCH, columns=wanted)
        found = (values for batch in batches for values in batch.to_pylist())
        for number, values in enumerate(found, 1):
            yield Row(f"{path}, row {number}", values)


def _sheet(path: Path, needed: Sequence[str], optional: Sequence[str]) -> Iterator[Row]:
    columns = header(path)
    check_columns(str(path), needed, columns)
    cells = sheet_rows(path, {*needed, *optional})
    for number, fields in itertools.islice(cells, 1, None):
        fields += [""] * (len(columns) - len(fields))
        yield Row(f"{path}, row {number}", dict(zip(columns, fields, strict=False)), fields)
