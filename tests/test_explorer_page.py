from __future__ import annotations

import base64
import json
import re
import time

import numpy as np
import pytest

from lib import explorer, explorer_page
from made_up_clusters import HOSTILE, write_run


def data_of(path) -> dict:
    """The JSON of a page, as a browser would read it."""
    page = path.read_text(encoding="utf-8")
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    return json.loads(text)


def unpack(array: dict) -> np.ndarray:
    return np.frombuffer(base64.b64decode(array["data"]), np.dtype(array["type"]))


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "проба <1>", texts=400, map_points=150)


@pytest.fixture(scope="module")
def page(run_dir):
    return explorer_page.write(run_dir, run_dir / "report")


@pytest.fixture(scope="module")
def data(page):
    return data_of(page)


def test_hostile_texts_stand_only_in_the_data_and_escaped(page, data):
    text = page.read_text(encoding="utf-8")
    assert text.count("<script") == 4 and "<img" not in text and HOSTILE not in text
    assert "\\u003cscript>window.hacked=1" in text
    assert any(HOSTILE in entry[4] for entry in data["texts"])
    assert any(HOSTILE in name for name in data["sources"])
    assert "<title>Cluster explorer: проба &lt;1&gt;</title>" in text
    assert re.findall(r"\bsrc='([^']*)'", text) == ["plotly.min.js"]
    script = (explorer_page.FOLDER / "explorer.js").read_text(encoding="utf-8")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", script)


def test_cells_give_the_counts_of_the_run(run_dir, data):
    run = explorer.load(run_dir)
    cells = {name: unpack(array) for name, array in data["cells"].items()}
    for purity, confidence in ((0, 0), (60, 50), (85, 70)):
        chosen = (cells["purity"] >= purity) & (cells["confidence"] >= confidence)
        expected = run.thresholds.kept(purity, confidence)
        assert cells["texts"][chosen].sum() == expected.texts > 0
        assert cells["audited"][chosen].sum() == expected.audited
        mean = cells["confidence_sum"][chosen].sum() / expected.texts
        assert mean == pytest.approx(expected.expected_precision, abs=1e-12)
    assert (data["run"]["purity"], data["run"]["confidence"]) == (60, 50)


def test_clusters_have_their_facts_and_texts(run_dir, data):
    run = explorer.load(run_dir)
    assert unpack(data["clusters"]["size"]).tolist() == run.table["size"].tolist()
    for cluster in range(8):
        detail = data["details"][str(cluster)]
        assert detail["words"] == run.words[cluster]
        assert [c for c, _ in detail["nearest"]] == run.nearest(cluster).index.tolist()
        for kind in explorer.KINDS:
            rows = run.examples(cluster, kind, 10)
            assert [data["texts"][n][4] for n in detail[kind]] == run.read(rows)


def test_points_of_the_map_know_their_text(run_dir, data):
    run = explorer.load(run_dir)
    numbers = unpack(data["map"]["text"])
    assert (numbers >= 0).all()
    assert [data["texts"][n][4] for n in numbers] == run.read(run.map_rows)
    np.testing.assert_array_equal(
        unpack(data["map"]["cluster"]), run.texts["cluster"].to_numpy()[run.map_rows]
    )
    places = np.stack([unpack(data["map"][name]) for name in "xy"], axis=1).astype(float)
    moved = run.map_points - run.map_points.min(0)
    np.testing.assert_allclose(places / 65535 * moved.max(), moved, atol=moved.max() / 65535)


def test_without_step_04_there_is_no_page(tmp_path):
    report = tmp_path / "report"
    report.mkdir()
    (report / "explorer.html").write_text("of an earlier state", encoding="utf-8")
    assert explorer_page.write(tmp_path, report) is None
    assert list(report.iterdir()) == []


def test_long_texts_are_cut(tmp_path):
    words = ["слово " * 200] * 30
    path = explorer_page.write(write_run(tmp_path / "run", 30, 3, words=words), tmp_path)
    assert {len(entry[4]) for entry in data_of(path)["texts"]} == {300}
    assert all(entry[4].endswith("…") for entry in data_of(path)["texts"])


def test_few_bytes_go_to_all_clusters_first(tmp_path, monkeypatch):
    monkeypatch.setattr(explorer_page, "TEXT_BYTES", 12_000)
    monkeypatch.setattr(explorer_page, "DETAILED", 6)
    path = explorer_page.write(write_run(tmp_path / "run"), tmp_path)
    data = data_of(path)
    assert len(json.dumps(data["texts"], ensure_ascii=False).encode()) < 13_000
    assert len(data["details"]) == 6
    for detail in data["details"].values():
        assert detail["centre"] and detail["border"]
    assert (unpack(data["map"]["text"]) == -1).any()
    assert "of the 6 largest clusters" in data["limits"]


@pytest.mark.slow
def test_the_page_stays_small_at_100_000_points_and_2000_clusters(tmp_path):
    rng = np.random.default_rng(0)
    syllables = np.array([a + b for a in "бвгдклмнрст" for b in "аеиоуяы"])
    vocabulary = ["".join(rng.choice(syllables, rng.integers(1, 5))) for _ in range(30_000)]
    drawn = rng.zipf(1.2, size=(100_000, 40)) % len(vocabulary)
    words = [" ".join([vocabulary[i] for i in row]) for row in drawn]  # some 200 characters
    run_dir = write_run(tmp_path / "run", 100_000, 2_000, map_points=100_000, words=words)
    started = time.perf_counter()
    path = explorer_page.write(run_dir, tmp_path)
    print(f"{path.stat().st_size / 1e6:.1f} MB in {time.perf_counter() - started:.0f} s")
    assert path.stat().st_size < explorer_page.MAX_BYTES
    data = data_of(path)
    assert len(data["texts"]) > 20_000 and len(data["details"]) == 2_000
    assert all(d["centre"] and d["border"] and d["unsure"] for d in data["details"].values())
    assert len(unpack(data["map"]["x"])) == 100_000
