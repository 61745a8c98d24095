"""A run as the six steps leave it, made up: manifests, figures, predictions, executed notebooks.

Nothing is trained. Its texts and names are hostile wherever a run takes them from data.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import plotly.graph_objects as go
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lib import artefacts, files, style
from lib.clusters.purity import purity_table
from lib.evaluation import comparison
from lib.parameters import CHAPTERS, STEPS

HOSTILE = "<script>window.hacked=1</script><img src=x onerror=window.hacked=1>"
PLOTLY_MIME = "application/vnd.plotly.v1+json"
PARAMETERS: dict[str, dict[str, Any]] = {
    "01_gold_data": {"sources": ["sample"]},
    "02_base_classifier": {"base_model": "embedded:e5-small"},
    "04_cluster_purity": {"clusters": 12, "min_purity": 0.8},
    "05_metric_learning": {"base_model": "embedded:e5-small"},
}
OUTPUTS = {
    "01_gold_data": "tables/gold.parquet",
    "02_base_classifier": "model/model.safetensors",
    "03_embed_corpus": "pca/reduced.npy",
    "04_cluster_purity": "clusters.parquet",
    "05_metric_learning": "model/model.safetensors",
    "06_final_eval": "predictions/test.parquet",
}
READS = {
    "02_base_classifier": ["01_gold_data"],
    "03_embed_corpus": ["01_gold_data", "02_base_classifier"],
    "04_cluster_purity": ["03_embed_corpus"],
    "05_metric_learning": ["01_gold_data", "02_base_classifier", "04_cluster_purity"],
    "06_final_eval": ["01_gold_data", "02_base_classifier", "05_metric_learning"],
    "appendix_spaces": ["06_final_eval"],
}


def make_run(
    directory: Path,
    *,
    points: int = 60,
    test_texts: int = 90,
    right: float = 0.8,
    changes: dict[str, dict[str, Any]] | None = None,
    commit: str | None = "0123456789ab",
    steps: tuple[str, ...] = tuple(STEPS),
    seed: int = 0,
    notebooks: bool = True,
) -> Path:
    """Write a run.

    Args:
        points: texts in the corpus and its map; test_texts: gold test texts.
        right: share of right predictions of the final model; the base has 0.7.
        changes: parameters besides PARAMETERS, by step.
        steps: the steps that are complete.
    """
    rng = np.random.default_rng(seed)
    figure = plt.figure(figsize=(3, 2))
    for name in steps:
        write_manifest(directory, name, (changes or {}).get(name, {}), commit)
        figure.savefig(folder(directory / name / "figures") / "picture.png", dpi=50)
    plt.close(figure)
    picture = (directory / steps[0] / "figures" / "picture.png").read_bytes()
    if "04_cluster_purity" in steps:
        probabilities = rng.dirichlet([0.3, 0.3, 0.3], points)
        table = purity_table(rng.integers(0, 12, points), probabilities, 12)
        table.to_csv(directory / "04_cluster_purity" / "purity.csv")
        for file in ("umap.png", "purity.png"):
            (directory / "04_cluster_purity" / "figures" / file).write_bytes(picture)
    if "06_final_eval" in steps:
        write_evaluation(directory / "06_final_eval", rng, test_texts, right)
        (directory / "06_final_eval" / "figures" / "confusion.png").write_bytes(picture)
    for name in steps if notebooks else ():
        map_ = umap_view(rng, points) if name == "04_cluster_purity" else None
        notebook = executed_notebook(name, picture, map_)
        notebook.metadata["manifest"] = files.digest(artefacts.read_manifest(directory, name))
        nbformat.write(notebook, folder(directory / "notebooks") / f"{name}.ipynb")
    return directory


def folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def write_manifest(
    directory: Path,
    name: str,
    given: dict[str, Any],
    commit: str | None = None,
    content: str = "0",
) -> None:
    """A step's manifest; content: the digest of what it wrote."""
    params = CHAPTERS[name](**PARAMETERS.get(name, {}) | given)
    inputs = {}
    for step in READS.get(name, []):
        if upstream := artefacts.read_manifest(directory, step):
            file = OUTPUTS[step]
            inputs[f"{step}/{file}"] = artefacts.output_digest(upstream, file)
    files.write_json(
        directory / name / artefacts.MANIFEST,
        {
            "step": name,
            "summary": f"A line about {name}\nand one about {HOSTILE}",
            "parameters": params.model_dump(mode="json"),
            "external": {f"gold.csv {HOSTILE}": "0"},
            "inputs": inputs,
            "outputs": {OUTPUTS.get(name, "metrics.json"): content},
            "commit": commit,
            "seconds": 12.3,
            "peak_memory_mib": 1234,
            "machine": f"a processor {HOSTILE}, 2 cores, 4 GiB, a GPU",
            "finished": "2026-01-02T03:04:05+0000",
        },
    )


def write_evaluation(directory: Path, rng: np.random.Generator, count: int, right: float) -> None:
    label = np.arange(count) % 3
    frame = pd.DataFrame({"text_id": [f"{i:016x}" for i in range(count)], "label": label})
    frame["text"] = f"текст {HOSTILE}"
    for model, share in (("base", 0.7), ("final", right)):
        wrong = rng.random(count) > share
        frame[f"{model}_predicted"] = np.where(wrong, (label + 1) % 3, label)
    files.write_parquet(directory / OUTPUTS["06_final_eval"], frame)
    options = {"samples": 200, "seed": 0}
    rows = comparison.compare_models(frame, dataset="gold", split="test", **options)
    rows += comparison.compare_models(frame, dataset=HOSTILE, split="test", **options)
    files.write_json(directory / "metrics.json", rows)


def umap_view(rng: np.random.Generator, count: int) -> dict[str, Any]:
    """A map whose first text is hostile, as its JSON in a notebook."""
    words = np.array(["хорошая", "поездка", "магазин", "сегодня", "никогда", "спасибо"])
    texts = [HOSTILE] + [" ".join(row) for row in words[rng.integers(0, 6, (count - 1, 25))]]
    x, y = rng.normal(size=(2, count))
    hovers = [style.hover_text(text) for text in texts]
    figure = go.Figure(go.Scattergl(x=x, y=y, text=hovers, hoverinfo="text", mode="markers"))
    return json.loads(style.map_layout(figure, "Corpus").to_json())


def executed_notebook(
    name: str, picture: bytes, interactive: dict[str, Any] | None = None
) -> nbformat.NotebookNode:
    """A notebook with printed lines, a table, progress bars, a widget and figures as outputs."""
    table = pd.DataFrame({"text": [HOSTILE, "обычный текст за $5 и $6"], "source": HOSTILE})
    live = {"application/vnd.jupyter.widget-view+json": {"model_id": "0"}, "text/plain": "a widget"}
    shown = {"text/html": table.to_html(), "text/plain": str(table)}
    outputs = [
        new_output("stream", name="stdout", text=f"прочитано: {HOSTILE}\n"),
        new_output("stream", name="stderr", text="embedding: 100%|███| 3/3\n"),
        new_output("execute_result", execution_count=1, data=shown),
        new_output("display_data", data=live),
        new_output("display_data", data={"application/javascript": "window.hacked = 1"}),
        new_output("display_data", data={"image/png": base64.b64encode(picture).decode("ascii")}),
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
    return new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})
