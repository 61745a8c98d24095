"""File formats: CSV, TSV, JSON lines, plain lines and parquet, each as a stream of rows.

A row is a dict of column -> value together with its place ("FILE, line 7") for messages. Files are
never read whole: memory does not grow with their size. Text formats are UTF-8 and may be packed
with gzip.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import pyarrow
from pyarrow import parquet

from lib.errors import UserError

Rows = Iterator[tuple[str, dict[str, Any]]]

DELIMITERS = {"csv": ",", "tsv": "\t"}
FORMATS = ("csv", "tsv", "jsonl", "parquet")
OPTIONAL = ("source", "original_label")  # columns that are read if they are there
BATCH = 1000  # rows that are decoded at once from a parquet file

csv.field_size_limit(10_000_000)


@dataclass(frozen=True)
class Format:
    """How a file is written, for a data set whose file names do not say it.

    columns: csv: their names, for files without a header line. Such files are taken as they are:
        last columns may be missing, and a stray quotation mark is part of the text.
    """

    kind: Literal["csv", "lines"]
    delimiter: str = ","
    columns: tuple[str, ...] = ()


def extension(name: str) -> str:
    """The extension without `.gz`, lower case: `a.CSV.gz` -> `csv`."""
    return Path(name.lower().removesuffix(".gz")).suffix.removeprefix(".")


def stem(name: str) -> str:
    """The name without extension and `.gz`: `a.csv.gz` -> `a`."""
    return Path(name.removesuffix(".gz")).stem


def is_readable(name: str) -> bool:
    """Whether the name says that the file has one of FORMATS."""
    return extension(name) in FORMATS and not name.lower().endswith(".parquet.gz")


def read(
    path: Path,
    needed: Sequence[str],
    file_format: Format | None = None,
    *,
    may_be_empty: bool = False,
) -> Rows:
    """Stream the rows of a file.

    Args:
        needed: columns that must be there; others than OPTIONAL may be left out.
        file_format: None: what the extension says.
        may_be_empty: else a file without rows is an error.
    Yields:
        place and row; values are text, except in JSON lines and parquet.
    Raises:
        UserError: naming file, line (parquet: row) and column.
    """
    kind = file_format.kind if file_format else extension(path.name)
    if kind == "parquet":
        rows = _parquet(path, needed)
    elif kind == "jsonl":
        rows = _json_lines(path, needed)
    elif kind == "lines":
        rows = _lines(path)
    else:
        rows = _csv(path, needed, file_format or Format("csv", DELIMITERS[kind]))
    count = 0
    try:
        for count, row in enumerate(rows, 1):  # noqa: B007 (used below)
            yield row
    except (pyarrow.ArrowException, OSError, EOFError, zlib.error) as error:
        reason = (str(error).splitlines() or ["no message"])[0][:200]
        raise UserError(
            f"{path}: not readable after row {count} ({reason}); the file is truncated or damaged: "
            "fetch or write it again"
        ) from error
    if not count and not may_be_empty:
        raise UserError(f"{path} has no rows; add rows or remove the file")


def check_columns(place: str, needed: Sequence[str], found: Sequence[str]) -> None:
    """Raises UserError if a needed column is missing, or there twice."""
    for name in needed:
        if found.count(name) != 1:
            raise UserError(
                f"{place}: {'two columns' if name in found else 'no column'} {name!r}; expected "
                f"{','.join(needed)}, found {','.join(map(str, found))}"
            )


def _csv(path: Path, needed: Sequence[str], file_format: Format) -> Rows:
    line, named = 1, list(file_format.columns)
    with opened(path) as file:
        reader = csv.reader(file, delimiter=file_format.delimiter, strict=not named)
        try:
            columns = named or next(reader, [])
            check_columns(str(path), needed, columns)
            least = 1 + max(map(named.index, needed)) if named else len(columns)
            line = reader.line_num + 1  # where a record begins; it may have several lines
            for fields in reader:
                place, line = f"{path}, line {line}", reader.line_num + 1
                if not fields:  # a blank line
                    continue
                if not least <= len(fields) <= len(columns):
                    counts = f"{least} to {len(columns)}" if least < len(columns) else f"{least}"
                    raise UserError(
                        f"{place}: {len(fields)} fields, expected {counts} with "
                        f"{file_format.delimiter!r} between them; quote fields that contain it or "
                        "line breaks"
                    )
                yield place, dict(zip(columns, fields, strict=False))
        except csv.Error as error:
            raise UserError(f"{path}, line {line}: not readable as CSV ({error})") from error


def _json_lines(path: Path, needed: Sequence[str]) -> Rows:
    for place, row in _lines(path):
        if not row["text"].strip():
            continue
        try:
            value = json.loads(row["text"])
        except (ValueError, RecursionError) as error:
            raise UserError(f"{place}: not readable as JSON ({error})") from error
        if not isinstance(value, dict):
            raise UserError(f'{place}: expected an object such as {{"text": "…"}}')
        check_columns(place, needed, list(value))
        yield place, value


def _lines(path: Path) -> Rows:
    with opened(path) as file:
        for number, line in enumerate(file, 1):
            yield f"{path}, line {number}", {"text": line.rstrip("\r\n")}


def _parquet(path: Path, needed: Sequence[str]) -> Rows:
    with parquet.ParquetFile(path) as file:
        names = file.schema_arrow.names
        check_columns(str(path), needed, names)
        wanted = [name for name in names if name in {*needed, *OPTIONAL}]
        batches = file.iter_batches(BATCH, columns=wanted)
        rows = (values for batch in batches for values in batch.to_pylist())
        for number, values in enumerate(rows, 1):
            yield f"{path}, row {number}", values


@contextlib.contextmanager
def opened(path: Path) -> Iterator[IO[str]]:
    """A text file, unpacked if its name ends in .gz; a byte that is not UTF-8 is an error."""
    open_ = gzip.open if path.name.lower().endswith(".gz") else open
    try:
        with open_(path, "rt", encoding="utf-8-sig", newline="", errors="strict") as file:
            yield file
    except UnicodeDecodeError as error:
        with open_(path, "rb") as file:
            lines = enumerate(file, 1)
            line = next(
                (n for n, text in lines if text.decode(errors="ignore").encode() != text), 0
            )
        raise UserError(
            f"{path}, line {line}: not UTF-8 (byte 0x{error.object[error.start]:02x}); save the "
            "file as UTF-8"
        ) from error
