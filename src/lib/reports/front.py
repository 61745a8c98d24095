"""What a run sums up to: its figures, and what it does differently."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lib.artefacts import read_metrics
from lib.evaluation.comparison import ALL_AUDIT, DOMAINS
from lib.models.sentiment import exported
from lib.parameters import CHAPTERS, STEPS
from lib.reports.chapters import Chapter

Row = dict[str, Any]
"""A row of metrics.json."""
MISSING = "–"
DEFAULTS = {n: schema.model_validate({}).model_dump(mode="json") for n, schema in CHAPTERS.items()}


def values(run_dir: Path, chapters: list[Chapter]) -> dict[str, Any]:
    """What the template `front_body.html` shows."""
    rows = [row for row in read_metrics(run_dir, "06_final_eval") if row["name"] == "macro_f1"]
    return {
        "run_dir": run_dir,
        "chapters": chapters,
        "headline": side_by_side(headline(rows), ("dataset", "split", "texts"), "model"),
        "model": exported(run_dir),
        "changed": differences(parameters(chapters), DEFAULTS),
    }


def headline(rows: list[Row]) -> list[Row]:
    """The rows of 06's metrics that sum up a run: gold test and other domains."""
    chosen = (("gold", "test"), (DOMAINS, "audit"), (ALL_AUDIT, "audit"))
    return [row for row in rows if (row["dataset"], row["split"]) in chosen]


def side_by_side(
    rows: Iterable[Row], line: tuple[str, ...], column: str
) -> dict[tuple[Any, ...], dict[str, Row]]:
    """Rows as the cells of a table: by what they share in a line, then by their column."""
    table: dict[tuple[Any, ...], dict[str, Row]] = {}
    for row in rows:
        table.setdefault(tuple(row[name] for name in line), {})[row[column]] = row
    return table


def parameters(chapters: Iterable[Chapter]) -> dict[str, dict[str, Any]]:
    """Those of the chapters that are complete."""
    return {c.name: c.manifest["parameters"] for c in chapters if c.manifest}


def differences(*runs: dict[str, dict[str, Any]]) -> list[tuple[str, ...]]:
    """Chapters, name and values of every parameter that is not the same in all runs.

    A chapter that is not complete in a run has no parameters there, and counts as no difference.
    Chapters in which a parameter has the same values share a line.
    """
    lines: dict[tuple[str, ...], list[str]] = {}
    for chapter, schema in CHAPTERS.items():
        for name in schema.model_fields:
            given = [run[chapter].get(name) if chapter in run else MISSING for run in runs]
            texts = [v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for v in given]
            if len({*texts} - {MISSING}) > 1:
                number = chapter[:2] if chapter in STEPS else chapter
                lines.setdefault((name, *texts), []).append(number)
    return [(", ".join(where), *line) for line, where in lines.items()]
