"""The data sets of a run as one stream of rows: sample, local files and the hub.

Every data set gives frames of the same columns (see COLUMNS). What a data set is, and how its
labels map to the three classes, is declared in `lib.registry`, not here.
"""

from __future__ import annotations

import difflib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from lib import artifacts, emoticons, hub, local, readers
from lib.errors import SourceUnavailable, UserError
from lib.params import GoldDataParams
from lib.registry import REGISTRY, Source, configured

COLUMNS = ["text", "label", "original_label", "source", "group", "role", "split"]
"""text: raw; label: class name or None; role: gold or corpus; split: `test` if official, else
None; group: rows with one group share an official test split."""
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
    if (one.config, one.filters) != (other.config, other.filters):
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
            frames = partial(_frames, source, role, Path(part), rows, params)
            found.append(Portion(f"{name}/{part}", source, frames))
    return found


def _unavailable(error: SourceUnavailable) -> Iterator[pd.DataFrame]:
    raise error
    yield  # a generator, so that the error comes when the portion is read


Part = tuple[str, str, Callable[[], readers.Rows]]
"""Name of a file or split, its role (test, gold, corpus), and its rows."""


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
    optional = [source.source_column, source.original_label_column]
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
    role: str,
    path: Path,
    rows: Callable[[], readers.Rows],
    params: GoldDataParams,
) -> Iterator[pd.DataFrame]:
    """Rows of one part in its own columns as frames of COLUMNS."""
    left_out: Counter[tuple[str, str]] = Counter()
    records = map_rows(source, role, path, rows(), params, left_out)
    try:
        while True:
            chunk = list(itertools.islice(records, CHUNK))
            if not chunk and not left_out:
                return
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
    role: str,
    path: Path,
    rows: readers.Rows,
    params: GoldDataParams,
    left_out: Counter[tuple[str, str]],
) -> Iterator[tuple[str | None, ...]]:
    """Rows of a data set as tuples of COLUMNS.

    Args:
        role: of the part: test, gold or corpus.
        path: the part's name: may be the label, and is a row's source if a column could say it.
        left_out: counts (source, reason) of the rows that are not given.
    Raises:
        UserError: an empty text in a file of the user's own, a text that is none, or a label
            outside the mapping.
    """
    other_values: dict[str, None] = {}
    matched = False
    name = readers.stem(path) if source.source_column else source.name
    for place, row in rows:
        if any(str(row[column]) != value for column, value in source.filters.items()):
            left_out[name, "other " + " or ".join(source.filters)] += 1
            if len(other_values) < 10:
                other_values[", ".join(str(row[column]) for column in source.filters)] = None
            continue
        matched = True
        original, label = _label(source, place, path, row)
        row_source = str(row.get(source.source_column) or name)
        part_role = role
        if label is None and role != "corpus":
            # the rest of a test split is too near to the test to be used elsewhere
            if role == "test" or params.unlabelled_gold == "drop":
                left_out[row_source, "unlabelled"] += 1
                continue
            part_role = "corpus"
        original = str(row.get(source.original_label_column) or original)
        for text in _texts(source, place, row, params):
            yield (
                emoticons.strip(text) if source.emoticon_labels else text,
                label,
                original,
                row_source,
                source.name,
                "corpus" if part_role == "corpus" else "gold",
                "test" if part_role == "test" else None,
            )
    if not matched:
        wanted = ", ".join(f"{column} = {value}" for column, value in source.filters.items())
        raise UserError(
            f"{path}: no row has {wanted}; found {list(other_values)}"
            if wanted
            else f"{path}: no rows"
        )


def _label(source: Source, place: str, path: Path, row: dict[str, Any]) -> tuple[str, str | None]:
    """The original label as text, and its class."""
    if source.label_is_file:
        original = readers.stem(path)
    elif source.label_column:
        value = row[source.label_column]
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        missing = "" if source.kind != "hub" else "none"
        original = missing if value is None else str(value)
    else:
        return "", None
    key = original.strip().lower()
    if key not in source.labels:
        names = [name for name in source.labels if name]
        nearest = difflib.get_close_matches(key, names, n=1, cutoff=0.0)
        raise UserError(
            f"{place}, column {source.label_column}: unknown label {original!r}; expected "
            f"{', '.join(names)}{' or nothing' if '' in source.labels else ''}"
            + (f" (nearest: {nearest[0]})" if nearest else "")
        )
    return original, source.labels[key]


def _texts(
    source: Source, place: str, row: dict[str, Any], params: GoldDataParams
) -> Iterator[str]:
    """The texts of a row: one per text column, or all columns joined."""
    parts = []
    for column in source.text_columns:
        value = row[column]
        for text in value if isinstance(value, list) else [value]:
            if not isinstance(text, str | None):
                raise UserError(
                    f"{place}, column {column}: expected a text, found {type(text).__name__}"
                )
            parts.append(text or "")
    if source.joined:
        parts = ["\n".join(part for part in parts if part.strip())]
    for text in parts:
        if not text.strip() and source.name == "local" and not params.skip_empty_texts:
            raise UserError(
                f"{place}, column text: the text is empty; remove the row or set "
                "01_gold_data.skip_empty_texts to true"
            )
        yield text
