"""A chapter of the report: an executed notebook as HTML.

Code is folded away, progress bars and widgets are dropped. Texts from the data come only through
pandas tables, printed lines and plotly hovers, all escaped.
"""

from __future__ import annotations

import html
import json
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

import nbformat
from nbconvert import HTMLExporter

PLOTLY_MIME = "application/vnd.plotly.v1+json"
# nbconvert's plain template, with each cell's code folded
TEMPLATE = """
{%- extends 'basic/index.html.j2' -%}
{% block input_group %}
{%- if cell.source | trim -%}
<details class="code"><summary>code</summary>{{ super() }}</details>
{%- endif -%}
{% endblock input_group %}
"""


@dataclass(frozen=True)
class Chapter:
    """A rendered notebook: its first heading, its body as HTML, and whether plotly is needed.

    Attributes:
        name: of the step, such as 01_gold_data; unique in a report.
        headings: (id, text) of the second-level headings, in order.
    """

    name: str
    title: str
    body: str
    headings: list[tuple[str, str]]
    interactive: bool


def render(name: str, notebook: nbformat.NotebookNode) -> Chapter:
    """Render an executed notebook; its outputs are changed."""
    interactive = _prepare_outputs(name, notebook)
    body, _ = HTMLExporter(raw_template=TEMPLATE).from_notebook_node(notebook)
    body = re.sub(r'<a class="anchor-link"[^>]*>[^<]*</a>', "", body)  # the contents have them
    # several chapters may share a page: what can be linked to carries the chapter's name
    body = re.sub(r'(<h[1-6] id=")', rf"\g<1>{name}-", body)
    return Chapter(name, title(notebook), body, _headings(body), interactive)


def title(notebook: nbformat.NotebookNode) -> str:
    """The first heading of a notebook."""
    first = notebook.cells[0].source.splitlines()[0]
    return first.lstrip("# ").strip()


def contents(chapter: Chapter) -> str:
    """Table of contents as HTML."""
    items = "".join(
        f"<li><a href='#{html.escape(identity)}'>{html.escape(text)}</a></li>"
        for identity, text in chapter.headings
    )
    return f"<nav class='toc' aria-label='Contents'><strong>Contents</strong><ol>{items}</ol></nav>"


def plotly_html(figure: dict[str, Any], identity: str) -> str:
    """A plotly figure, as its JSON in a notebook, as HTML for a page that has plotly's script.

    The page's own script draws it (see report.js). Letters stay UTF-8: plotly's own writer escapes
    each Cyrillic letter to six bytes.
    """
    height = int(figure["layout"].get("height", 450))
    content = {"data": figure["data"], "layout": figure["layout"]}
    # "<" could end the script; in JSON it may be written as its code
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return (
        f'<div id="{identity}" class="plotly-graph-div" style="height: {height}px"></div>'
        f'<script type="application/json" data-figure="{identity}">{text}</script>'
    )


def _prepare_outputs(name: str, notebook: nbformat.NotebookNode) -> bool:
    """Make outputs fit for a page; returns whether a plotly figure is among them."""
    interactive = False
    heading = title(notebook)
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type != "code":
            found = re.findall(r"^##+ (.+)$", cell.source, flags=re.MULTILINE)
            heading = found[-1] if found else heading
            continue
        cell.outputs = [output for output in cell.outputs if _is_shown(output)]
        for place, output in enumerate(cell.outputs):
            data = output.get("data", {})
            if PLOTLY_MIME in data:
                identity = f"{name}-figure-{number}-{place}"
                output.data = {"text/html": plotly_html(data[PLOTLY_MIME], identity)}
                interactive = True
            elif "image/png" in data:
                alternative = {"image/png": {"alt": f"Figure: {heading}"}}
                output.metadata = nbformat.from_dict(alternative)
    return interactive


def _is_shown(output: nbformat.NotebookNode) -> bool:
    """Whether a reader needs it: no progress bars, no widgets without a kernel, no scripts."""
    kinds = output.get("data", {})
    live = any(kind.startswith("application/vnd.jupyter.widget") for kind in kinds)
    return output.get("name") != "stderr" and not live and "application/javascript" not in kinds


@dataclass
class _Finder(HTMLParser):
    """Second-level headings of the notebook's own prose, not of what its cells printed."""

    found: list[tuple[str, str]] = field(default_factory=list)
    depth: int = 0
    open: bool = False

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "div":
            prose = "text_cell_render" in (given.get("class") or "")
            self.depth += bool(self.depth or prose)
        elif tag == "h2" and self.depth and given.get("id"):
            self.found.append((str(given["id"]), ""))
            self.open = True

    def handle_endtag(self, tag: str) -> None:
        if tag == "div" and self.depth:
            self.depth -= 1
        elif tag == "h2":
            self.open = False

    def handle_data(self, data: str) -> None:
        if self.open:
            identity, text = self.found[-1]
            self.found[-1] = (identity, text + data)


def _headings(body: str) -> list[tuple[str, str]]:
    finder = _Finder()
    finder.feed(body)
    finder.close()
    return finder.found
