"""Readers of the data sets: sample, local CSV files, and the hub, behind one interface.

Every reader gives frames of the same columns (see COLUMNS). What a data set is, and how its labels
map to the three classes, is declared in `lib.registry`, not here.
"""

from __future__ import annotations

import csv
import difflib
import fnmatch
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from lib import artifacts
from lib.errors import UserError
from lib.params import GoldDataParams
from lib.registry import NAMES, REGISTRY, Source

COLUMNS = ["text", "label", "original_label", "source", "group", "role", "split"]
"""text: raw; label: class name or None; role: gold or corpus; split: `test` if official, else
None; group: rows with one group share an official test split."""
SAMPLE_DIR = Path(__file__).parent / "sample"
SAMPLE_FILES = [(SAMPLE_DIR / "gold.csv", "gold"), (SAMPLE_DIR / "corpus.csv", "corpus")]
CHUNK = 50_000  # rows per frame of a hub source

csv.field_size_limit(10_000_000)


def check(params: GoldDataParams) -> None:
    """Find what can be known to be wrong before anything is read.

    Raises:
        UserError: an unknown or repeated source, a missing data_dir, or no file for a pattern.
    """
    for name in params.sources:
        if name not in REGISTRY:
            nearest = difflib.get_close_matches(name, REGISTRY, n=1, cutoff=0.0)[0]
            raise UserError(
                f"01_gold_data.sources: no source {name!r}; the nearest valid name is {nearest!r}, "
                f"all names: {', '.join(REGISTRY)}"
            )
    repeated = {name for name in params.sources if params.sources.count(name) > 1}
    if repeated:
        raise UserError(f"01_gold_data.sources: {', '.join(sorted(repeated))} is listed twice")
    for name in params.sources:
        if REGISTRY[name].kind == "local":
            local_files(params, REGISTRY[name])


def fingerprint(params: GoldDataParams) -> dict[str, str]:
    """Content digests of local files, pinned revisions of hub sources."""
    found = {}
    for name in params.sources:
        source = REGISTRY[name]
        if source.kind == "hub":
            found[name] = f"{source.hub_id}@{source.revision}"
        else:
            files = SAMPLE_FILES if source.kind == "sample" else local_files(params, source)
            found |= {f"{path.name} ({role})": artifacts.file_digest(path) for path, role in files}
    return found


def read(params: GoldDataParams) -> Iterator[pd.DataFrame]:
    """All rows of all sources of a run, as frames of COLUMNS.

    Raises:
        UserError: bad input; the message names file and line, or source and column.
    """
    check(params)
    for name in params.sources:
        source = REGISTRY[name]
        if source.kind == "hub":
            yield from read_hub(source)
        elif source.kind == "sample":
            for path, role in SAMPLE_FILES:
                yield read_csv(path, role, group="sample")
        else:
            for path, role in local_files(params, source):
                yield read_local(path, role, params, source)


def local_files(params: GoldDataParams, source: Source) -> list[tuple[Path, str]]:
    """The CSV files of a local source in data_dir with their roles: test, gold or corpus.

    A file takes the first role, in that order, one of whose patterns matches its name.

    Raises:
        UserError: no data_dir, or no gold file in it.
    """
    if params.data_dir is None:
        raise UserError(
            f"01_gold_data.data_dir: the source {source.name!r} needs a folder of CSV files; "
            "give it in the parameter file or with -p data_dir=FOLDER"
        )
    folder = Path(params.data_dir).expanduser()
    if not folder.is_dir():
        raise UserError(f"01_gold_data.data_dir: {folder} is not a folder; give an existing one")
    patterns = source.files or {
        "test": params.test_files,
        "gold": params.gold_files,
        "corpus": params.corpus_files,
    }
    names = sorted(path.name for path in folder.glob("*.csv"))
    files = []
    for name in names:
        for role, wanted in patterns.items():
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in wanted):
                files.append((folder / name, role))
                break
    if not any(role == "gold" for _, role in files):
        wanted = list(patterns["gold"])
        raise UserError(
            f"01_gold_data.data_dir: no gold file of source {source.name!r}: nothing in {folder} "
            f"matches {wanted} (CSV files there: {names}); rename the labelled file or, for the "
            "source local, name it with -p 'gold_files=[FILE.csv]'"
        )
    return files


def read_local(path: Path, role: str, params: GoldDataParams, source: Source) -> pd.DataFrame:
    """One local file; rows without a label in a gold file go where `unlabelled_gold` says."""
    frame = read_csv(path, role, source.name, source.labels, params.skip_empty_texts)
    unlabelled = frame["label"].isna() & (role != "corpus")
    if role == "test":  # the rest of a test file is too near to the test to be used elsewhere
        return frame[~unlabelled]
    if params.unlabelled_gold == "drop":
        return frame[~unlabelled]
    frame.loc[unlabelled, "role"] = "corpus"
    return frame


def read_csv(
    path: Path,
    role: str,
    group: str,
    labels: dict[str, str | None] = NAMES,
    skip_empty: bool = False,
) -> pd.DataFrame:
    """Read a UTF-8 CSV file with the columns `text`, `label` (may be empty) and `source`.

    `source` may be missing and defaults to the file's name; so may `original_label`.

    Args:
        role: test, gold or corpus.
        labels: what may stand in the column label, in lower case -> class or None.
        skip_empty: leave out rows with an empty text instead of stopping.
    Raises:
        UserError: naming file, line and column.
    """
    rows = []
    line = 1
    try:
        with path.open(encoding="utf-8-sig", newline="", errors="strict") as file:
            reader = csv.reader(file, strict=True)
            columns = next(reader, [])
            _check_header(path, columns)
            while True:
                line = reader.line_num + 1  # where a record begins; it may have several lines
                fields = next(reader, None)
                if fields is None:
                    break
                if not fields:  # a blank line
                    continue
                place = f"{path}, line {line}"
                _check_fields(place, fields, columns)
                row = dict(zip(columns, fields, strict=True))
                label = _class_of(place, row["label"], labels)
                if row["text"].strip():
                    original = row.get("original_label") or row["label"]
                    rows.append((row["text"], label, original, row.get("source") or path.stem))
                elif not skip_empty:
                    raise UserError(
                        f"{place}, column text: the text is empty; remove the row or set "
                        "01_gold_data.skip_empty_texts to true"
                    )
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise UserError(
            f"{path}, line {_line_of_bad_byte(path)}: not UTF-8 (byte 0x{byte:02x}); "
            "save the file as UTF-8"
        ) from error
    except csv.Error as error:
        raise UserError(f"{path}, line {line}: not readable as CSV ({error})") from error
    if not rows:
        raise UserError(f"{path} has a header but no rows; add rows or remove the file")
    frame = pd.DataFrame(rows, columns=["text", "label", "original_label", "source"], dtype=object)
    frame["group"] = group
    frame["role"] = "corpus" if role == "corpus" else "gold"
    frame["split"] = "test" if role == "test" else None
    return frame[COLUMNS]


def _check_header(path: Path, columns: list[str]) -> None:
    if not columns:
        raise UserError(f"{path} is empty; expected a header line `text,label,source`")
    for needed in ("text", "label"):
        if needed not in columns:
            raise UserError(
                f"{path}: no column {needed!r}; expected text,label,source, "
                f"found {','.join(columns)}"
            )


def _check_fields(place: str, fields: list[str], columns: list[str]) -> None:
    if len(fields) != len(columns):
        raise UserError(
            f"{place}: {len(fields)} fields, the header has {len(columns)}; quote fields that "
            "contain commas or line breaks"
        )


def _class_of(place: str, label: str, labels: dict[str, str | None]) -> str | None:
    name = label.strip().lower()
    if not name:
        return None
    if name not in labels:
        nearest = difflib.get_close_matches(name, labels, n=1, cutoff=0.0)[0]
        raise UserError(
            f"{place}, column label: unknown label {label!r}; expected {', '.join(labels)} or "
            f"nothing (nearest: {nearest})"
        )
    return labels[name]


def _line_of_bad_byte(path: Path) -> int:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return 0


def read_hub(source: Source) -> Iterator[pd.DataFrame]:
    """Stream one hub data set at its pinned revision.

    Raises:
        UserError: the hub cannot be reached, or the columns are not those of the registry.
    """
    for split in source.splits:
        rows = _hub_rows(source, split)
        while chunk := list(itertools.islice(rows, CHUNK)):
            yield map_rows(source, split, chunk)


def _hub_rows(source: Source, split: str) -> Iterator[dict[str, Any]]:
    from datasets import load_dataset  # slow to import, and only needed with a hub

    try:
        yield from load_dataset(
            source.hub_id, source.config, split=split, revision=source.revision, streaming=True
        )
    except Exception as error:  # the libraries below raise dozens of kinds
        reason = (str(error).splitlines() or ["no message"])[0][:200]
        raise UserError(
            f"source {source.name!r}: cannot read {source.hub_id} (split {split}) from the hub "
            f"({type(error).__name__}: {reason}). Check the network and HF_HUB_OFFLINE, use local "
            "files (sources: [local]), or remove the source from 01_gold_data.sources"
        ) from error


def map_rows(source: Source, split: str, rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows of a hub data set in its own columns as a frame of COLUMNS.

    Raises:
        UserError: a declared column is missing, or a label is outside the mapping.
    """
    expected = [*source.text_columns, *source.filters]
    if source.label_column:
        expected.append(source.label_column)
    missing = [name for name in expected if name not in rows[0]]
    if missing:
        raise UserError(
            f"source {source.name!r} ({source.hub_id}): expected columns {expected}, "
            f"found {sorted(rows[0])}; correct the entry in lib.registry"
        )
    records = []
    for row in rows:
        if any(str(row[column]) != value for column, value in source.filters.items()):
            continue
        original = str(row[source.label_column]).lower() if source.label_column else ""
        label = None
        if source.label_column and source.labels:
            if original not in source.labels:
                raise UserError(
                    f"source {source.name!r}, column {source.label_column!r}: label {original!r} "
                    f"is outside the mapping {source.labels}; correct the entry in lib.registry"
                )
            label = source.labels[original]
        role = "corpus" if source.role == "gold" and label is None else source.role
        official = "test" if role == "gold" and split == source.test_split else None
        for column in source.text_columns:
            records.append(
                (str(row[column] or ""), label, original, source.name, source.name, role, official)
            )
    return pd.DataFrame(records, columns=COLUMNS, dtype=object)
