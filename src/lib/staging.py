"""From source rows to cleaned parts on disk: the first half of step 01.

Each part is one Parquet file with its texts, their ids, MinHash signatures and counts. It is there
whole or not at all, so a run that was stopped reads on after the last part.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lib import duplicates, language
from lib.artifacts import atomic
from lib.cleaning import clean, id_of_normalised, normalise
from lib.counts import Counts
from lib.errors import SourceUnavailable
from lib.sources import Portion

COLUMNS = ["text_id", "text", "label", "original_label", "source", "group", "role", "split"]
_SIGNATURE = pa.binary(2 * duplicates.VALUES)
_SCHEMA = pa.schema([*((name, pa.string()) for name in COLUMNS), ("signature", _SIGNATURE)])
_COUNTS = b"counts"


def stage(
    portions: Iterable[Portion],
    work: Path,
    *,
    seed: int,
    min_characters: int,
    max_characters: int,
    skip_unavailable: bool,
    on_part: Callable[[int], None],
) -> tuple[list[Path], dict[str, str]]:
    """Read and clean all portions into parts in `work`; parts that are there are kept.

    Args:
        on_part: called after each part with its number of source rows.
        others: see `lib.schema.GoldDataParams`.
    Returns:
        the parts in order, and for each source that could not be read the reason
        (only with skip_unavailable).
    Raises:
        UserError: bad input; SourceUnavailable: a source cannot be reached.
    """
    parts: list[Path] = []
    unavailable: dict[str, str] = {}
    for number, portion in enumerate(portions):
        done = work / f"{number:04d}.done"
        if not done.exists():
            try:
                _stage_portion(portion, work, number, seed, min_characters, max_characters, on_part)
            except SourceUnavailable as error:
                if not skip_unavailable or _parts(work, number):
                    raise  # what broke off half-way can be gone on with
                unavailable[portion.source.name] = str(error)
                continue
            with atomic(done) as temporary:
                temporary.write_text(portion.name, encoding="utf-8")
        parts += _parts(work, number)
    return parts, unavailable


def _parts(work: Path, number: int) -> list[Path]:
    return sorted(work.glob(f"{number:04d}-*.parquet"))


def _stage_portion(
    portion: Portion,
    work: Path,
    number: int,
    seed: int,
    min_characters: int,
    max_characters: int,
    on_part: Callable[[int], None],
) -> None:
    done = len(_parts(work, number))
    for index, frame in enumerate(itertools.islice(portion.frames(), done, None), done):
        rows = len(frame)
        counts = Counts()
        counts.add_read(frame)
        counts.add_left_out(frame.attrs.get("left_out", {}))
        frame = clean_frame(frame, counts, portion.source.russian, min_characters, max_characters)
        normalised = [normalise(text) for text in frame["text"]]
        frame["text_id"] = [id_of_normalised(text) for text in normalised]
        signatures = duplicates.signatures(normalised, seed)
        write_part(work / f"{number:04d}-{index:06d}.parquet", frame, signatures, counts)
        on_part(rows)


def clean_frame(
    frame: pd.DataFrame, counts: Counts, russian: bool, min_characters: int, max_characters: int
) -> pd.DataFrame:
    """Source rows with cleaned texts; what is empty, too short or too long is dropped, and what is
    not Russian, or Russian among foreign gold.

    Texts of an official test split are dropped only if they are empty.

    Args:
        russian: the source is Russian by construction, so the language is not checked.
    """
    frame = frame.reset_index(drop=True)
    frame["text"] = [clean(text) for text in frame["text"]]
    frame = counts.drop(frame, frame["text"] == "", "empty")
    bad = {
        "too short": lambda texts: texts.str.len() < min_characters,
        "too long": lambda texts: texts.str.len() > max_characters,
    }
    if (frame["role"] == "foreign").any():  # a part has one role, but for unlabelled gold rows
        bad["Russian"] = lambda texts: _is_cyrillic(texts) & language.is_russian(texts.tolist())
    elif not russian:
        bad["not Russian"] = lambda texts: ~language.is_russian(texts.tolist())
    for reason, test in bad.items():
        official = (frame["split"] == "test").to_numpy()
        frame = counts.drop(frame, np.asarray(test(frame["text"])) & ~official, reason)
    return frame


def _is_cyrillic(texts: pd.Series) -> np.ndarray:
    """Whether texts have a Cyrillic letter: a text too short to judge counts as Russian else."""
    return texts.str.contains("[\u0400-\u04ff]").to_numpy(bool)


def write_part(path: Path, frame: pd.DataFrame, signatures: np.ndarray, counts: Counts) -> None:
    """Write one part, atomically: COLUMNS of `frame`, uint16 [n, 128] signatures, the counts."""
    columns = [pa.array(frame[name], pa.string(), from_pandas=True) for name in COLUMNS]
    flat = pa.py_buffer(np.ascontiguousarray(signatures).tobytes())
    columns.append(pa.FixedSizeBinaryArray.from_buffers(_SIGNATURE, len(frame), [None, flat]))
    table = pa.Table.from_arrays(columns, schema=_SCHEMA)
    table = table.replace_schema_metadata({_COUNTS: counts.to_json().encode()})
    with atomic(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", use_dictionary=COLUMNS[2:])


def read_part(path: Path, role: str) -> tuple[pd.DataFrame, np.ndarray]:
    """The rows of one role of a part: COLUMNS, and their signatures uint16 [n, 128]."""
    table = pq.read_table(path, filters=[("role", "=", role)])
    flat = b"".join(table["signature"].to_pylist())
    signatures = np.frombuffer(flat, dtype=np.uint16).reshape(-1, duplicates.VALUES)
    return table.drop_columns("signature").to_pandas().astype(object), signatures


def read_rows(path: Path, role: str) -> pd.DataFrame:
    """The rows of one role of a part, without their signatures: COLUMNS."""
    table = pq.read_table(path, columns=COLUMNS, filters=[("role", "=", role)])
    return table.to_pandas().astype(object)


def read_counts(path: Path) -> Counts:
    """The counts that were written with a part."""
    return Counts.from_json(pq.read_schema(path).metadata[_COUNTS].decode())
