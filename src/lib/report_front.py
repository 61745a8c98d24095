"""The front page of a report: what was run, base against final, three pictures, the chapters."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from lib import artifacts, rounds
from lib.final_eval import ALL_AUDIT
from lib.report_chapter import Chapter
from lib.report_page import inner_table, picture, table
from lib.schema import STEPS

PICTURES = {
    "04_cluster_purity/figures/umap.png": (
        "UMAP of the corpus",
        "each dot is a text; islands of one colour (left) are clusters with one predicted class, "
        "dark seams (right) are mixed ones, whose texts the filter drops.",
    ),
    "04_cluster_purity/figures/purity.png": (
        "Purity of the clusters, and the threshold",
        "clusters right of the dashed line pass; a class that hardly appears there gives few "
        "pseudo-labels.",
    ),
    "06_final_eval/figures/confusion.png": (
        "Base against final on the gold test texts",
        "rows are true classes; what lies off the diagonal is a mistake, counts above and shares "
        "of the true class below.",
    ),
}
MODELS = ("base", "final", "final - base")
NOT_RECORDED = "not recorded"

Manifests = dict[str, dict[str, Any]]
"""Manifest of each complete step."""


def front_page(run_dir: Path, chapters: list[Chapter], address: Callable[[str], str]) -> str:
    """The body of the front page.

    Args:
        chapters: rendered ones; address: where a chapter is, by its name.
    """
    manifests = read_manifests(run_dir)
    parts = [f"<p class='note'>{html.escape(data_note(manifests))}</p>", _facts(manifests)]
    rows = headline(artifacts.read_metrics(run_dir, "06_final_eval"))
    if rows:
        parts += [
            "<h2>Base against final: macro-F1</h2>",
            headline_table(rows),
            "<p>Brackets: 95% intervals, bootstrap over texts; <em>final - base</em> is paired, "
            "and shows a difference only if its whole interval is on one side of 0. Audit texts "
            "are corpus texts whose known label no training step saw. Sources one by one, and "
            "texts that are easy by construction: chapter 06.</p>",
        ]
    parts.append(rounds.html_section(run_dir))
    parts += [
        picture((run_dir / file).read_bytes(), title, reading)
        for file, (title, reading) in PICTURES.items()
        if (run_dir / file).exists()
    ]
    parts += ["<h2>Chapters</h2>", _chapters(chapters, manifests, address)]
    changed = changed_parameters(manifests)
    if changed:
        parts += [
            "<h2>Parameters that differ from the defaults</h2>",
            table(("step", "parameter", "value", "default"), changed),
            "<p>Defaults are the original report's values.</p>",
        ]
    return "\n".join(parts)


def read_manifests(run_dir: Path) -> Manifests:
    """Manifests of the steps that are complete, in order."""
    found = {name: artifacts.read_manifest(run_dir, name) for name in STEPS}
    return {name: manifest for name, manifest in found.items() if manifest}


def headline(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of 06's metrics that sum up a run: gold test and all audit texts."""
    chosen = (("gold", "test"), (ALL_AUDIT, "audit"))
    return [row for row in rows if (row["dataset"], row["split"]) in chosen]


def headline_table(rows: list[dict[str, Any]], name: str = "macro_f1") -> str:
    """One line per data set and split: base, final and their difference, with intervals."""
    places: dict[tuple[str, str, int], dict[str, dict[str, Any]]] = {}
    for row in rows:
        if row["name"] == name:
            place = (row["dataset"], row["split"], row["texts"])
            places.setdefault(place, {})[row["model"]] = row
    header = ("data set", "split", "texts", *MODELS, "what it shows")
    return table(
        header,
        [
            (
                dataset,
                split,
                f"{texts:,}",
                *(with_interval(models.get(model), signed=model == MODELS[-1]) for model in MODELS),
                verdict(models.get(MODELS[-1])),
            )
            for (dataset, split, texts), models in places.items()
        ],
    )


def with_interval(row: dict[str, Any] | None, signed: bool = False) -> str:
    """A figure with its interval, `0.740 [0.719, 0.761]`; a dash where there is none."""
    if row is None:
        return "–"
    sign = "+" if signed else ""
    text = f"{row['value']:{sign}.3f}"
    if row.get("low") is None:
        return text
    return f"{text} [{row['low']:{sign}.3f}, {row['high']:{sign}.3f}]"


def verdict(difference: dict[str, Any] | None) -> str:
    """What a paired difference with its interval says, in words."""
    if difference is None or difference.get("low") is None:
        return "–"
    if difference["low"] > 0:
        return "final is better"
    return "final is worse" if difference["high"] < 0 else "no difference shown"


def changed_parameters(manifests: Manifests) -> list[tuple[str, str, str, str]]:
    """Steps, name, value and default of all parameters that differ from the schema's defaults.

    Steps in which a parameter has the same value and default share a line.
    """
    steps: dict[tuple[str, str, str], list[str]] = {}
    for step, manifest in manifests.items():
        for name, field in STEPS[step].model_fields.items():
            default = field.get_default(call_default_factory=True)
            value = manifest["parameters"].get(name, default)
            if value != default:
                steps.setdefault((name, as_text(value), as_text(default)), []).append(step[:2])
    return [(", ".join(where), *line) for line, where in steps.items()]


def as_text(value: Any) -> str:
    """A parameter's value as it would stand in a parameter file."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def data_note(manifests: Manifests) -> str:
    """Which data a run is about, and a warning if they are only the sample."""
    first = manifests.get("01_gold_data")
    if not first:
        return "The data of this run are not described: step 01 is not complete."
    names = first["parameters"]["sources"]
    note = f"Data: {', '.join(names)}; read: {', '.join(first['inputs'])}. "
    if "sample" in names:
        note += (
            "The sample corpus was written for this repository; its figures are a smoke test of "
            "the process, not a result."
        )
    return note


def per_step(manifests: Manifests, value: Callable[[dict[str, Any]], str]) -> str:
    """A value of the manifests: once if it is the same everywhere, otherwise with its steps."""
    steps: dict[str, list[str]] = {}
    for step, manifest in manifests.items():
        steps.setdefault(value(manifest), []).append(step[:2])
    if len(steps) == 1:
        return next(iter(steps))
    return "; ".join(f"{text} ({', '.join(where)})" for text, where in steps.items())


def duration(seconds: float) -> str:
    """Seconds in words: `42 s`, `5 min 02 s`, `3 h 07 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _moment(stamp: str) -> str:
    """`2026-01-02T03:04:05+0000` as people write it, to the minute."""
    return f"{stamp[:10]} {stamp[11:16]}" + (f" UTC{stamp[19:]}" if stamp[19:] else "")


def _facts(manifests: Manifests) -> str:
    if not manifests:
        return ""
    models = {s: m for s, m in manifests.items() if "base_model" in m["parameters"]}
    seconds = sum(manifest["seconds"] for manifest in manifests.values())
    facts: Iterable[tuple[str, str]] = (
        ("base model", per_step(models, lambda m: m["parameters"]["base_model"]) if models else ""),
        ("commit", per_step(manifests, lambda m: m.get("commit") or NOT_RECORDED)),
        ("machine", per_step(manifests, lambda m: m["machine"])),
        ("time", f"{duration(seconds)} in {len(manifests)} of {len(STEPS)} steps"),
        ("finished", _moment(max(manifest["finished"] for manifest in manifests.values()))),
    )
    lines = "".join(f"<dt>{name}</dt><dd>{html.escape(text)}</dd>" for name, text in facts if text)
    return f"<dl class='facts'>{lines}</dl>"


def _chapters(chapters: list[Chapter], manifests: Manifests, address: Callable[[str], str]) -> str:
    lines = []
    for chapter in chapters:
        manifest = manifests.get(chapter.name, {})
        link = f"<a href='{html.escape(address(chapter.name))}'>{html.escape(chapter.title)}</a>"
        time = duration(manifest["seconds"]) if manifest else "not complete"
        memory = f"{manifest['peak_memory_mib']:,} MiB" if manifest else "–"
        finished = _moment(manifest["finished"]) if manifest else "–"
        lines.append((link, time, memory, html.escape(finished)))
    return inner_table(("chapter", "time", "peak memory", "finished"), lines)
