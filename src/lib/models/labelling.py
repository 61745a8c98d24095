"""`python -m lib predict`: a file comes out as it went in, with the model's labels beside it.

The file is read three times, never whole: once to check it, once to predict, once to write the
result. Predictions wait beside the result in pieces of PIECE rows, so an interrupted call goes on
where it was, and the result appears whole or not at all.
"""

from __future__ import annotations

import csv
import gzip
import json
import logging
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from lib import LABELS
from lib.data import readers
from lib.errors import UserError
from lib.files import atomic, digest, read_json, write_json
from lib.models.batching import batched
from lib.models.sentiment import PIECE, SentimentModel

ADDED = ("label", *(f"p_{name}" for name in LABELS))
OnError = Literal["stop", "empty"]


@dataclass(frozen=True)
class Row:
    """place: "FILE, line 7"; content: the row as its file has it; problem: why it has no label."""

    place: str
    text: Any
    content: Any
    problem: str | None = None


def label_files(
    model: Path | str,
    files: list[Path],
    out: Path,
    *,
    text_column: str = "text",
    on_error: OnError = "stop",
    force: bool = False,
) -> list[Path]:
    """Label files; each result has the columns of its file and those of ADDED.

    Where a file has one of these names already, the new columns are `predicted_label`, and so on.

    Args:
        model: see `SentimentModel`.
        out: a new file of the same format; a directory if there are several files.
        on_error: what a row without a readable text does: stop all, or stay without a label.
        force: replace results that are there.
    Returns:
        The results.
    Raises:
        UserError: naming file and line, before anything is predicted.
    """
    several = len(files) > 1 or out.is_dir()
    targets = [out / path.name if several else out for path in files]
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
            raise UserError(
                f"{target}: cannot be written ({error.strerror}); what is predicted is kept, the "
                "same command goes on from there"
            ) from error
    return targets


def _check_paths(path: Path, target: Path, force: bool) -> None:
    if not path.is_file() or not readers.is_readable(path.name):
        raise UserError(f"{path}: no such {', '.join(readers.FORMATS)} file")
    kind = readers.extension(path.name)
    if readers.extension(target.name) != kind:
        raise UserError(f"--out: {target} must end in .{kind}, as {path.name} does")
    if target.exists() and (not force or target.samefile(path)):
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
    return count


def _label(model: SentimentModel, path: Path, target: Path, text_column: str, count: int) -> None:
    waiting = target.with_name(f".{target.name}.partial")
    stat = path.stat()
    origin = digest([stat.st_size, stat.st_mtime_ns, model.fingerprint, text_column])
    about = waiting / "about.json"
    if not (about.exists() and read_json(about) == origin):
        shutil.rmtree(waiting, ignore_errors=True)
        write_json(about, origin)
    with tqdm(total=count, desc=path.name, unit="text", disable=None) as bar:
        for number, rows in enumerate(batched(read(path, text_column), PIECE)):
            piece = waiting / f"{number:06d}.npy"
            if not piece.exists():
                found = np.full((len(rows), len(LABELS)), np.nan, np.float32)
                whole = [i for i, row in enumerate(rows) if row.problem is None]
                found[whole] = model.predict_proba(rows[i].text for i in whole)
                with atomic(piece) as temporary:
                    np.save(temporary, found)
            bar.update(len(rows))
    pieces = (np.load(piece) for piece in sorted(waiting.glob("*.npy")))
    with atomic(target) as temporary:
        predictions = (row for piece in pieces for row in piece)
        if readers.extension(path.name) == "parquet":
            _write_parquet(path, temporary, predictions)
        else:
            _write_lines(path, temporary, text_column, predictions)
    shutil.rmtree(waiting)


def read(path: Path, text_column: str) -> Iterator[Row]:
    """The rows of a file, in order; a broken one with its `problem`.

    Raises:
        UserError: the file cannot be read at all, or has no such column.
    """
    kind = readers.extension(path.name)
    if kind == "parquet":
        rows = _parquet(path, text_column)
    else:
        rows = (_json_lines if kind == "jsonl" else _delimited)(path, text_column)
    for row in rows:
        if row.problem is None and not (isinstance(row.text, str) and row.text.strip()):
            row = Row(row.place, "", row.content, f"no text in column {text_column!r}")
        yield row


def _delimited(path: Path, text_column: str) -> Iterator[Row]:
    with readers.opened(path) as file:
        reader = csv.reader(file, delimiter=readers.DELIMITERS[readers.extension(path.name)])
        line = 1
        try:
            columns = next(reader, [])
            _check_column(path, text_column, columns)
            place = columns.index(text_column)
            line = reader.line_num + 1
            for fields in reader:
                where, line = f"{path}, line {line}", reader.line_num + 1
                if not fields:
                    continue
                problem = None
                if len(fields) != len(columns):
                    problem = f"{len(fields)} fields, expected {len(columns)}"
                text = fields[place] if place < len(fields) else ""
                yield Row(where, text, fields, problem)
        except csv.Error as error:
            raise UserError(f"{path}, line {line}: not readable as CSV ({error})") from error


def _json_lines(path: Path, text_column: str) -> Iterator[Row]:
    seen = False
    with readers.opened(path) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            place, content = f"{path}, line {number}", line.rstrip("\r\n")
            try:
                content = json.loads(content)
            except (ValueError, RecursionError) as error:
                yield Row(place, "", content, f"not readable as JSON ({error})")
                continue
            if not isinstance(content, dict):
                yield Row(place, "", content, "no JSON object")
                continue
            seen = seen or text_column in content
            yield Row(place, content.get(text_column), content)
    if not seen:
        _check_column(path, text_column, [])


def _parquet(path: Path, text_column: str) -> Iterator[Row]:
    try:
        with pq.ParquetFile(path) as file:
            _check_column(path, text_column, file.schema_arrow.names)
            number = 0
            for batch in file.iter_batches(PIECE, columns=[text_column]):
                for text in batch.column(0).to_pylist():
                    number += 1
                    yield Row(f"{path}, row {number}", text, None)
    except pa.ArrowException as error:
        raise UserError(f"{path}: not readable as Parquet ({str(error)[:200]})") from error


def _check_column(path: Path, text_column: str, columns: list[str]) -> None:
    if columns.count(text_column) != 1:
        found = f"; it has {', '.join(map(str, columns))}" if columns else ""
        raise UserError(
            f"{path}: no column {text_column!r}{found}; name the column with --text-column"
        )


def _names(columns: Iterable[str]) -> list[str]:
    """The names of the new columns."""
    if set(ADDED) & set(columns):
        return [f"predicted_{name}" for name in ADDED]
    return list(ADDED)


def _write_lines(
    path: Path, target: Path, text_column: str, predictions: Iterator[np.ndarray]
) -> None:
    open_ = gzip.open if path.name.lower().endswith(".gz") else open
    kind = readers.extension(path.name)
    rows = zip(read(path, text_column), predictions, strict=True)
    with open_(target, "wt", encoding="utf-8", newline="") as file:
        if kind == "jsonl":
            for row, found in rows:
                content = row.content if isinstance(row.content, dict) else {"line": row.content}
                added = dict(zip(_names(content), _cells(found, None), strict=True))
                print(json.dumps(content | added, ensure_ascii=False), file=file)
            return
        with readers.opened(path) as header:
            columns = next(csv.reader(header, delimiter=readers.DELIMITERS[kind]))
        writer = csv.writer(file, delimiter=readers.DELIMITERS[kind], lineterminator="\n")
        writer.writerow([*columns, *_names(columns)])
        for row, found in rows:
            fields, extra = row.content[: len(columns)], row.content[len(columns) :]
            fields += [""] * (len(columns) - len(fields))
            fields[-1] = readers.DELIMITERS[kind].join([fields[-1], *extra])  # nothing is lost
            writer.writerow([*fields, *_cells(found, "")])


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
