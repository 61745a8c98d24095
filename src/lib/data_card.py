"""The data card: what step 01 read, dropped and kept, source by source, as Markdown."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import pandas as pd

from lib import evaluation
from lib.artifacts import atomic
from lib.corpus import Prepared
from lib.gold import NEAR_REASONS
from lib.registry import REGISTRY, Source
from lib.schema import GoldDataParams

MOST_SOURCES = 60  # files may name a source per row; the rest is one line
MOST_LABELS = 20
LEAKS = ["twin of a test text", "twin of a gold text", *NEAR_REASONS.values()]
_MARKS = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_[]|#$~"})


def data_card(
    prepared: Prepared,
    gold: pd.DataFrame,
    agreement: list[dict[str, Any]],
    params: GoldDataParams,
) -> str:
    """The card of a run.

    Args:
        prepared: as `lib.corpus.prepare` gives it; gold: the gold table.
        agreement: as `lib.label_agreement.score` gives it.
    Returns:
        Markdown; everything that comes from data is escaped.
    """
    table = prepared.counts.table()
    kept = [name for name in table.columns if name.startswith("kept ")]
    dropped = [name for name in table.columns if name not in kept and name != "read"]
    total = table.sum()
    foreign = total.get("kept as foreign gold", 0)
    leaks = int(total.reindex(LEAKS).fillna(0).sum())
    lines = [
        "# Data card",
        "",
        f"{total['read']:,} texts read from {len(table)} sources; {total[dropped].sum():,} "
        f"dropped; {total.get('kept as gold', 0):,} kept as gold and "
        f"{total.get('kept in corpus', 0):,} in the corpus"
        f"{f', {foreign:,} as foreign gold' if foreign else ''}.",
        "",
        f"{leaks:,} of the dropped texts repeat a gold text of higher rank (test > validation > "
        "gold train > corpus): kept, they would be leaks. Two texts are the same if they are "
        "equal up to case, punctuation and emoji, and near-duplicates if their character 3-grams "
        f"have a Jaccard similarity of {params.near_duplicate_similarity} or more.",
        "",
        *_unavailable(prepared.unavailable),
        "## Read, dropped, kept",
        "",
        *_counts_table(table, ["read", *dropped, *kept]),
        "## Gold by split",
        "",
        *_rows(gold.groupby(["source", "split"]).size().unstack(fill_value=0).reset_index()),
        *_agreement(agreement),
    ]
    for source in table.index[:MOST_SOURCES]:
        lines += _source(source, prepared)
    return "\n".join(lines) + "\n"


def write(text: str, path: Path) -> None:
    """Write the card, atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _unavailable(unavailable: dict[str, str]) -> list[str]:
    if not unavailable:
        return []
    lines = ["## Not available", "", "Left out of this run (`skip_unavailable: true`):", ""]
    lines += [f"- **{_escape(name)}**: {_escape(why)}" for name, why in unavailable.items()]
    return [*lines, "", "`--force` tries them again.", ""]


def _agreement(rows: list[dict[str, Any]]) -> list[str]:
    if not rows:
        return []
    table = evaluation.metrics_table(rows).drop(columns=["dataset", "model"])
    return [
        "## Gold texts labelled twice",
        "",
        "Texts that a source has in two forms, other in case, punctuation or emoji: one label "
        "scored against the other, as if a model had given it.",
        "",
        *_rows(table),
    ]


def _counts_table(table: pd.DataFrame, columns: list[str]) -> list[str]:
    rows = table[columns].iloc[:MOST_SOURCES]
    rest = table[columns].iloc[MOST_SOURCES:]
    if len(rest):
        rows = pd.concat([rows, rest.sum().to_frame(f"{len(rest)} more sources").T])
    rows = pd.concat([rows, table[columns].sum().to_frame("all").T])
    return _rows(rows.rename_axis("source").reset_index())


def _source(source: str, prepared: Prepared) -> list[str]:
    entry: Source = REGISTRY[prepared.counts.registered[source]]
    labels = prepared.counts.labels()
    labels = labels[labels["source"] == source].sort_values("texts", ascending=False, kind="stable")
    shown = labels.head(MOST_LABELS).drop(columns="source")
    shown["label"] = shown["label"].replace("", "—")
    lines = [
        f"## {_escape(source)}",
        "",
        f"- registered as `{entry.name}`"
        + (f": {entry.hub_id} at revision {entry.revision or 'unpinned'}" if entry.hub_id else ""),
        f"- licence: {_escape(entry.licence)}",
        f"- citation: {_escape(entry.citation)}",
        "",
        *_rows(shown),
    ]
    if len(labels) > MOST_LABELS:
        lines += [f"{len(labels) - MOST_LABELS} rarer labels are not shown.", ""]
    return lines


def _rows(frame: pd.DataFrame) -> list[str]:
    """A Markdown table, numbers to the right, with an empty line after it."""
    numeric = [pd.api.types.is_numeric_dtype(frame[name]) for name in frame.columns]
    lines = [
        "| " + " | ".join(_escape(name) for name in frame.columns) + " |",
        "| " + " | ".join("---:" if number else "---" for number in numeric) + " |",
    ]
    for row in frame.itertuples(index=False):
        cells = [
            f"{value:,}" if number else _escape(value)
            for value, number in zip(row, numeric, strict=True)
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def _escape(value: object) -> str:
    """Text from data as plain text in Markdown: no HTML, no table or emphasis marks."""
    text = html.escape(" ".join(str(value).split()), quote=False)
    return text.translate(_MARKS)
