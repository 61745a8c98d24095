"""Pages of a run: what they show, that they ask nobody, and that they say what does not fit."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_markdown_cell

from lib import artefacts
from lib.__main__ import main
from lib.errors import UserError
from lib.parameters import STEPS
from lib.reports import chapters, front, page, report
from made_up_run import HOSTILE, executed_notebook, make_run, write_manifest

NAME = "04_cluster_purity"


class Page(HTMLParser):
    """What a browser would see: elements with attributes, scripts and visible text."""

    def __init__(self, path: Path):
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.content: dict[str, list[str]] = {"script": [], "style": []}
        self.text = ""
        self._inside = None
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        self.scripts = self.content["script"]

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._inside = tag if tag in self.content else None
        if self._inside:
            self.content[tag].append("")

    def handle_endtag(self, tag):
        self._inside = None
        self.text += "\n" if tag in ("tr", "p") else " " if tag in ("td", "th") else ""

    def handle_data(self, data):
        if self._inside:
            self.content[self._inside][-1] += data
        else:
            self.text += data

    def attributes(self, *names: str) -> list[str]:
        return [attrs[name] for _, attrs in self.elements for name in names if name in attrs]

    def banners(self) -> list[str]:
        return re.findall(
            r"(?:Out of date|Another execution|Not complete)\.\s.*?\n\n", self.text + "\n", re.S
        )


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory) -> Path:
    changes = {"03_embed_corpus": {"max_tokens": 96}, "06_final_eval": {"max_tokens": 96}}
    run = make_run(tmp_path_factory.mktemp("outputs") / "проба", changes=changes)
    report.write(run)
    return run


@pytest.fixture(scope="module")
def front_page(run_dir) -> Page:
    return Page(run_dir / "report" / "index.html")


@pytest.fixture(scope="module")
def chapter(run_dir) -> Page:
    return Page(run_dir / "report" / f"{NAME}.html")


def test_the_report_is_a_folder_that_asks_nobody(run_dir):
    folder = run_dir / "report"
    pages = ["index.html", *(f"{name}.html" for name in STEPS)]
    assert sorted(path.name for path in folder.iterdir()) == sorted([*pages, "plotly.min.js"])
    for name in pages:
        found = Page(folder / name)
        links = found.attributes("src", "href", "srcset", "action", "data", "poster")
        local = [link for link in links if not link.startswith(("data:image/png;base64,", "#"))]
        assert local and all((folder / link).exists() for link in local)
        assert not re.search(r"@import|url\(", "".join(found.content["style"]))
        forbidden = {"base", "iframe", "object", "embed", "link"}
        assert not {tag for tag, _ in found.elements} & forbidden
        # whoever reads the page need not trust the code above: no address is there at all
        assert not re.search(r"https?://", (folder / name).read_text("utf-8"))
        scripts = [attrs.get("src") for tag, attrs in found.elements if tag == "script"]
        assert ("plotly.min.js" in scripts) == (name == f"{NAME}.html")
        assert (folder / name).stat().st_size < 1e6


def test_hostile_texts_are_shown_and_not_run(run_dir, front_page, chapter):
    for found in (front_page, chapter):
        assert HOSTILE in found.text
        assert not any(name.startswith("on") for _, attrs in found.elements for name in attrs)
        assert "x" not in found.attributes("src")
        assert not any(script.strip().startswith("window.hacked") for script in found.scripts)
        assert not any("<script" in script for script in found.scripts)
    assert chapter.text.count(HOSTILE) == 4  # printed once, three times in the table
    assert "обычный текст за $5 и $6" in chapter.text  # and no formula
    (figure,) = [script for script in chapter.scripts if "hacked" in script]
    hovers = json.loads(figure)["data"][0]["text"]
    assert "&lt;script&gt;" in hovers[0] and "<" not in hovers[0].replace("<br>", "")
    assert "сегодня" in figure  # as UTF-8


def test_a_chapter_shows_what_its_notebook_shows(chapter):
    assert chapter.text.startswith("\n04 · cluster_purity") or "04 · cluster_purity" in chapter.text
    assert "прочитано:" in chapter.text and "таблица" in chapter.text
    assert "100%" not in chapter.text and "a widget" not in chapter.text
    assert not any("hacked = 1" in script for script in chapter.scripts)
    (picture,) = [attrs for tag, attrs in chapter.elements if tag == "img"]
    assert base64.b64decode(picture["src"].split(",")[1]).startswith(b"\x89PNG")
    assert picture["alt"] == "Figure: What there is"
    folded = [attrs for tag, attrs in chapter.elements if tag == "details"]
    assert len(folded) == 2 and not any("open" in attrs for attrs in folded)
    contents = [link[1:] for link in chapter.attributes("href") if link.startswith("#")]
    ids = chapter.attributes("id")
    assert len(contents) == 2 and set(contents) <= set(ids) and len(ids) == len(set(ids))
    assert chapter.text.count("What there is") == 2  # in the contents, and as a heading
    around = {attrs["rel"]: attrs["href"] for _, attrs in chapter.elements if "rel" in attrs}
    assert around == {"prev": "03_embed_corpus.html", "next": "05_metric_learning.html"}
    assert chapter.banners() == []


def test_the_front_page_says_what_was_run(front_page, run_dir):
    text = front_page.text
    assert "Data: sample" in text and "a smoke test of the process, not a result" in text
    for fact in ("0123456789ab", "2 cores, 4 GiB, a GPU", "1 min 14 s in 6 of 6 chapters"):
        assert fact in text, fact
    assert "embedded:e5-small (02, 05); jhu-clsp/mmBERT-base (03)" in text
    assert "and one about <script>" in text and "1,234 MiB" in text
    assert front_page.banners() == []
    changed = text.split("Parameters that differ from the defaults")[1]
    assert "03, 06 max_tokens 96 256" in changed  # the same in two steps: one line
    assert "04 clusters 12 2000" in changed and "seed" not in changed
    rows = artefacts.read_metrics(run_dir, "06_final_eval")
    base, final, difference = [
        f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
        for row in rows
        if row["name"] == "macro_f1" and row["dataset"] == "gold"
    ]
    verdicts = "(final is better|base is better|no difference shown)"
    line = re.escape(f"{base} {final} {difference} ") + verdicts
    assert re.search(line, text), text
    assert text.count("How to read it:") == 3


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.01, 0.05, "a is better"),
        (-0.05, -0.01, "b is better"),
        (-0.01, 0.05, "no difference shown"),
    ],
)
def test_the_verdict_needs_the_whole_interval(low, high, expected):
    macros = page.environment().get_template("macros.html").module
    assert macros.verdict({"value": 0.02, "low": low, "high": high}, "b", "a") == expected
    assert macros.verdict(None) == macros.interval(None) == "–"


def test_another_execution_of_04_makes_05_and_06_out_of_date(tmp_path):
    run = make_run(tmp_path / "run")
    write_manifest(run, NAME, {"min_purity": 0.95}, content="another")
    state = {c.number: (c.stale, c.foreign) for c in chapters.read(run)}
    assert [number for number, (stale, _) in state.items() if stale] == ["05", "06"]
    assert [number for number, (_, foreign) in state.items() if foreign] == ["04"]
    report.write(run)
    shown = {name: Page(run / "report" / f"{name}.html").banners() for name in ["index", *STEPS]}
    assert [name[:2] for name, banners in shown.items() if banners] == ["in", "04", "05", "06"]
    (foreign,), (changed,), (late,) = (shown[name] for name in list(STEPS)[3:])
    assert "another execution of its notebook" in foreign and "--from 04" in foreign
    assert "no longer holds: 04_cluster_purity/clusters.parquet" in changed
    assert "builds on 05_metric_learning, which is out of date" in late
    assert "python -m lib run … --from 05" in changed and "--from 05" in late
    *notes, headline = shown["index"]
    assert len(notes) == 3 and "This table builds on 05_metric_learning" in headline


def test_a_missing_step_is_not_complete_and_its_readers_are_out_of_date(tmp_path):
    run = make_run(tmp_path / "run")
    (run / "03_embed_corpus" / "manifest.json").unlink()
    (run / "notebooks" / "02_base_classifier.ipynb").unlink()
    found = {chapter.number: chapter for chapter in chapters.read(run)}
    assert [number for number, c in found.items() if c.stale] == ["04", "05", "06"]
    assert {found[n].command for n in ("04", "05", "06")} == {"--from 03"}
    front_page = Page(report.write(run))
    assert "03 · embed_corpus not complete – –" in front_page.text
    assert "in 5 of 6 chapters" in front_page.text
    assert "02_base_classifier.html" not in front_page.attributes("href")
    (banner,) = Page(run / "report" / "03_embed_corpus.html").banners()
    assert "no finished artefacts" in banner


def test_appendices_are_shown_where_they_are(tmp_path):
    run = make_run(tmp_path / "run", steps=("01_gold_data", "06_final_eval"))
    write_manifest(run, "appendix_spaces", {})
    assert "appendix_spaces" not in [chapter.name for chapter in chapters.read(run)]
    path = artefacts.executed_notebook(run, "appendix_spaces")
    notebook = executed_notebook("appendix_spaces", b"")
    notebook.cells[0] = new_markdown_cell("# Appendix: spaces")
    nbformat.write(notebook, path)
    front_page = Page(report.write(run))
    assert "appendix_spaces.html" in front_page.attributes("href")
    assert "Appendix: spaces" in front_page.text
    write_manifest(run, "06_final_eval", {}, content="another")
    (*_, appendix) = chapters.read(run)
    assert appendix.changed == ["06_final_eval/predictions/test.parquet"]
    assert appendix.command == "--from 06 --appendix"


def test_a_single_file_has_everything(run_dir, capsys):
    assert main(["report", str(run_dir), "--single-file"]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert path == run_dir / "report" / "проба.html"
    found = Page(path)
    path.unlink()
    assert all(source.startswith("data:") for source in found.attributes("src"))
    ids, links = found.attributes("id"), found.attributes("href")
    assert len(set(ids)) == len(ids)
    assert all(link[1:] in ids for link in links)  # nothing outside of the file
    assert {f"#{name}" for name in STEPS} <= set(links)
    assert sum("plotly.js v" in script for script in found.scripts) == 1
    assert all(f"{name[:2]} · {name[3:]}" in found.text for name in STEPS)


def test_sources_of_the_headline():
    rows = [
        {"dataset": dataset, "split": split}
        for dataset in ("gold", "all audit texts", "shop")
        for split in ("test", "audit", "validation")
    ]
    assert front.headline(rows) == [rows[0], rows[4]]


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
    assert page.duration(seconds) == expected


def test_without_an_executed_notebook_it_is_an_error(tmp_path):
    with pytest.raises(UserError, match="has no executed notebook; run something"):
        report.write(tmp_path)
    assert list(tmp_path.iterdir()) == []
