"""The report of a run: its executed notebooks as HTML, and a front page.

Every file opens from disk: styles are inline, pictures embedded, plotly's script lies beside the
pages. Texts from the data reach the pages only through pandas tables and plotly hovers, both
escaped.
"""

from __future__ import annotations

import base64
import html
import json
import shutil
from pathlib import Path
from typing import Any

import nbformat
import plotly
from nbconvert import HTMLExporter

from lib import artifacts, rounds
from lib.errors import UserError
from lib.evaluation import metrics_table
from lib.final_eval import ALL_AUDIT
from lib.schema import STEPS

PLOTLY_MIME = "application/vnd.plotly.v1+json"
PICTURES = {
    "04_cluster_purity/figures/umap.png": "UMAP of the corpus: predicted class and cluster purity",
    "04_cluster_purity/figures/purity.png": "Cluster purity and the threshold",
    "06_final_eval/figures/confusion.png": "Base against final on the gold test texts",
}
TEMPLATE = Path(__file__).parent / "report.css"


def write(run_dir: Path) -> Path:
    """Render what a run has so far into <run_dir>/report; returns the path of index.html.

    Raises:
        UserError: no executed notebook in run_dir.
    """
    executed = {
        name: path
        for name in STEPS
        if (path := Path(run_dir) / "notebooks" / f"{name}.ipynb").exists()
    }
    if not executed:
        raise UserError(f"{run_dir} has no executed notebook; run something into it first")
    target = Path(run_dir) / "report"
    target.mkdir(parents=True, exist_ok=True)
    script = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    shutil.copyfile(script, target / "plotly.min.js")
    for name, path in executed.items():
        notebook = nbformat.read(path, as_version=4)
        _write(target / f"{name}.html", _page(title(notebook), notebook_html(notebook), executed))
    index = target / "index.html"
    _write(index, _page(f"Run {Path(run_dir).name}", front_page(Path(run_dir), executed), executed))
    return index


def title(notebook: nbformat.NotebookNode) -> str:
    """The first heading of a notebook."""
    first = notebook.cells[0].source.splitlines()[0]
    return first.lstrip("# ").strip()


def notebook_html(notebook: nbformat.NotebookNode) -> str:
    """The body of a notebook as HTML, plotly figures and pictures included."""
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type != "code":
            continue
        # progress bars are for the one who waits, not for the one who reads
        outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
        for output in outputs:
            data = output.get("data", {})
            if PLOTLY_MIME in data:
                output.data = {"text/html": plotly_html(data[PLOTLY_MIME], f"figure-{number}")}
        cell.outputs = outputs
    body, _ = HTMLExporter(template_name="basic").from_notebook_node(notebook)
    return body


def plotly_html(figure: dict[str, Any], identity: str) -> str:
    """A plotly figure, as its JSON in a notebook, as HTML for a page that has plotly's script.

    Letters stay UTF-8: plotly's own writer escapes each Cyrillic letter to six bytes.
    """
    height = int(figure["layout"].get("height", 450))
    arguments = [figure["data"], figure["layout"], {"responsive": True}]
    # "<" could end the script; in JSON it may be written as its code
    values = ", ".join(json.dumps(a, ensure_ascii=False).replace("<", "\\u003c") for a in arguments)
    return (
        f'<div id="{identity}" class="plotly-graph-div" style="height: {height}px"></div>'
        f'<script>Plotly.newPlot("{identity}", {values})</script>'
    )


def front_page(run_dir: Path, executed: dict[str, Path]) -> str:
    """Headline table, key pictures, and the steps with their times."""
    parts = ["<p class='note'>" + html.escape(_data_note(run_dir)) + "</p>"]
    rows = artifacts.read_metrics(run_dir, "06_final_eval")
    if rows:
        parts += [
            "<h2>Base against final: macro-F1</h2>",
            metrics_table(headline(rows)).to_html(index=False, border=0),
            "<p>Intervals: 95%, bootstrap over texts; <em>final - base</em> is paired. Audit texts "
            "are corpus texts whose known label no training step saw. Sources one by one, and "
            "texts that are easy by construction: chapter 06.</p>",
        ]
    parts.append(rounds.html_section(run_dir))
    for file, caption in PICTURES.items():
        if (run_dir / file).exists():
            data = base64.b64encode((run_dir / file).read_bytes()).decode("ascii")
            parts.append(
                f"<figure><img alt='{caption}' src='data:image/png;base64,{data}'>"
                f"<figcaption>{caption}</figcaption></figure>"
            )
    parts += ["<h2>Chapters</h2>", _steps_table(run_dir, executed)]
    return "\n".join(parts)


def headline(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of 06's metrics that sum up a run: gold test and all audit texts."""
    chosen = (("gold", "test"), (ALL_AUDIT, "audit"))
    return [row for row in rows if (row["dataset"], row["split"]) in chosen]


def _data_note(run_dir: Path) -> str:
    manifests = {name: artifacts.read_manifest(run_dir, name) for name in STEPS}
    first, second = manifests["01_gold_data"], manifests["02_base_classifier"]
    if not first:
        return "The data of this run are not described: step 01 is not complete."
    names = first["parameters"]["sources"]
    note = f"Data: {', '.join(names)}; read: {', '.join(first['inputs'])}. "
    if second:
        note += f"Base model: {second['parameters']['base_model']}. Machine: {second['machine']}. "
    if "sample" in names:
        note += (
            "The sample corpus was written for this repository; its figures are a smoke test of "
            "the process, not a result."
        )
    return note


def _steps_table(run_dir: Path, executed: dict[str, Path]) -> str:
    lines = []
    for name in executed:
        manifest: dict[str, Any] = artifacts.read_manifest(run_dir, name) or {}
        lines.append(
            f"<tr><td><a href='{name}.html'>{name}</a></td><td>{manifest.get('seconds', '–')}</td>"
            f"<td>{manifest.get('peak_memory_mib', '–')}</td>"
            f"<td>{manifest.get('finished', 'not complete')}</td></tr>"
        )
    return (
        "<table><tr><th>step</th><th>seconds</th><th>peak memory, MiB</th><th>finished</th></tr>"
        + "".join(lines)
        + "</table>"
    )


def _page(title: str, body: str, executed: dict[str, Path]) -> str:
    links = " · ".join(
        ["<a href='index.html'>front page</a>"]
        + [f"<a href='{name}.html'>{name[:2]}</a>" for name in executed]
    )
    return (
        "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{html.escape(title)}</title><style>{TEMPLATE.read_text(encoding='utf-8')}</style>"
        "<script src='plotly.min.js'></script></head>"
        f"<body><nav>{links}</nav><main><h1 class='page'>{html.escape(title)}</h1>{body}</main>"
        "</body></html>\n"
    )


def _write(path: Path, text: str) -> None:
    with artifacts.atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
