"""The explorer's page: its data are those of the run, hostile texts stay texts, it stays small."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import numpy as np
import pytest

from lib.clusters import explorer
from lib.reports import explorer_page, page, report
from made_up_clusters import HOSTILE, write_run
from made_up_run import make_run, write_manifest
from test_report import Page


def data_of(path: Path) -> dict:
    """The JSON of a page, as a browser would read it."""
    text = path.read_text(encoding="utf-8")
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    return json.loads(found)


def write(run_dir: Path, path: Path) -> Path:
    """The page alone, without a report around it."""
    run = explorer.load(run_dir)
    report = {"run": run_dir.name, "chapters": [], "with_explorer": True}
    about = {"explorer": run, "data": explorer_page.page_data(run), "address": "{}.html".format}
    page.write(path, "explorer.html", **report, **about)
    return path


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "проба <1>", texts=400, map_points=150)


@pytest.fixture(scope="module")
def run(run_dir) -> explorer.Explorer:
    return explorer.load(run_dir)


@pytest.fixture(scope="module")
def html(run_dir) -> Path:
    return write(run_dir, run_dir / "explorer.html")


@pytest.fixture(scope="module")
def data(html) -> dict:
    return data_of(html)


def test_hostile_texts_stand_only_in_the_data_and_escaped(html, data):
    text = html.read_text(encoding="utf-8")
    assert text.count("<script") == 4 and "<img" not in text and HOSTILE not in text
    assert "\\u003cscript\\u003ewindow.hacked=1" in text
    assert any(HOSTILE in entry[4] for entry in data["texts"])
    assert any(HOSTILE in name for name in data["sources"])
    assert "<title>Cluster explorer: проба &lt;1&gt;</title>" in text
    assert Page(html).attributes("src") == ["plotly.min.js"]
    assert not re.search(r"https?://", text)
    script = (page.TEMPLATES / "explorer.js").read_text(encoding="utf-8")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", script)


def test_cells_give_the_counts_of_the_run(run, data):
    cells = {name: np.array(values) for name, values in data["cells"].items()}
    for purity, confidence in ((0, 0), (60, 50), (85, 70)):
        chosen = (cells["purity"] >= purity) & (cells["confidence"] >= confidence)
        expected = run.passing(purity / 100, confidence / 100)
        assert cells["texts"][chosen].sum() == expected.sum() > 0
        audit = run.texts["audit_label"][expected]
        assert cells["audited"][chosen].sum() == (audit >= 0).sum()
        assert cells["right"][chosen].sum() == (audit == run.texts["predicted"][expected]).sum()
        total = run.texts["confidence"][expected].sum()
        assert cells["confidence_sum"][chosen].sum() == pytest.approx(total, abs=1e-3)
    assert data["chosen"] == {"purity": 60, "confidence": 50}


def test_a_value_reaches_its_own_hundredth():
    for kind in (np.float32, np.float64):
        values = (np.arange(101) / 100).astype(kind)
        assert explorer_page.steps(values).tolist() == list(range(101))
        below = np.nextafter(values[1:], kind(0))
        assert explorer_page.steps(below).tolist() == list(range(100))


def test_clusters_have_their_facts_and_texts(run, data):
    assert data["clusters"]["size"] == run.table["size"].tolist()
    for cluster in range(8):
        detail = data["details"][str(cluster)]
        assert detail["words"] == run.words[cluster]
        assert [c for c, _ in detail["nearest"]] == run.nearest(cluster).index.tolist()
        sources = {data["sources"][code]: texts for code, texts in detail["sources"]}
        assert sources == run.sources(cluster).to_dict()
        for kind in explorer.KINDS:
            rows = run.examples(cluster, kind, 10)
            assert [data["texts"][n][4] for n in detail[kind]] == run.read(rows)


def test_points_of_the_map_know_their_text_and_what_they_pass(run, data):
    points = {name: np.array(values) for name, values in data["map"].items()}
    assert [data["texts"][n][4] for n in points["text"]] == run.read(run.map_rows)
    assert (points["cluster"] == run.texts["cluster"].to_numpy()[run.map_rows]).all()
    for purity, confidence in ((0, 0), (60, 50), (85, 70)):
        passing = (points["purity"] >= purity) & (points["confidence"] >= confidence)
        assert (passing == run.passing(purity / 100, confidence / 100)[run.map_rows]).all()
    places = np.stack([points["x"], points["y"]], axis=1)
    moved = run.map_points - run.map_points.min(0)
    np.testing.assert_allclose(places / 65535 * moved.max(), moved, atol=moved.max() / 65535)


def test_the_page_is_part_of_the_report_while_04_is_current(tmp_path):
    run_dir = make_run(tmp_path / "run", steps=("01_gold_data", "02_base_classifier"))
    write_run(run_dir)
    for path in (report.write(run_dir), run_dir / "report" / "01_gold_data.html"):
        assert "explorer.html" in Page(path).attributes("href")
    assert "01_gold_data.html" in Page(run_dir / "report" / "explorer.html").attributes("href")
    write_manifest(run_dir, "03_embed_corpus", {})
    write_manifest(run_dir, "04_cluster_purity", {"clusters": 8})
    write_manifest(run_dir, "03_embed_corpus", {}, content="another")
    assert "explorer.html" not in Page(report.write(run_dir)).attributes("href")
    assert not (run_dir / "report" / "explorer.html").exists()


def test_long_texts_are_cut(tmp_path):
    run_dir = write_run(tmp_path / "run", 30, 3, words=["слово " * 200] * 30)
    entries = data_of(write(run_dir, tmp_path / "page.html"))["texts"]
    assert {len(entry[4]) for entry in entries} == {300}
    assert all(entry[4].endswith("…") for entry in entries)


def test_few_bytes_go_to_all_clusters_first(tmp_path, monkeypatch):
    monkeypatch.setattr(explorer_page, "TEXT_BYTES", 12_000)
    monkeypatch.setattr(explorer_page, "DETAILED", 6)
    path = write(write_run(tmp_path / "run"), tmp_path / "page.html")
    data = data_of(path)
    assert len(json.dumps(data["texts"], ensure_ascii=False).encode()) < 13_000
    assert len(data["details"]) == 6
    assert all(detail["centre"] and detail["border"] for detail in data["details"].values())
    assert -1 in data["map"]["text"]
    assert "of the 6 largest clusters" in Page(path).text


@pytest.mark.slow
def test_the_page_stays_small_at_100_000_points_and_2000_clusters(tmp_path):
    rng = np.random.default_rng(0)
    syllables = np.array([a + b for a in "бвгдклмнрст" for b in "аеиоуяы"])
    vocabulary = ["".join(rng.choice(syllables, rng.integers(1, 5))) for _ in range(30_000)]
    drawn = rng.zipf(1.2, size=(100_000, 40)) % len(vocabulary)
    words = [" ".join([vocabulary[i] for i in row]) for row in drawn]  # some 200 characters
    run_dir = write_run(tmp_path / "run", 100_000, 2_000, map_points=100_000, words=words)
    started = time.perf_counter()
    path = write(run_dir, tmp_path / "page.html")
    print(f"{path.stat().st_size / 1e6:.1f} MB in {time.perf_counter() - started:.0f} s")
    assert path.stat().st_size < explorer_page.MAX_BYTES
    data = data_of(path)
    assert len(data["texts"]) > 20_000 and len(data["details"]) == 2_000
    assert all(d["centre"] and d["border"] and d["unsure"] for d in data["details"].values())
    assert len(data["map"]["x"]) == 100_000
