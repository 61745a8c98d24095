"""A run as the six steps leave it, made up: manifests, figures, predictions, executed notebooks.

Nothing is trained. Its texts and names are hostile wherever a run takes them from data.
"""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lib import artifacts, cluster_plots, final_eval, plots, schema
from lib.purity import purity_table
from lib.report_chapter import PLOTLY_MIME

HOSTILE = "<script>window.hacked=1</script><img src=x onerror=window.hacked=1>"
PARAMETERS: dict[str, dict[str, Any]] = {
    "01_gold_data": {"sources": ["sample"]},
    "02_base_classifier": {"base_model": "embedded:e5-small"},
    "04_cluster_purity": {"clusters": 12, "min_purity": 0.8},
    "05_metric_learning": {"base_model": "embedded:e5-small"},
}


def make_run(
    directory: Path,
    *,
    points: int = 60,
    test_texts: int = 90,
    right: float = 0.8,
    changes: dict[str, dict[str, Any]] | None = None,
    commit: str | None = "0123456789ab",
    steps: tuple[str, ...] = tuple(schema.STEPS),
    seed: int = 0,
    pictures: bool = True,
) -> Path:
    """Write a run.

    Args:
        points: texts in the corpus and its map; test_texts: gold test texts.
        right: share of right predictions of the final model; the base has 0.7.
        changes: parameters besides PARAMETERS, by step.
        steps: the steps that are complete.
        pictures: with the executed notebooks and the figures; drawing them takes seconds.
    """
    rng = np.random.default_rng(seed)
    for name in steps:
        given = PARAMETERS.get(name, {}) | (changes or {}).get(name, {})
        write_manifest(directory, name, given, commit)
    if "04_cluster_purity" in steps:
        write_clusters(directory / "04_cluster_purity", rng, points, pictures)
    if "06_final_eval" in steps:
        write_evaluation(directory / "06_final_eval", rng, test_texts, right, pictures)
    if not pictures:
        return directory
    picture = encoded(plots.explained_variance(np.array([0.5, 0.2])))
    for name in steps:
        map_ = umap_view(rng, points) if name == "04_cluster_purity" else None
        path = directory / "notebooks" / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(executed_notebook(name, picture, map_), path)
    return directory


def write_manifest(directory: Path, name: str, given: dict[str, Any], commit: str | None) -> None:
    parameters = schema.STEPS[name](**given).model_dump(mode="json")
    artifacts.write_json(
        directory / name / artifacts.MANIFEST,
        {
            "step": name,
            "parameters": parameters,
            "inputs": {f"gold.csv {HOSTILE}": "0"},
            "commit": commit,
            "seconds": 12.3,
            "peak_memory_mib": 1234,
            "machine": f"a processor {HOSTILE}, 2 cores",
            "finished": "2026-01-02T03:04:05+0000",
        },
    )


def write_clusters(directory: Path, rng: np.random.Generator, points: int, pictures: bool) -> None:
    probabilities = rng.dirichlet([0.3, 0.3, 0.3], points)
    table = purity_table(rng.integers(0, 12, points), probabilities, 12)
    table.to_csv(directory / "purity.csv")
    if not pictures:
        return
    save(cluster_plots.purity_histogram(table, 0.8), directory / "figures" / "purity.png")
    count = min(points, 500)
    figure = cluster_plots.umap_static(rng.normal(size=(count, 2)), corpus(rng, count), "Corpus")
    save(figure, directory / "figures" / "umap.png")


def write_evaluation(
    directory: Path, rng: np.random.Generator, count: int, right: float, pictures: bool
) -> None:
    label = np.arange(count) % 3
    frame = pd.DataFrame({"text_id": [f"{i:016x}" for i in range(count)], "label": label})
    frame["text"] = f"текст {HOSTILE}"
    for model, share in (("base", 0.7), ("final", right)):
        wrong = rng.random(count) > share
        frame[f"{model}_predicted"] = np.where(wrong, (label + 1) % 3, label)
    frame.to_parquet(directory / "predictions.parquet", index=False)
    options = {"samples": 200, "seed": 0}
    rows = final_eval.compare_models(frame, dataset="gold", split="test", **options)
    rows += final_eval.compare_models(frame, dataset=HOSTILE, split="test", **options)
    artifacts.write_json(directory / "metrics.json", rows)
    if not pictures:
        return
    figure = plots.confusion_matrices(final_eval.matrices(frame), f"gold test, {count} texts")
    save(figure, directory / "figures" / "confusion.png")


def corpus(rng: np.random.Generator, count: int) -> pd.DataFrame:
    """Texts of the length of posts; the first is hostile."""
    words = np.array(
        ["хорошая", "поездка", "магазин", "сегодня", "никогда", "спасибо", "вернуться"]
    )
    texts = [" ".join(row) for row in words[rng.integers(0, len(words), (count, 25))]]
    return pd.DataFrame(
        {
            "text": [HOSTILE, *texts[1:]],
            "source": HOSTILE[:40],
            "cluster": rng.integers(0, 12, count),
            "predicted": np.arange(count) % 3,
            "confidence": rng.uniform(0.4, 1, count),
            "purity": rng.uniform(0.4, 1, count),
        }
    )


def umap_view(rng: np.random.Generator, count: int) -> dict[str, Any]:
    figure = cluster_plots.umap_view(rng.normal(size=(count, 2)), corpus(rng, count), "Corpus")
    return json.loads(figure.to_json())


def text_outputs(table: pd.DataFrame, printed: str) -> list[nbformat.NotebookNode]:
    """Outputs of a cell: a printed line, a progress bar, a table."""
    return [
        new_output("stream", name="stdout", text=f"прочитано: {printed}\n"),
        new_output("stream", name="stderr", text="embedding: 100%|███| 3/3\n"),
        new_output(
            "execute_result",
            execution_count=1,
            data={"text/html": table.to_html(), "text/plain": str(table)},
        ),
    ]


def executed_notebook(
    name: str, picture: str, interactive: dict[str, Any] | None = None
) -> nbformat.NotebookNode:
    """A notebook with printed lines, a table, progress bars and figures in its outputs."""
    table = pd.DataFrame({"text": [HOSTILE, "обычный текст"], "source": HOSTILE})
    outputs = [
        *text_outputs(table, HOSTILE),
        new_output("display_data", data={"image/png": picture}),
    ]
    if interactive:
        outputs.append(new_output("display_data", data={PLOTLY_MIME: interactive}))
    cells = [
        new_markdown_cell(f"# {name[:2]} · {name[3:]}\n\nЧто *здесь* видно."),
        new_markdown_cell("## What there is\n\nA sentence."),
        new_code_cell("table  # таблица", execution_count=1, outputs=outputs),
        new_markdown_cell("*How to read it:* from left to right.\n\n## Write"),
        new_code_cell("done = True", execution_count=2),
    ]
    language = {"language_info": {"name": "python"}}
    return new_notebook(cells=cells, metadata=language)


def save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=60)


def encoded(figure: Figure) -> str:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=60)
    return base64.b64encode(content.getvalue()).decode("ascii")
