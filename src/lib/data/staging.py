"""From source rows to cleaned parts on disk: the first half of step 01.

Each part is one Parquet file with its texts, their ids and MinHash signatures, and every row that
is dropped with the reason. It is there whole or not at all, so a run that was stopped reads on
after the last part.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from lib.data import duplicates, language, sources
from lib.data.cleaning import clean, normalise, text_id
from lib.data.counts import LABEL_COLUMNS
from lib.files import atomic

CHUNK = 20_000  # source rows per part; bounds memory
MIN_CHARACTERS, MAX_CHARACTERS = 3, 20_000
COMMITS = "commits.json"
COLUMNS = ["text_id", *sources.COLUMNS, "fate"]
_SIGNATURE = pa.binary(2 * duplicates.VALUES)


def stage(portions: Iterable[sources.Portion], work: Path, seed: int) -> list[Path]:
    """Read and clean all portions into parts in `work`, and return these in order.

    Args:
        seed: of the signatures.
    Raises:
        UserError: bad input, or the hub cannot be reached.
    """
    for part in sorted(work.glob("[0-9]*.parquet")):
        try:
            pq.read_metadata(part)
        except pa.ArrowInvalid as error:
            tqdm.write(f"{part} is damaged ({error}); all files are read anew")
            shutil.rmtree(work)
            break
    with tqdm(desc="reading and cleaning", unit="text") as bar:
        for number, portion in enumerate(portions):
            done = work / f"{number:04d}.done"
            if done.exists():
                continue
            start = len([*work.glob(f"{number:04d}-*.parquet")])
            rows = itertools.islice(portion.rows(work / COMMITS), start * CHUNK, None)
            while chunk := list(itertools.islice(rows, CHUNK)):
                write_part(work / f"{number:04d}-{start:06d}.parquet", chunk, portion, seed)
                bar.update(len(chunk))
                start += 1
            done.touch()
    return sorted(work.glob("[0-9]*.parquet"))  # not what a killed write has left


def write_part(path: Path, rows: list[sources.Row], portion: sources.Portion, seed: int) -> None:
    """Clean rows of a portion and write them as a part."""
    frame = pd.DataFrame(rows, columns=sources.COLUMNS, dtype=object)
    frame["text"] = [clean(text) for text in frame["text"]]
    frame["fate"] = fates(frame, portion.source.russian)
    frame.loc[frame["fate"] != "", "text"] = ""
    normalised = [normalise(text) for text in frame["text"]]
    frame["text_id"] = [text_id(text) for text in normalised]
    columns = {name: pa.array(frame[name], pa.string(), from_pandas=True) for name in COLUMNS}
    found = pa.py_buffer(duplicates.signatures(normalised, seed).tobytes())
    signature = pa.FixedSizeBinaryArray.from_buffers(_SIGNATURE, len(frame), [None, found])
    with atomic(path) as temporary:
        table = pa.table(columns | {"signature": signature})
        pq.write_table(table, temporary, compression="zstd", use_dictionary=COLUMNS[2:])


def fates(frame: pd.DataFrame, russian: bool) -> np.ndarray:
    """Which rows are dropped before texts are compared with each other.

    Texts of an official test split are dropped only if they are empty.

    Args:
        frame: columns text (clean), role and split.
        russian: the source is Russian by construction, so the language is not checked.
    Returns:
        The fate of each row (`lib.data.counts.FATES`), text [n]; empty: it stays.
    """
    size, free = frame["text"].str.len(), frame["split"] != "test"
    reasons = {
        "unlabelled": frame["role"] == "unlabelled",
        "empty": size == 0,
        "too short": free & (size < MIN_CHARACTERS),
        "too long": free & (size > MAX_CHARACTERS),
    }
    found = np.select([*reasons.values()], [*reasons], "").astype(object)
    if not russian:
        asked = np.flatnonzero((found == "") & free)
        foreign = ~language.is_russian(frame["text"].iloc[asked].tolist())
        found[asked[foreign]] = "not Russian"
    return found


def read_rows(path: Path, role: str, columns: list[str] = COLUMNS) -> pd.DataFrame:
    """The rows of one role that stay, in order."""
    return pq.read_table(path, columns=columns, filters=_staying(role)).to_pandas()


def read_signatures(path: Path, role: str) -> np.ndarray:
    """The signatures of the same rows, uint16 [n, VALUES]."""
    table = pq.read_table(path, columns=["signature"], filters=_staying(role))
    found = b"".join(table["signature"].to_pylist())
    return np.frombuffer(found, dtype=np.uint16).reshape(-1, duplicates.VALUES)


def read_fates(path: Path) -> pd.DataFrame:
    """All rows: the columns of `lib.data.counts.count`; the fate is empty if they stay."""
    return pq.read_table(path, columns=[*LABEL_COLUMNS, "fate"]).to_pandas()


def _staying(role: str) -> list[tuple[str, str, str]]:
    return [("role", "=", role), ("fate", "=", "")]
