"""Readers of the data sets: sample, local CSV files, and the hub, behind one interface.

Every reader gives frames of the same columns (see COLUMNS). What a data set is, and how its labels
map to the three classes, is declared in `lib.registry`, not here.
"""

from __future__ import annotations

import csv
import difflib
import fnmatch
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from lib import LABELS, artifacts
from lib.errors import UserError
from lib.params import GoldDataParams
from lib.registry import REGISTRY, Source

COLUMNS = ["text", "label", "original_label", "source", "group", "role", "split"]
"""text: raw; label: class name or None; role: gold or corpus; split: `test` if official, else
None; group: rows with one group share an official test split."""
SAMPLE_DIR = Path(__file__).parent / "sample"
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
    if "local" in params.sources:
        local_files(params)


def fingerprint(params: GoldDataParams) -> dict[str, str]:
    """Content digests of local files, pinned revisions of hub sources."""
    found = {}
    for name in params.sources:
        source = REGISTRY[name]
        if source.kind == "hub":
            found[name] = f"{source.hub_id}@{source.revision}"
        else:
            files = _sample_files() if source.kind == "sample" else local_files(params)
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
            for path, role in _sample_files():
                yield read_csv(path, role, group="sample")
        else:
            for path, role in local_files(params):
                yield read_local(path, role, params)


def local_files(params: GoldDataParams) -> list[tuple[Path, str]]:
    """The CSV files of data_dir with their roles: test, gold or corpus.

    A file takes the first role, in that order, one of whose patterns matches its name.

    Raises:
        UserError: no data_dir, a pattern of test or gold without a file, or no CSV file at all.
    """
    if params.data_dir is None:
        raise UserError(
            "01_gold_data.data_dir: the source `local` needs a folder of CSV files; "
            "give it in the parameter file or with -p data_dir=FOLDER"
        )
    folder = Path(params.data_dir).expanduser()
    if not folder.is_dir():
        raise UserError(f"01_gold_data.data_dir: {folder} is not a folder; give an existing one")
    names = sorted(path.name for path in folder.glob("*.csv"))
    patterns = {
        "test": params.test_files, "gold": params.gold_files, "corpus": params.corpus_files
    }
    files = []
    for name in names:
        for role, wanted in patterns.items():
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in wanted):
                files.append((folder / name, role))
                break
    if not any(role == "gold" for _, role in files):
        raise UserError(
            f"01_gold_data.gold_files: no file in {folder} matches {params.gold_files} "
            f"(CSV files there: {names}); name your labelled files with "
            "-p 'gold_files=[FILE.csv]'"
        )
    return files


def read_local(path: Path, role: str, params: GoldDataParams) -> pd.DataFrame:
    """One local file; rows without a label in a gold file go where `unlabelled_gold` says."""
    frame = read_csv(path, role, group="local", skip_empty=params.skip_empty_texts)
    unlabelled = frame["label"].isna() & (role != "corpus")
    if role == "test":  # the rest of a test file is too near to the test to be used elsewhere
        return frame[~unlabelled]
    if params.unlabelled_gold == "drop":
        return frame[~unlabelled]
    frame.loc[unlabelled, "role"] = "corpus"
    return frame


def read_csv(path: Path, role: str, group: str, skip_empty: bool = False) -> pd.DataFrame:
    """Read a UTF-8 CSV file with the columns `text`, `label` (may be empty) and `source`.

    `source` is optional and defaults to the file's name; `original_label` is optional too.

    Raises:
        UserError: naming file, line and column.
    """
    rows = []
    try:
        with path.open(encoding="utf-8-sig", newline="", errors="strict") as file:
            reader = csv.DictReader(file, strict=True)
            columns = reader.fieldnames
            if not columns:
                raise UserError(f"{path} is empty; expected a header line `text,label,source`")
            for needed in ("text", "label"):
                if needed not in columns:
                    raise UserError(
                        f"{path}: no column {needed!r}; expected text,label,source, "
                        f"found {','.join(columns)}"
                    )
            line = reader.line_num + 1
            for row in reader:
                if None in row or None in row.values():
                    count = len([v for k, v in row.items() if k is not None and v is not None])
                    count += len(row.get(None) or [])
                    raise UserError(
                        f"{path}, line {line}: {count} fields, the header has {len(columns)}; "
                        "quote fields that contain commas or line breaks"
                    )
                label = row["label"].strip().lower()
                if label and label not in LABELS:
                    nearest = difflib.get_close_matches(label, LABELS, n=1, cutoff=0.0)[0]
                    raise UserError(
                        f"{path}, line {line}, column label: unknown label {row['label']!r}; "
                        f"expected {', '.join(LABELS)} or nothing (nearest: {nearest})"
                    )
                if not row["text"].strip():
                    if not skip_empty:
                        raise UserError(
                            f"{path}, line {line}, column text: the text is empty; "
                            "remove the row or set 01_gold_data.skip_empty_texts to true"
                        )
                else:
                    rows.append((
                        row["text"], label or None, row.get("original_label") or label,
                        row.get("source") or path.stem,
                    ))
                line = reader.line_num + 1
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}, line {_line_of_bad_byte(path)}: not UTF-8 (byte 0x{error.object[error.start]:02x}); "
            "save the file as UTF-8"
        ) from error
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not readable as CSV ({error})") from error
    if not rows:
        raise UserError(f"{path} has a header but no rows; add rows or remove the file")
    frame = pd.DataFrame(rows, columns=["text", "label", "original_label", "source"], dtype=object)
    frame["group"] = group
    frame["role"] = "corpus" if role == "corpus" else "gold"
    frame["split"] = "test" if role == "test" else None
    return frame[COLUMNS]


def _line_of_bad_byte(path: Path) -> int:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return 0


def _sample_files() -> list[tuple[Path, str]]:
    return [(SAMPLE_DIR / "gold.csv", "gold"), (SAMPLE_DIR / "corpus.csv", "corpus")]


def read_hub(source: Source) -> Iterator[pd.DataFrame]:
    """Stream one hub data set at its pinned revision.

    Raises:
        UserError: the hub cannot be reached, or the columns are not those of the registry.
    """
    from datasets import load_dataset  # slow to import, and only needed with a hub

    if not source.hub_id:
        raise UserError(f"source {source.name!r} has no hub copy. {source.note}")
    for split in source.splits:
        try:
            stream = load_dataset(
                source.hub_id, source.config, split=split, revision=source.revision, streaming=True
            )
            rows = iter(stream)
            first = next(rows, None)
        except Exception as error:  # the libraries below raise dozens of kinds
            raise UserError(
                f"source {source.name!r}: cannot read {source.hub_id} (split {split}) from the hub "
                f"({type(error).__name__}: {str(error).splitlines()[0][:200]}). Check the network "
                "and HF_HUB_OFFLINE, use local files (sources: [local]), or remove the source "
                "from 01_gold_data.sources"
            ) from error
        chunk: list[dict[str, Any]] = []
        while first is not None:
            chunk.append(first)
            if len(chunk) == CHUNK:
                yield map_rows(source, split, chunk)
                chunk = []
            first = next(rows, None)
        if chunk:
            yield map_rows(source, split, chunk)


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
        original = "" if source.label_column is None else str(row[source.label_column])
        label = None
        if source.label_column and source.labels:
            if original not in source.labels:
                raise UserError(
                    f"source {source.name!r}, column {source.label_column!r}: label {original!r} is "
                    f"outside the mapping {source.labels}; correct the entry in lib.registry"
                )
            label = source.labels[original]
        role = "corpus" if source.role == "gold" and label is None else source.role
        official = "test" if role == "gold" and split == source.test_split else None
        for column in source.text_columns:
            records.append((str(row[column] or ""), label, original, source.name, source.name,
                            role, official))
    return pd.DataFrame(records, columns=COLUMNS, dtype=object)
