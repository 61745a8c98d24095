"""`python -m lib predict`: a file comes out as it went in, with the model's labels beside it.

A spreadsheet comes out as CSV (with an apostrophe before what would be a formula there), an array
as JSON lines, a zip file unpacked. The file is read three times, never whole: once to check it,
once to predict, once to write the result. Predictions wait beside the result in pieces of PIECE
rows, so an interrupted call goes on where it was, and the result appears whole or not at all.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import json
import logging
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from lib import LABELS
from lib.data import readers
from lib.data.spreadsheets import split_sheet
from lib.errors import UserError, is_disk_full
from lib.files import FORMULA, atomic, digest, read_record, write_json
from lib.models.batching import batched
from lib.models.sentiment import PIECE, SentimentModel

ADDED = ("label", *(f"p_{name}" for name in LABELS))
OnError = Literal["stop", "empty"]


WRITTEN_AS = {"json": "jsonl", "xlsx": "csv"}


def label_files(
    model: Path | str,
    files: list[Path],
    out: Path,
    *,
    text_column: str = "text",
    on_error: OnError = "stop",
    force: bool = False,
) -> list[Path]:
    """Label files, and return the results; each has the columns of its file and those of ADDED.

    Where a file has one of these names already, the new columns are `predicted_label`, and so on.

    Args:
        model: see `SentimentModel`.
        out: a new file of the same format, or that of WRITTEN_AS; a directory if there are several
            files.
        on_error: what a row without a readable text does: stop all, or stay without a label.
        force: replace results that are there.
    Raises:
        UserError: naming file and line, before anything is predicted.
    """
    several = len(files) > 1 or out.is_dir()
    targets = [out / _written_as(path) if several else out for path in files]
    if len(set(targets)) < len(targets):
        raise UserError("two of the files have the same name; label them one by one")
    for path, target in zip(files, targets, strict=True):
        _check_paths(path, target, force)
    counts = [_check_rows(path, text_column, on_error) for path in files]
    predictor = SentimentModel(model)
    for path, target, count in zip(files, targets, counts, strict=True):
        try:
            _label(predictor, path, target, text_column, count)
        except OSError as error:
            reason = error.strerror or str(error)
            if is_disk_full(type(error).__name__, str(error)):
                reason += ": the disk is full"
            raise UserError(
                f"{target}: cannot be written ({reason}); what is predicted is kept, the same "
                "command goes on from there"
            ) from error
    return targets


def _written_as(path: Path) -> str:
    """The name of the result of a file."""
    name = path.name.removesuffix(".zip")
    kind = readers.extension(name)
    return f"{readers.stem(name)}.{WRITTEN_AS[kind]}" if kind in WRITTEN_AS else name


def _check_paths(path: Path, target: Path, force: bool) -> None:
    if not split_sheet(path)[0].is_file() or not readers.is_readable(path.name):
        raise UserError(f"{path}: no such {', '.join(readers.FORMATS)} file")
    kind = readers.extension(_written_as(path))
    if readers.extension(target.name) != kind or target.name.lower().endswith(".zip"):
        raise UserError(f"--out: {target} must end in .{kind}, as {path.name} does")
    if target.exists() and (not force or target.samefile(split_sheet(path)[0])):
        raise UserError(f"--out: {target} is there already; name another file, or use --force")


def _check_rows(path: Path, text_column: str, on_error: OnError) -> int:
    """The number of rows; each that is broken is named."""
    count = broken = 0
    for count, row in enumerate(read(path, text_column), 1):  # noqa: B007 (used below)
        if row.problem is None:
            continue
        if on_error == "stop":
            raise UserError(
                f"{row.place}: {row.problem}; mend it, or use --on-error empty, which leaves such "
                "rows without a label"
            )
        broken += 1
        if broken <= 10:
            logging.warning("%s: %s; it gets no label", row.place, row.problem)
    if broken > 10:
        logging.warning("%s: %d rows in all get no label", path, broken)
    if not count:
        raise UserError(f"{path} has no rows")
    if broken == count:
        raise UserError(f"{path}: no row has a readable text in column {text_column!r}")
    return count


def _label(model: SentimentModel, path: Path, target: Path, text_column: str, count: int) -> None:
    waiting = target.with_name(f".{target.name}.partial")
    stat = split_sheet(path)[0].stat()
    origin = digest([stat.st_size, stat.st_mtime_ns, model.fingerprint, text_column])
    about = waiting / "about.json"
    if read_record(about, str) != origin:
        shutil.rmtree(waiting, ignore_errors=True)
        write_json(about, origin)
    with tqdm(total=count, desc=path.name, unit="text", disable=None) as bar:
        for number, rows in enumerate(batched(read(path, text_column), PIECE)):
            piece = waiting / f"{number:06d}.npy"
            if not _is_whole(piece, len(rows)):
                found = np.full((len(rows), len(LABELS)), np.nan, np.float32)
                whole = [i for i, row in enumerate(rows) if row.problem is None]
                found[whole] = model.predict_proba(rows[i].values[text_column] for i in whole)
                with atomic(piece) as temporary:
                    np.save(temporary, found)
            bar.update(len(rows))
    # a kill while one was written has left a file whose name begins with a dot
    pieces = (np.load(piece) for piece in sorted(waiting.glob("[0-9]*.npy")))
    with atomic(target) as temporary:
        predictions = (row for piece in pieces for row in piece)
        if readers.extension(path.name) == "parquet":
            _write_parquet(path, temporary, predictions)
        else:
            _write_lines(path, temporary, text_column, predictions)
    shutil.rmtree(waiting)


def _is_whole(piece: Path, rows: int) -> bool:
    """Whether predictions of so many rows are there."""
    if not piece.exists():
        return False
    with contextlib.suppress(OSError, ValueError, EOFError):
        if np.load(piece).shape == (rows, len(LABELS)):
            return True
    logging.warning("%s is damaged; it is made again", piece)
    return False


def read(path: Path, text_column: str) -> Iterator[readers.Row]:
    """The rows of a file, in order; one without a text has that as its problem.

    Raises:
        UserError: the file cannot be read at all, or has no such column.
    """
    try:
        for row in readers.rows(path, [text_column]):
            text = row.values.get(text_column)
            if isinstance(row.content, dict) and text_column not in row.content:  # of JSON
                row = row._replace(problem=f"{row.problem}; name the column with --text-column")
            elif row.problem is None and not (isinstance(text, str) and text.strip()):
                row = row._replace(problem=f"no text in column {text_column!r}")
            yield row
    except readers.MissingColumn as error:
        raise UserError(f"{error}; name the column with --text-column") from error


def _names(columns: Iterable[str]) -> list[str]:
    """The names of the new columns."""
    if set(ADDED) & set(columns):
        return [f"predicted_{name}" for name in ADDED]
    return list(ADDED)


def _write_lines(
    path: Path, target: Path, text_column: str, predictions: Iterator[np.ndarray]
) -> None:
    open_ = gzip.open if target.name.lower().endswith(".gz") else open
    rows = zip(read(path, text_column), predictions, strict=True)
    if readers.extension(path.name) in ("json", "jsonl"):
        # the escape of a lone surrogate is JSON's own
        with open_(target, "wt", encoding="utf-8", errors="backslashreplace") as file:
            for row, found in rows:
                content = row.content if isinstance(row.content, dict) else {"line": row.content}
                added = dict(zip(_names(content), _cells(found, None), strict=True))
                print(json.dumps(content | added, ensure_ascii=False), file=file)
        return
    written = readers.Format(delimiter=",", encoding="utf-8-sig")
    if readers.extension(path.name) != "xlsx":
        written = readers.detect(path, [text_column])
    columns, delimiter = readers.header(path, written), written.delimiter or ","
    options: dict[str, Any] = {"encoding": written.encoding, "errors": "surrogateescape"}
    with open_(target, "wt", newline="", **options) as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        safe = _no_formula if readers.extension(path.name) == "xlsx" else str
        writer.writerow([*map(safe, columns), *_names(columns)])
        for row, found in rows:
            fields, extra = row.content[: len(columns)], row.content[len(columns) :]
            fields += [""] * (len(columns) - len(fields))
            fields[-1] = delimiter.join([fields[-1], *extra])  # nothing is lost
            writer.writerow([*map(safe, fields), *_cells(found, "")])


def _no_formula(cell: str) -> str:
    """What was no formula in a spreadsheet is none in CSV; numbers stay."""
    with contextlib.suppress(ValueError):
        float(cell)
        return cell
    return f"'{cell}" if re.search(FORMULA, cell) else cell


def _write_parquet(path: Path, target: Path, predictions: Iterator[np.ndarray]) -> None:
    with pq.ParquetFile(path) as file:
        names = _names(file.schema_arrow.names)
        fields = [(names[0], pa.string()), *((name, pa.float32()) for name in names[1:])]
        schema = file.schema_arrow
        for field in fields:
            schema = schema.append(pa.field(*field))
        with pq.ParquetWriter(target, schema) as writer:
            for batch in file.iter_batches(PIECE):
                cells = [_cells(next(predictions), None) for _ in range(batch.num_rows)]
                added = [
                    pa.array(column, kind)
                    for column, (_, kind) in zip(zip(*cells, strict=True), fields, strict=True)
                ]
                writer.write_batch(pa.record_batch([*batch.columns, *added], schema=schema))
    if next(predictions, None) is not None:
        raise ValueError(f"{path}: more predictions than rows")


def _cells(probabilities: np.ndarray, empty: Any) -> list[Any]:
    """Label and probabilities, rounded to 4 places; `empty` for a row without them."""
    if np.isnan(probabilities[0]):
        return [empty] * len(ADDED)
    return [LABELS[int(probabilities.argmax())], *(round(float(p), 4) for p in probabilities)]


def label_lines(model: SentimentModel, lines: Iterable[str]) -> Iterator[str]:
    """Lines of text as lines of label, p_negative, p_neutral, p_positive and text, tab-separated.

    Each piece is labelled as soon as it is read.
    """
    for piece in batched(lines, 1000):
        texts = [" ".join(line.split()) for line in piece]
        for text, found in zip(texts, model.predict_proba(texts), strict=True):
            yield "\t".join([*map(str, _cells(found, "")), text])
