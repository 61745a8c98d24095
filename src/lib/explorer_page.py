"""The cluster explorer as a page of the report, without a kernel.

One file beside plotly's script, with its data inside as JSON. Of the corpus it holds a sample of
texts; counts are of all texts. Its size is limited whatever the run's: see MAX_BYTES.
"""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from lib import LABELS, explorer, report_page
from lib.explorer import KINDS, Explorer
from lib.plots import COLORS
from lib.threshold_counts import steps

NAME = "explorer.html"
FOLDER = Path(__file__).parent
MAX_BYTES = 25_000_000
TEXT_BYTES = 16_000_000  # of the texts, as UTF-8
DETAILED = 5_000  # clusters described in full: the largest
PER_KIND = (2, 10)  # least and most texts per cluster that are central, at the border, unsure
BYTES_OF_TEXT = 450  # of a cut Russian text, to share them out
CHARACTERS = 300  # of a text
NEAREST = 5


def write(run_dir: Path, target_dir: Path, links: report_page.Links = ()) -> Path | None:
    """Write explorer.html; a page of an earlier state of the run is removed.

    Args:
        target_dir: the report's folder, where plotly's script lies.
        links: the report's navigation.
    Returns:
        Its path, or None if step 04 has not left what it needs.
    """
    target = Path(target_dir) / NAME
    if not explorer.is_ready(run_dir):
        target.unlink(missing_ok=True)
        return None
    report_page.write(target, page(explorer.load(run_dir), links))
    return target


def page(run: Explorer, links: report_page.Links = ()) -> str:
    """The page as HTML."""
    body, style, script = (
        (FOLDER / name).read_text(encoding="utf-8")
        for name in ("explorer.html", "explorer.css", "explorer.js")
    )
    # in a script element "<" could begin its end; in JSON it may be written as its code
    data = json.dumps(page_data(run), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    before, between, after = re.split(r"\{\{(?:DATA|SCRIPT)\}\}", body)
    body = before + data.replace("<", "\\u003c") + between + script + after
    head = f"{report_page.plotly_tag()}<style>{style}</style>"
    title = f"Cluster explorer: {run.run_dir.name}"
    return report_page.page(title, body, links, here=NAME, plotly_script=head)


def page_data(run: Explorer) -> dict[str, Any]:
    """Everything the page shows, as JSON-like values."""
    largest = run.table["size"].sort_values(ascending=False, kind="stable")
    detailed = [int(cluster) for cluster in largest[largest > 0].index[:DETAILED]]
    texts = _Texts(run)
    per_kind = int(np.clip(TEXT_BYTES / (BYTES_OF_TEXT * 3 * max(1, len(detailed))), *PER_KIND))
    details = {cluster: _detail(run, cluster) for cluster in detailed}
    for kind in KINDS:
        for cluster in detailed:
            texts.want((cluster, kind), run.examples(cluster, kind, per_kind))
    texts.want("map", run.map_rows)
    texts.read()
    for cluster, detail in details.items():
        detail |= {kind: texts.numbers((cluster, kind)) for kind in KINDS}
    thresholds, params = run.thresholds, run.params
    cells = thresholds.cells
    types = {"purity": "u1", "confidence": "u1", "predicted": "u1", "source": "u2"}
    types |= {"confidence_sum": "f8", "texts": "i4", "audited": "i4", "right": "i4"}
    return {
        "labels": list(LABELS),
        "colors": [COLORS[name] for name in LABELS],
        "kinds": KINDS,
        "sources": thresholds.sources,
        "total": thresholds.total,
        "run": {
            "name": run.run_dir.name,
            "purity": int(steps(np.array([params.min_purity]))[0]),
            "confidence": int(steps(np.array([params.min_confidence]))[0]),
            "note": _run_note(run),
        },
        "limits": _limits(run, texts, len(detailed), per_kind),
        "map": _map(run, texts),
        "clusters": _clusters(run),
        "cells": {name: _pack(cells[name], kind) for name, kind in types.items()},
        "details": details,
        "texts": texts.entries,
    }


class _Texts:
    """The texts of the page: wanted in order of importance, read at once, limited in bytes."""

    def __init__(self, run: Explorer) -> None:
        self.run = run
        self.groups: dict[Any, np.ndarray] = {}
        self.entries: list[list[Any]] = []
        self.number_of_row: dict[int, int] = {}

    def want(self, name: Any, rows: np.ndarray) -> None:
        self.groups[name] = rows

    def read(self) -> None:
        empty = [np.empty(0, dtype=np.int64)]
        wanted = np.concatenate([*self.groups.values(), *empty])
        _, first = np.unique(wanted, return_index=True)
        # a text of 60 bytes and more on average: the rest could not fit, and is not read
        wanted = wanted[np.sort(first)][: TEXT_BYTES // 60]
        known = self.run.texts.iloc[wanted]
        columns = [known["cluster"], known["source"].cat.codes, known["predicted"]]
        columns.append(steps(known["confidence"].to_numpy()))
        left = TEXT_BYTES
        for row, text, *about in zip(wanted, self.run.read(wanted), *columns, strict=True):
            text = text if len(text) <= CHARACTERS else text[: CHARACTERS - 1] + "…"
            left -= len(json.dumps(text, ensure_ascii=False).encode()) + 5 * text.count("<") + 20
            if left < 0:
                break
            self.number_of_row[int(row)] = len(self.entries)
            self.entries.append([*map(int, about), text])

    def numbers(self, name: Any) -> list[int]:
        found = (self.number_of_row.get(int(row)) for row in self.groups[name])
        return [number for number in found if number is not None]


def _detail(run: Explorer, cluster: int) -> dict[str, Any]:
    codes = {name: code for code, name in enumerate(run.thresholds.sources)}
    nearest = run.nearest(cluster, NEAREST)
    return {
        "words": run.words[cluster],
        "nearest": [[int(other), round(float(d), 3)] for other, d in nearest.items()],
        "sources": [[codes[str(name)], int(n)] for name, n in run.sources(cluster).items()],
    }


def _map(run: Explorer, texts: _Texts) -> dict[str, Any]:
    points = run.map_points - run.map_points.min(0)
    places = np.rint(points / max(float(points.max()), 1e-9) * 65_535)  # finer than any screen
    known = run.texts.iloc[run.map_rows]
    numbers = [texts.number_of_row.get(int(row), -1) for row in run.map_rows]
    return {
        "x": _pack(places[:, 0], "u2"),
        "y": _pack(places[:, 1], "u2"),
        "cluster": _pack(known["cluster"], "i4"),
        "predicted": _pack(known["predicted"], "u1"),
        "source": _pack(known["source"].cat.codes, "u2"),
        "confidence": _pack(steps(known["confidence"].to_numpy()), "u1"),
        "passes": _pack(run.passing(0.0, 0.0)[run.map_rows], "u1"),
        "text": _pack(numbers, "i4"),
    }


def _clusters(run: Explorer) -> dict[str, Any]:
    table = run.table.fillna(0.0)
    floats = {
        "purity": "purity",
        "lower": "purity_lower_bound",
        "confidence": "mean_confidence",
        "entropy": "mean_entropy",
    }
    return {
        "size": _pack(table["size"], "i4"),
        **{name: _pack(table[name], "i4") for name in LABELS},
        "dominant": _pack(table["dominant"], "u1"),
        "step": _pack(steps(np.nan_to_num(run.purity)), "u1"),
        **{name: _pack(table[column], "f4") for name, column in floats.items()},
    }


def _limits(run: Explorer, texts: _Texts, detailed: int, per_kind: int) -> str:
    clusters = int((run.table["size"] > 0).sum())
    note = (
        f"Run {run.run_dir.name}: {len(run.texts):,} texts in {clusters:,} clusters. Counts are of "
        f"all texts; the map shows {len(run.map_rows):,}. This page holds {len(texts.entries):,} "
        f"texts: up to {per_kind} per cluster nearest to the centre, at the border and least sure, "
        f"then those of the map, cut after {CHARACTERS} characters, as many as fit, so that the "
        f"page stays below {MAX_BYTES / 1e6:.0f} MB."
    )
    if detailed < clusters:
        note += f" Texts, words and sources are those of the {detailed:,} largest clusters."
    return note + " All texts: notebooks/explore_clusters.ipynb."


def _run_note(run: Explorer) -> str:
    params = run.params
    note = f"purity {params.min_purity:g}, confidence {params.min_confidence:g}: "
    note += f"{int(run.texts['kept'].sum()):,} texts kept"
    if params.confident_share < 1:
        note += f"; the most confident {params.confident_share:.0%} of each predicted class"
    if params.require_dominant:
        note += "; only predictions of the cluster's dominant class"
    if params.purity_measure != "purity":
        note += "; the threshold acts on the lower bound of the purity"
    if params.max_entropy is not None:
        note += f"; mean entropy up to {params.max_entropy:g} nats"
    if params.min_cluster_size > 1:
        note += f"; clusters of {params.min_cluster_size} texts and more"
    return note


def _pack(values: Any, kind: str) -> dict[str, str]:
    """An array as base64 of little-endian numbers."""
    data = np.ascontiguousarray(np.asarray(values), dtype=np.dtype(kind).newbyteorder("<"))
    return {"type": kind, "data": base64.b64encode(data.tobytes()).decode("ascii")}
