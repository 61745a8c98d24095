"""The data sets of a run as one stream of rows: sample, local files and the hub.

Every data set gives frames of the same columns (see COLUMNS). What a data set is, and how its
labels map to the three classes, is declared in `lib.registry`, not here.
"""

from __future__ import annotations

import difflib
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from lib import artifacts, emoticons, hub, local, readers
from lib.errors import SourceUnavailable, UserError
from lib.registry import REGISTRY, configured
from lib.schema import GoldDataParams
from lib.source import Source

COLUMNS = ["text", "label", "original_label", "source", "group", "role", "split"]
"""text: raw; label: class name or None; role: gold, foreign or corpus; split: `test` if official,
else None; group: rows with one group share an official test split."""
SAMPLE_DIR = Path(__file__).parent / "sample"
SAMPLE_FILES = [(SAMPLE_DIR / "gold.csv", "gold"), (SAMPLE_DIR / "corpus.csv", "corpus")]
CHUNK = 20_000  # rows per frame; bounds memory


@dataclass(frozen=True)
class Portion:
    """A part of a data set that is read on its own: a file or a hub split.

    name: unique in a run, such as "ru_reviews/train".
    frames: gives the rows as frames of COLUMNS with at most CHUNK rows, the same frames at each
        call. `frame.attrs["left_out"]` counts the rows that were read since the frame before and
        left out: source -> reason -> rows. The last frame may have no rows.
        Raises SourceUnavailable, or UserError for bad input.
    """

    name: str
    source: Source
    frames: Callable[[], Iterator[pd.DataFrame]]


def check(params: GoldDataParams) -> None:
    """Find what can be known to be wrong before anything is read.

    Raises:
        UserError: an unknown source, a data set that is listed twice, or a missing file.
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
    sources = [configured(name, params) for name in params.sources]
    for one, other in itertools.combinations(sources, 2):
        if shared := _shared_data(one, other):
            roles = f"as {one.role} and as {other.role}" if one.role != other.role else "twice"
            raise UserError(
                f"01_gold_data.sources: {one.name!r} and {other.name!r} are the same data set, "
                f"{shared}, which would be used {roles}; remove one of them"
            )
    for source in sources:
        if source.kind == "local":
            try:
                _files(params, source)
            except SourceUnavailable:
                if not params.skip_unavailable:
                    raise


def _shared_data(one: Source, other: Source) -> str:
    """The hub id that two sources have in common, by themselves or as mirrors; else empty."""
    for mine, theirs in ((one.config, other.config), (one.filters, other.filters)):
        if mine and theirs and mine != theirs:
            return ""
    if not set(one.splits) & set(other.splits):
        return ""
    ids = [{source.hub_id.lower(), source.mirror_of.lower()} - {""} for source in (one, other)]
    return min(ids[0] & ids[1], default="")


def fingerprint(params: GoldDataParams) -> dict[str, str]:
    """Content digests of local files, pinned revisions of hub sources."""
    found = {}
    for name in params.sources:
        source = configured(name, params)
        if source.kind == "hub":
            found[name] = f"{source.hub_id}@{source.revision}"
            continue
        try:
            files = _files(params, source)
        except SourceUnavailable:
            if not params.skip_unavailable:
                raise
            found[name] = "unavailable"
        else:
            found |= {f"{path.name} ({role})": artifacts.file_digest(path) for path, role in files}
    return found


def read(params: GoldDataParams) -> Iterator[pd.DataFrame]:
    """All rows of all sources of a run, as frames of COLUMNS.

    Raises:
        UserError: bad input; the message names file and line, or source and column.
    """
    for portion in portions(params):
        yield from portion.frames()


def portions(params: GoldDataParams) -> list[Portion]:
    """The parts of all sources of a run, in the order of `params.sources`.

    Raises:
        UserError: see `check`.
    """
    check(params)
    found = []
    for name in params.sources:
        source = configured(name, params)
        try:
            parts = _hub_parts(source) if source.kind == "hub" else _file_parts(source, params)
        except SourceUnavailable as error:  # only with skip_unavailable, see check
            found.append(Portion(name, source, partial(_unavailable, error)))
            continue
        for part, role, rows in parts:
            frames = partial(_frames, source, part, role, rows, params)
            found.append(Portion(f"{name}/{part}", source, frames))
    return found


def _unavailable(error: SourceUnavailable) -> Iterator[pd.DataFrame]:
    raise error
    yield  # a generator, so that the error comes when the portion is read


Part = tuple[str, str, Callable[[], readers.Rows]]
"""Name of a file or split, its role (test, gold, foreign, corpus), and its rows."""


def _hub_parts(source: Source) -> list[Part]:
    parts = []
    for split in source.splits:
        official = source.role == "gold" and split == source.test_split
        rows = partial(
            hub.read, source.hub_id, source.config, split, source.revision, source.columns
        )
        parts.append((split, "test" if official else source.role, rows))
    return parts


def _file_parts(source: Source, params: GoldDataParams) -> list[Part]:
    optional = ("source", "original_label") if source.says_origin else ()
    return [
        (
            path.name,
            role,
            partial(readers.read, path, source.columns, optional, source.file_format),
        )
        for path, role in _files(params, source)
    ]


def _files(params: GoldDataParams, source: Source) -> list[tuple[Path, str]]:
    if source.kind == "sample":
        return SAMPLE_FILES
    others = [configured(name, params) for name in params.sources if name != source.name]
    return local.files(params, source, [other for other in others if other.kind == "local"])


def _frames(
    source: Source,
    part: str,
    role: str,
    rows: Callable[[], readers.Rows],
    params: GoldDataParams,
) -> Iterator[pd.DataFrame]:
    left_out: Counter[tuple[str, str]] = Counter()
    records = map_rows(source, part, role, rows(), params, left_out)
    try:
        while (chunk := list(itertools.islice(records, CHUNK))) or left_out:
            frame = pd.DataFrame(chunk, columns=COLUMNS, dtype=object)
            counts: dict[str, dict[str, int]] = {}
            for (name, reason), count in left_out.items():
                counts.setdefault(name, {})[reason] = count
            frame.attrs["left_out"] = counts
            left_out.clear()
            yield frame
    except UserError as error:
        raise type(error)(f"source {source.name!r}: {error}") from error


def map_rows(
    source: Source,
    part: str,
    role: str,
    rows: readers.Rows,
    params: GoldDataParams,
    left_out: Counter[tuple[str, str]],
) -> Iterator[tuple[str | None, ...]]:
    """Rows of a data set in its own columns as tuples of COLUMNS.

    Args:
        part: name of the file or split.
        role: of the part: test, gold, foreign or corpus.
        left_out: counts (source, reason) of the rows that are not given.
    Raises:
        UserError: no row for the filters, a text that is none or empty in a file of one's own, or
            a label outside the mapping.
    """
    default_origin = readers.stem(part) if source.says_origin else source.name
    passed, others = False, set()
    for place, row in rows:
        values = {column: str(row[column]) for column in source.filters}
        if values != source.filters:
            left_out[source.name, f"other {' or '.join(values)}"] += 1
            if len(others) < 10:
                others |= set(values.values())
            continue
        passed = True
        original, label = _label(source, part, place, row)
        origin = default_origin
        if source.says_origin:
            origin = str(row.get("source") or origin)
            original = str(row.get("original_label") or original)
        row_role = role
        if label is None and role != "corpus":
            # the rest of a test split is too near to the test to be used elsewhere
            if role in ("test", "foreign") or params.unlabelled_gold == "drop":
                left_out[origin, "unlabelled"] += 1
                continue
            row_role = "corpus"
        table_role, split = ("gold", "test") if row_role == "test" else (row_role, None)
        for text in _texts(source, place, row, params):
            yield text, label, original, origin, source.name, table_role, split
    if not passed:
        raise UserError(
            f"{part} has no row with {source.filters}, found {sorted(others)}; correct the entry "
            "in lib.registry"
            if source.filters
            else f"{part} has no rows"
        )


def _label(source: Source, part: str, place: str, row: dict[str, Any]) -> tuple[str, str | None]:
    """The original label as text, and its class."""
    if source.label_is_file:
        original = readers.stem(part)
    elif source.label_column:
        value = row[source.label_column]
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        original = "" if value is None else str(value)
    else:
        return "", None
    key = original.strip().lower()
    if source.neutral_below is not None:
        return _label_of_score(source.neutral_below, key, place, source.label_column)
    if key in source.labels:
        return original, source.labels[key]
    names = [name for name in source.labels if name]
    remedy = "; correct the mapping of the entry in lib.registry"
    if source.is_own:
        remedy = f" or nothing (nearest: {difflib.get_close_matches(key, names, 1, cutoff=0)[0]})"
    raise UserError(
        f"{place}, column {source.label_column}: unknown label {original!r}; expected "
        f"{', '.join(names)}{remedy}"
    )


def _label_of_score(
    neutral_below: float, score: str, place: str, column: str | None
) -> tuple[str, str]:
    """The score rounded to an integer, as text, and its class."""
    try:
        value = float(score)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{place}, column {column}: expected a score, found {score!r}")
    sign = "positive" if value > 0 else "negative"
    return str(round(value)), "neutral" if abs(value) < neutral_below else sign


def _texts(
    source: Source, place: str, row: dict[str, Any], params: GoldDataParams
) -> Iterator[str]:
    """The texts of a row: one per text column (more if it is a list), or all columns joined."""
    parts = []
    for column in source.text_columns:
        value = row[column]
        for text in value if isinstance(value, list) else [value]:
            if not isinstance(text, str | None):
                kind = type(text).__name__
                raise UserError(f"{place}, column {column}: expected a text, found {kind}")
            parts.append(text or "")
    if source.joined:
        parts = ["\n".join(filter(str.strip, parts))]
    for text in parts:
        if not text.strip() and source.is_own and not params.skip_empty_texts:
            raise UserError(
                f"{place}, column text: the text is empty; remove the row or set "
                "01_gold_data.skip_empty_texts to true"
            )
        yield emoticons.strip(text) if source.emoticon_labels else text
