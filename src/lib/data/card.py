"""The data card: what step 01 read, dropped and kept, source by source, as Markdown."""

from __future__ import annotations

import html
import itertools
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from lib.data.counts import LEAKS, fates_table, labels_table
from lib.data.registry import REGISTRY
from lib.parameters import GoldDataParams

MOST_SOURCES = 60  # files may name a source per row; the rest is one line
MOST_LABELS = 20
_MARKS = str.maketrans({mark: f"\\{mark}" for mark in "`*_[]|#$~"} | {"\\": "&#92;"})


def data_card(prepared: dict[str, Any], gold: pd.DataFrame, params: GoldDataParams) -> str:
    """The card of a run, as Markdown; everything that comes from data is escaped.

    Args:
        prepared: prepared.json of `lib.data.corpus.prepare`; gold: the gold table.
    """
    texts, labels = fates_table(prepared["counts"]), labels_table(prepared["counts"])
    total = texts.sum()
    labels = labels.replace({"label": {"": "—"}}).sort_values("texts", ascending=False)
    sources = labels.set_index("role").groupby(["source", "group"])
    return _template().render(
        texts=texts,
        total=total,
        dropped=total["read"] - total["kept as gold"] - total["kept in corpus"],
        leaks=total.reindex(LEAKS).sum(),
        similarity=params.near_duplicate_similarity,
        splits=gold.groupby(["source", "split"]).size().unstack(fill_value=0),
        sources=[
            (name, REGISTRY[group], rows.drop(columns=["source", "group"]))
            for (name, group), rows in itertools.islice(sources, MOST_SOURCES)
        ],
        most_sources=MOST_SOURCES,
        most_labels=MOST_LABELS,
        contents=prepared["contents"],
        notes=prepared["notes"],
    )


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lib.data"),
        finalize=lambda value: value if isinstance(value, Markup) else _escape(value),
        trim_blocks=True,
    )
    environment.globals |= {"table": _table, "number": lambda value: f"{value:,.0f}"}
    return environment.get_template("data_card.md.j2")


def _table(
    frame: pd.DataFrame, most: int | None = None, rest: str = "", total: pd.Series | None = None
) -> Markup:
    """A Markdown table of the first rows, numbers to the right, with its index."""
    rows: list[tuple[Any, ...]] = [*frame.iloc[:most].itertuples()]
    if most and len(frame) > most:
        hidden = frame.iloc[most:].sum(numeric_only=True)
        rows.append((f"{len(frame) - most} {rest}", *(hidden.get(name, "") for name in frame)))
    if total is not None:
        rows.append(("all", *total))
    names = [frame.index.name, *frame.columns]
    sides = ["---", *("---:" if pd.api.types.is_numeric_dtype(d) else "---" for d in frame.dtypes)]
    cells = [[_escape(v) if isinstance(v, str) else f"{v:,}" for v in row] for row in rows]
    lines = [[_escape(name) for name in names], sides, *cells]
    return Markup("\n".join(f"| {' | '.join(line)} |" for line in lines))


def _escape(value: object) -> str:
    """Text from data as plain text in Markdown: no HTML, no table or emphasis marks."""
    text = html.escape(" ".join(str(value).split()), quote=False)
    return text.translate(_MARKS)
