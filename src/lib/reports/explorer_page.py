"""The cluster explorer as a page of the report, without a kernel.

One file beside plotly's script, with its data inside as JSON. Of the corpus it holds a sample of
texts; counts are of all texts. Its size is limited whatever the run's: see MAX_BYTES.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from jinja2.utils import htmlsafe_json_dumps

from lib import LABELS
from lib.clusters.explorer import KINDS, Explorer
from lib.clusters.filter import label_purity
from lib.reports import page
from lib.style import COLORS

MAX_BYTES = 25_000_000
TEXT_BYTES = 14_000_000  # of the texts, as UTF-8; the map and counts of many sources want 10
DETAILED = 5_000  # clusters described in full: the largest
PER_KIND = (2, 10)  # least and most texts per cluster that are central, at the border, unsure
BYTES_OF_TEXT = 450  # of a cut Russian text, to share them out
CHARACTERS = 300  # of a text
NEAREST = 5


def page_data(run: Explorer) -> dict[str, Any]:
    """What the template `explorer.html` shows, as JSON-like values."""
    largest = run.table["size"].sort_values(ascending=False, kind="stable")
    detailed = [int(cluster) for cluster in largest[largest > 0].index[:DETAILED]]
    per_kind = int(np.clip(TEXT_BYTES / (BYTES_OF_TEXT * 3 * max(1, len(detailed))), *PER_KIND))
    examples = {
        (cluster, kind): run.examples(cluster, kind, per_kind)
        for kind in KINDS
        for cluster in detailed
    }
    number_of_row, texts = _texts(run, [*examples.values(), run.map_rows])
    details = {cluster: _detail(run, cluster) for cluster in detailed}
    for (cluster, kind), rows in examples.items():
        numbers = (number_of_row.get(row) for row in rows.tolist())
        details[cluster][kind] = [number for number in numbers if number is not None]
    chosen = steps(np.array([run.params.min_purity, run.params.min_confidence]))
    return {
        "labels": list(LABELS),
        "colors": [COLORS[name] for name in LABELS],
        "kinds": KINDS,
        "sources": run.texts["source"].cat.categories.astype(str).tolist(),
        "total": len(run.texts),
        "characters": CHARACTERS,
        "perKind": per_kind,
        "megabytes": MAX_BYTES // 1_000_000,
        "chosen": dict(zip(("purity", "confidence"), chosen.tolist(), strict=True)),
        "map": _map(run, number_of_row),
        "clusters": run.table.fillna(0.0).round(6).to_dict("list"),
        "cells": _cells(run),
        "details": details,
        "texts": texts,
    }


def steps(values: np.ndarray) -> np.ndarray:
    """The highest hundredth that each value (in [0, 1]) reaches; int64."""
    thresholds = (np.arange(101) / 100).astype(values.dtype)
    return np.searchsorted(thresholds, values, side="right") - 1


def _cells(run: Explorer) -> dict[str, list[Any]]:
    """Texts counted by the strictest thresholds that they pass, predicted class and source.

    What a pair of thresholds keeps is a sum over cells, as a page without a kernel can do it: at
    most 101 * 101 cells per class and source.
    """
    texts = run.texts.assign(source=run.texts["source"].cat.codes)
    keys = {
        "purity": steps(label_purity(texts, run.table)),
        "confidence": steps(texts["confidence"].to_numpy()),
        **texts[["predicted", "source"]],
    }
    values = {
        "texts": 1,
        "confidence_sum": texts["confidence"].astype(float),
        "audited": (texts["audit_label"] >= 0).astype(int),
        "right": (texts["audit_label"] == texts["predicted"]).astype(int),
    }
    passing = run.passing(0.0, 0.0)  # the run's other options
    cells = pd.DataFrame(keys | values)[passing].groupby([*keys], as_index=False).sum()
    return cells.round({"confidence_sum": 6}).to_dict("list")


def _texts(run: Explorer, wanted: list[np.ndarray]) -> tuple[dict[int, int], list[list[Any]]]:
    """The texts of the page, as many as TEXT_BYTES allow.

    Args:
        wanted: rows in groups, the more important ones first.
    Returns:
        row -> its number; cluster, source, predicted, confidence, text.
    """
    rows = np.concatenate(wanted)
    _, first = np.unique(rows, return_index=True)
    # a text of 60 bytes and more on average: the rest could not fit, and is not read
    rows = rows[np.sort(first)][: TEXT_BYTES // 60]
    texts = [
        text if len(text) <= CHARACTERS else text[: CHARACTERS - 1] + "…" for text in run.read(rows)
    ]
    sizes = [len(htmlsafe_json_dumps(text, **page.JSON).encode()) + 20 for text in texts]
    count = int(np.searchsorted(np.cumsum(sizes), TEXT_BYTES, side="right"))
    known = run.texts.iloc[rows[:count]].assign(text=texts[:count])
    known["source"] = known["source"].cat.codes
    known["confidence"] = steps(known["confidence"].to_numpy())
    entries = known[["cluster", "source", "predicted", "confidence", "text"]].values.tolist()
    return {row: number for number, row in enumerate(rows[:count].tolist())}, entries


def _detail(run: Explorer, cluster: int) -> dict[str, Any]:
    nearest, sources = run.nearest(cluster, NEAREST), run.sources(cluster)
    codes = run.texts["source"].cat.categories.get_indexer(sources.index)
    return {
        "words": run.words[cluster],
        "nearest": list(zip(nearest.index.tolist(), nearest.round(3).tolist(), strict=True)),
        "sources": np.stack([codes, sources], axis=1).tolist(),
    }


def _map(run: Explorer, number_of_row: dict[int, int]) -> dict[str, list[int]]:
    points = run.map_points - run.map_points.min(0)
    places = np.rint(points / max(float(points.max()), 1e-9) * 65_535)  # finer than any screen
    known = run.texts.iloc[run.map_rows]
    passing = run.passing(0.0, 0.0)[run.map_rows]  # the run's other options
    purity = np.where(passing, steps(label_purity(known, run.table)), -1)
    columns = {
        "x": places[:, 0],
        "y": places[:, 1],
        "cluster": known["cluster"],
        "predicted": known["predicted"],
        "source": known["source"].cat.codes,
        "purity": purity,
        "confidence": steps(known["confidence"].to_numpy()),
        "text": [number_of_row.get(row, -1) for row in run.map_rows.tolist()],
    }
    return {name: np.asarray(values, dtype=np.int64).tolist() for name, values in columns.items()}
