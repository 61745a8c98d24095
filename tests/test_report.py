from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lib import artifacts, cluster_plots, plots, report, report_chapter, report_front, schema
from lib.__main__ import main
from lib.errors import UserError
from made_up_clusters import write_run
from made_up_run import make_run, text_outputs, write_manifest

HOSTILE = "<script>window.hacked=1</script><img src=x onerror=alert(1)>"
NAME = "04_cluster_purity"


class Page(HTMLParser):
    """What a browser would see: elements with attributes, scripts and visible text."""

    def __init__(self, path: Path):
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.text = ""
        self._inside = None
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._inside = tag if tag in ("script", "style") else None
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._inside = None

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside == "style":
            self.styles.append(data)
        else:
            self.text += data

    def attributes(self, *names: str) -> list[str]:
        return [attrs[name] for _, attrs in self.elements for name in names if name in attrs]


def png(tmp_path: Path) -> bytes:
    figure = plots.explained_variance(np.array([0.6, 0.3]))
    figure.savefig(tmp_path / "picture.png", dpi=30)
    plt.close("all")
    return (tmp_path / "picture.png").read_bytes()


def notebook_with_outputs(picture: bytes) -> nbformat.NotebookNode:
    frame = pd.DataFrame(
        {
            "text": [HOSTILE, "обычный текст", "хороший текст"],
            "source": [HOSTILE, "а", "б"],
            "cluster": [0, 1, 2],
            "predicted": [0, 1, 2],
            "confidence": 0.9,
            "purity": 0.8,
        }
    )
    figure = cluster_plots.umap_view(np.eye(3)[:, :2], frame, "Карта корпуса")
    table = frame[["text", "source"]]
    outputs = [
        *text_outputs(table, HOSTILE),
        new_output("display_data", data={report_chapter.PLOTLY_MIME: json.loads(figure.to_json())}),
        new_output(
            "display_data",
            data={
                "image/png": base64.b64encode(picture).decode("ascii"),
                "text/plain": "<Figure size 700x350>",
            },
        ),
    ]
    return new_notebook(
        cells=[
            new_markdown_cell("# 04 · Кластеры и чистота\n\nЧто *здесь* видно."),
            new_code_cell("table  # таблица", execution_count=1, outputs=outputs),
        ],
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3"},
            "language_info": {"name": "python"},
        },
    )


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    run = tmp_path / "проба"
    (run / "notebooks").mkdir(parents=True)
    notebook = notebook_with_outputs(png(tmp_path))
    nbformat.write(notebook, run / "notebooks" / f"{NAME}.ipynb")
    (run / NAME / "figures").mkdir(parents=True)
    (run / NAME / "figures" / "umap.png").write_bytes((tmp_path / "picture.png").read_bytes())
    return run


@pytest.fixture
def page(run_dir: Path) -> Page:
    return Page(report.write(run_dir).parent / f"{NAME}.html")


def test_the_report_has_a_front_page_a_page_per_notebook_and_its_own_script(run_dir):
    index = report.write(run_dir)
    assert index == run_dir / "report" / "index.html"
    assert sorted(path.name for path in index.parent.iterdir()) == [
        f"{NAME}.html",
        "index.html",
        "plotly.min.js",
    ]
    assert "plotly.js" in (index.parent / "plotly.min.js").read_text(encoding="utf-8")[:500]
    front = Page(index)
    assert f"{NAME}.html" in front.attributes("href")
    for link in front.attributes("href", "src"):
        assert link.startswith("data:image/png;base64,") or (index.parent / link).exists()
    assert "Run проба" in front.text and "not complete" in front.text
    assert sum(tag == "img" for tag, _ in front.elements) == 1  # of the pictures, the one there is


@pytest.mark.parametrize("name", ["index", NAME])
def test_nothing_is_loaded_from_the_network(run_dir, name):
    found = Page(report.write(run_dir).parent / f"{name}.html")
    links = found.attributes("src", "href", "srcset", "action", "data", "poster")
    assert links
    assert [link for link in links if re.match(r"\s*(https?:)?//", link)] == []
    styles = "".join(found.styles) + "".join(found.attributes("style"))
    assert not re.search(r"@import|url\(\s*['\"]?(https?:)?//", styles)
    scripts = [attrs.get("src") for tag, attrs in found.elements if tag == "script"]
    wanted = ["plotly.min.js", None, None] if name == NAME else [None]  # own script, a figure
    assert scripts == wanted
    assert not {tag for tag, _ in found.elements} & {"base", "iframe", "object", "embed"}


def test_hostile_texts_are_shown_and_not_run(page):
    assert not any(name.startswith("on") for _, attrs in page.elements for name in attrs)
    assert not any(attrs.get("src") == "x" for _, attrs in page.elements)
    assert not any(script.strip().startswith("window.hacked") for script in page.scripts)
    assert page.text.count(HOSTILE) == 3  # twice in the table, once printed
    for script in page.scripts:  # in the figure's data they are escaped twice
        assert "<script" not in script and "<img" not in script
    assert sum("hacked" in script for script in page.scripts) == 1


def test_plotly_shows_hostile_texts_escaped(page):
    (script,) = [script for script in page.scripts if "hacked" in script]
    traces = json.loads(script)["data"]
    hovers = [hover for trace in traces for hover in trace["text"]]
    hostile = next(hover for hover in hovers if "hacked" in hover)
    assert "&lt;script&gt;" in hostile
    assert "<" not in hostile.replace("<br>", "")
    assert len(hovers) == 3
    assert any("обычный текст" in hover for hover in hovers) and "обычный" in script  # UTF-8


def test_the_page_shows_what_the_notebook_shows(page):
    assert any("plotly-graph-div" in attrs.get("class", "") for _, attrs in page.elements)
    pictures = [link for link in page.attributes("src") if link.startswith("data:image/png")]
    assert len(pictures) == 1
    decoded = base64.b64decode(pictures[0].split(",", 1)[1])
    assert decoded.startswith(b"\x89PNG")
    assert "таблица" in page.text and "обычный текст" in page.text
    assert any(tag == "em" for tag, _ in page.elements)  # markdown is rendered
    assert "index.html" in page.attributes("href")
    assert page.text.startswith("\n04 · Кластеры и чистота")  # <title>


def test_progress_bars_are_dropped(page):
    assert "100%" not in page.text and "прочитано:" in page.text


@pytest.mark.parametrize(
    "kind", ["application/vnd.jupyter.widget-view+json", "application/javascript"]
)
def test_what_needs_a_kernel_or_runs_is_dropped(kind, run_dir):
    path = run_dir / "notebooks" / f"{NAME}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    live = new_output("display_data", data={kind: "window.live = 1", "text/plain": "a widget"})
    notebook.cells[1].outputs.append(live)
    nbformat.write(notebook, path)
    page = Page(report.write(run_dir).parent / f"{NAME}.html")
    assert "a widget" not in page.text and not any(
        "window.live" in script for script in page.scripts
    )
    assert "прочитано:" in page.text


def test_headline_table_comes_from_the_last_step(run_dir):
    assert "macro-F1" not in Page(report.write(run_dir)).text
    rows = [
        {
            "name": name,
            "model": "final",
            "dataset": "gold",
            "split": "test",
            "texts": 321,
            "value": value,
            "low": value - 0.02,
            "high": value + 0.01,
        }
        for name, value in (("macro_f1", 0.7654), ("accuracy", 0.8123))
    ]
    (run_dir / "06_final_eval").mkdir()
    (run_dir / "06_final_eval" / "metrics.json").write_text(json.dumps(rows), encoding="utf-8")
    front = Page(report.write(run_dir))
    assert "0.765 [0.745, 0.775]" in front.text and "321" in front.text
    assert "0.812" not in front.text


@pytest.fixture(scope="module")
def complete(tmp_path_factory) -> Path:
    changes = {"03_embed_corpus": {"max_tokens": 96}, "06_final_eval": {"max_tokens": 96}}
    return make_run(tmp_path_factory.mktemp("outputs") / "made-up", changes=changes)


@pytest.fixture(scope="module")
def front(complete) -> Page:
    return Page(report.write(complete))


def test_the_front_page_says_what_was_run(front):
    assert "Data: sample" in front.text and "smoke test" in front.text
    for fact in (
        "embedded:e5-small",
        "0123456789ab",
        "2 cores",
        "1 min 14 s in 6 of 6 steps",
        "2026-01-02 03:04 UTC+0000",
    ):
        assert fact in front.text, fact
    changed = front.text.split("Parameters that differ from the defaults")[1]
    assert "03, 06max_tokens96256\n" in changed  # the same in two steps: one line
    assert "04clusters122000\n" in changed and "04min_purity0.80.9\n" in changed
    assert '01sources["sample"]["rusentiment"' in changed
    assert "seed" not in changed and "min_confidence" not in changed


def test_the_front_page_compares_base_and_final(front, complete):
    rows = artifacts.read_metrics(complete, "06_final_eval")
    chosen = [r for r in rows if r["name"] == "macro_f1" and r["dataset"] == "gold"]
    assert [row["model"] for row in chosen] == ["base", "final", "final - base"]
    line = front.text.split("what it shows")[1].split("\n")[0]
    base, final, difference = chosen
    expected = f"goldtest90{base['value']:.3f} [{base['low']:.3f}, {base['high']:.3f}]"
    expected += f"{final['value']:.3f} [{final['low']:.3f}, {final['high']:.3f}]"
    assert line.startswith(expected), line
    assert f"{difference['value']:+.3f} [{difference['low']:+.3f}" in line
    assert sum(tag == "img" for tag, _ in front.elements) == 3
    assert front.text.count("How to read it:") == 3


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.01, 0.05, "final is better"),
        (-0.05, -0.01, "final is worse"),
        (-0.01, 0.05, "no difference shown"),
    ],
)
def test_the_verdict_needs_the_whole_interval(low, high, expected):
    assert report_front.verdict({"value": 0.02, "low": low, "high": high}) == expected
    assert report_front.verdict(None) == "–"


def test_commits_of_steps_are_told_apart(tmp_path):
    run = make_run(tmp_path / "a", steps=("01_gold_data", "02_base_classifier"))
    write_manifest(run, "02_base_classifier", {"base_model": "embedded:e5-small"}, None)
    text = Page(report.write(run)).text
    assert "0123456789ab (01); not recorded (02)" in text
    assert "in 2 of 6 steps" in text


def test_chapters_are_linked_in_order(complete, front):
    names = list(schema.STEPS)
    pages = [Page(complete / "report" / f"{name}.html") for name in names]
    around = []
    for page in pages:
        rel = {attrs["rel"]: attrs["href"] for tag, attrs in page.elements if "rel" in attrs}
        around.append((rel["prev"], rel["next"]))
    files = ["index.html", *(f"{name}.html" for name in names), "index.html"]
    assert around == list(zip(files[:-2], files[2:], strict=True))
    for page in pages:
        ids = page.attributes("id")
        assert len(set(ids)) == len(ids)
        inner = [link[1:] for link in page.attributes("href") if link.startswith("#")]
        assert len(inner) == 2 and set(inner) <= set(ids)  # contents
        assert page.text.count("What there is") == 2  # in the contents, and as a heading


def test_code_is_folded_and_empty_cells_have_none(complete):
    page = Page(complete / "report" / f"{NAME}.html")
    folded = [attrs for tag, attrs in page.elements if tag == "details"]
    assert len(folded) == 2 and not any("open" in attrs for attrs in folded)
    assert sum(tag == "summary" for tag, _ in page.elements) == 2


def test_plotly_is_stored_once_and_loaded_only_where_a_figure_is(complete, front):
    folder = complete / "report"
    users = [
        p.stem for p in sorted(folder.glob("*.html")) if "src='plotly.min.js'" in p.read_text()
    ]
    assert users == [NAME]
    assert len(list(folder.glob("*.js"))) == 1
    assert all(path.stat().st_size < 2e6 for path in folder.glob("*.html"))


def test_the_explorer_is_linked_if_it_is_there(tmp_path):
    run = make_run(tmp_path / "a", steps=("01_gold_data",))
    assert "explorer.html" not in Page(report.write(run)).attributes("href")
    assert not (run / "report" / "explorer.html").exists()
    write_run(run)
    for path in (report.write(run), run / "report" / "01_gold_data.html"):
        assert "explorer.html" in Page(path).attributes("href")
    assert "01_gold_data.html" in Page(run / "report" / "explorer.html").attributes("href")


def test_a_single_file_has_everything(complete, capsys):
    assert main(["report", str(complete), "--single-file"]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert path == complete / "report" / "made-up.html"
    page = Page(path)
    assert page.attributes("src") and all(s.startswith("data:") for s in page.attributes("src"))
    ids, links = page.attributes("id"), page.attributes("href")
    assert len(set(ids)) == len(ids)
    assert all(link[1:] in ids for link in links)  # nothing outside of the file
    assert {f"#{name}" for name in schema.STEPS} <= set(links)
    assert sum("plotly.js v" in script for script in page.scripts) == 1
    for name in schema.STEPS:
        assert f"{name[:2]} · {name[3:]}" in page.text


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (4.24, "4.2 s"),
        (59.4, "59 s"),
        (60, "1 min 00 s"),
        (3599.6, "1 h 00 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_duration(seconds, expected):
    assert report_front.duration(seconds) == expected


def test_writing_again_replaces_the_pages(run_dir):
    first = report.write(run_dir)
    notebook = nbformat.read(run_dir / "notebooks" / f"{NAME}.ipynb", as_version=4)
    notebook.cells[0].source = "# Новое имя"
    nbformat.write(notebook, run_dir / "notebooks" / f"{NAME}.ipynb")
    assert report.write(run_dir) == first
    assert "Новое имя" in (first.parent / f"{NAME}.html").read_text(encoding="utf-8")


def test_without_an_executed_notebook_it_is_an_error(tmp_path):
    with pytest.raises(UserError, match="has no executed notebook; run something"):
        report.write(tmp_path)
    assert list(tmp_path.iterdir()) == []
