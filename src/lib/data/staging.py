"""From source rows to cleaned parts on disk: the first half of step 01.

Each part is one Parquet file with its texts, their ids, MinHash signatures and counts. It is there
whole or not at all, so a run that was stopped reads on after the last part.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lib.data import duplicates, language, sources
from lib.data.cleaning import clean, normalise, text_id
from lib.data.counts import Counts
from lib.errors import SourceUnavailable
from lib.files import atomic

CHUNK = 20_000  # source rows per part; bounds memory
MIN_CHARACTERS, MAX_CHARACTERS = 3, 20_000
COMMITS = "commits.json"
COLUMNS = ["text_id", "text", "label", "original_label", "source", "group", "role", "split"]
_SIGNATURE = pa.binary(2 * duplicates.VALUES)


def stage(
    portions: Iterable[sources.Portion],
    work: Path,
    *,
    seed: int,
    skip_unavailable: bool,
    on_part: Callable[[int], None],
) -> tuple[list[Path], dict[str, str]]:
    """Read and clean all portions into parts in `work`; parts that are there are kept.

    Args:
        seed: of the signatures.
        on_part: called after each part with its number of source rows.
    Returns:
        the parts in order, and for each source that could not be read the reason
        (only with skip_unavailable).
    Raises:
        UserError: bad input; SourceUnavailable: a source cannot be reached.
    """
    unavailable: dict[str, str] = {}
    for number, portion in enumerate(portions):
        done = work / f"{number:04d}.done"
        if done.exists():
            continue
        start = len([*work.glob(f"{number:04d}-*.parquet")])
        rows = itertools.islice(portion.rows(work / COMMITS), start * CHUNK, None)
        try:
            for index in itertools.count(start):
                chunk = list(itertools.islice(rows, CHUNK))
                if not chunk:
                    break
                path = work / f"{number:04d}-{index:06d}.parquet"
                _write_part(path, chunk, portion.source.russian, seed)
                on_part(len(chunk))
        except SourceUnavailable as error:
            if not skip_unavailable or (work / f"{number:04d}-000000.parquet").exists():
                raise  # what broke off half-way can be gone on with
            unavailable[portion.source.name] = str(error)
        else:
            done.touch()
    return sorted(work.glob("*.parquet")), unavailable


def _write_part(path: Path, rows: list[sources.Row], russian: bool, seed: int) -> None:
    """Clean rows of `lib.data.sources.COLUMNS` and write them as a part."""
    counts = Counts()
    frame = clean_frame(pd.DataFrame(rows, columns=sources.COLUMNS, dtype=object), counts, russian)
    normalised = [normalise(text) for text in frame["text"]]
    frame["text_id"] = [text_id(text) for text in normalised]
    columns = {name: pa.array(frame[name], pa.string(), from_pandas=True) for name in COLUMNS}
    found = pa.py_buffer(duplicates.signatures(normalised, seed).tobytes())
    signature = pa.FixedSizeBinaryArray.from_buffers(_SIGNATURE, len(frame), [None, found])
    table = pa.table(columns | {"signature": signature})
    table = table.replace_schema_metadata({"counts": json.dumps(counts.to_json())})
    with atomic(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", use_dictionary=COLUMNS[2:])


def clean_frame(frame: pd.DataFrame, counts: Counts, russian: bool) -> pd.DataFrame:
    """Source rows with cleaned texts; what is empty, too short, too long or not Russian is dropped.

    Texts of an official test split are dropped only if they are empty.

    Args:
        russian: the source is Russian by construction, so the language is not checked.
    """
    counts.add("read", frame["source"])
    for reason in frame["left_out"].dropna().unique():
        frame = counts.drop(frame, frame["left_out"] == reason, reason)
    counts.add_labels(frame)
    frame["text"] = [clean(text) for text in frame["text"]]
    frame = counts.drop(frame, frame["text"] == "", "empty")
    for reason, test in {
        "too short": lambda texts: texts.str.len() < MIN_CHARACTERS,
        "too long": lambda texts: texts.str.len() > MAX_CHARACTERS,
        "not Russian": lambda texts: False if russian else ~language.is_russian(texts.tolist()),
    }.items():
        frame = counts.drop(frame, test(frame["text"]) & (frame["split"] != "test"), reason)
    return frame


def read_rows(path: Path, role: str, columns: list[str] = COLUMNS) -> pd.DataFrame:
    """The rows of one role of a part, in order."""
    return pq.read_table(path, columns=columns, filters=[("role", "=", role)]).to_pandas()


def read_signatures(path: Path, role: str) -> np.ndarray:
    """The signatures of the same rows, uint16 [n, VALUES]."""
    table = pq.read_table(path, columns=["signature"], filters=[("role", "=", role)])
    found = b"".join(table["signature"].to_pylist())
    return np.frombuffer(found, dtype=np.uint16).reshape(-1, duplicates.VALUES)


def read_counts(path: Path) -> Counts:
    """The counts that were written with a part."""
    return Counts.from_json(json.loads(pq.read_schema(path).metadata[b"counts"]))
