"""The explorer in a real browser: its page from disk, and its notebook in JupyterLab."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import plotly
import pytest

import lib
from browser import SIZE, BrowserPage
from lib import code, explorer, explorer_page
from made_up_clusters import HOSTILE, write_run

pytestmark = pytest.mark.browser

# where a point of the map lies on the screen
PLACE = """([trace, point]) => {
    const figure = document.querySelector(".js-plotly-plot");
    figure.scrollIntoView({ block: "center" });
    const { xaxis, yaxis } = figure._fullLayout, { x, y } = figure._fullData[trace];
    const corner = figure.getBoundingClientRect();
    return [corner.left + xaxis._offset + xaxis.l2p(x[point]),
            corner.top + yaxis._offset + yaxis.l2p(y[point])];
}"""


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> explorer.Explorer:
    folder = write_run(tmp_path_factory.mktemp("runs") / "run", map_points=200)
    (folder / "report").mkdir()
    script = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    shutil.copyfile(script, folder / "report" / "plotly.min.js")
    explorer_page.write(folder, folder / "report")
    return explorer.load(folder)


@pytest.fixture(scope="module")
def explorer_page_opened(run, chromium):
    """The page of the run, opened once: loading plotly takes most of the time."""
    context = chromium.new_context(viewport=SIZE)
    context.set_default_timeout(30_000)
    shared = BrowserPage(context)
    shared.open(run.run_dir / "report" / explorer_page.NAME)
    yield shared
    context.close()


@pytest.fixture
def opened(explorer_page_opened):
    page = explorer_page_opened.page
    page.click("#reset")
    yield page
    explorer_page_opened.check()


def point_of(run, row) -> list[int]:
    """Trace and number of a text's point."""
    labels = run.texts["predicted"].to_numpy()
    trace = labels[row]
    same = [r for r in run.map_rows if labels[r] == trace]
    return [int(trace), same.index(row)]


def texts_of(page, where) -> list[str]:
    return page.locator(f"{where} li p:first-child").all_text_contents()


def test_the_page_draws_its_map_and_asks_nobody(run, opened, explorer_page_opened):
    assert explorer_page_opened.drawn() == [True]
    points = opened.evaluate("document.getElementById('map').data.slice(0, 3).map(t => t.x.length)")
    assert sum(points) == len(run.map_rows)
    assert opened.title() == "Cluster explorer: run"
    assert "600 texts in 8 clusters" in opened.locator("#limits").text_content()


def test_a_click_on_a_point_shows_its_cluster_and_texts(run, opened):
    row = int(run.map_rows[77])
    place = opened.evaluate(PLACE, point_of(run, row))
    opened.mouse.move(*place)
    opened.mouse.click(*place)
    cluster = int(run.texts["cluster"][row])
    opened.wait_for_function(f"document.getElementById('name').textContent == 'Cluster {cluster}'")
    assert texts_of(opened, "#texts") == run.read(run.examples(cluster, "centre", 10))
    facts = opened.locator("#facts").text_content()
    assert (
        f"{run.table['size'][cluster]:,} texts, purity {run.table['purity'][cluster]:.3f}" in facts
    )
    assert ", ".join(run.words[cluster]) in opened.locator("#words").text_content()
    ringed = opened.evaluate("document.getElementById('map').data[3].x.length")
    assert ringed == (run.texts["cluster"].to_numpy()[run.map_rows] == cluster).sum()
    for title, kind in (("at the border", "border"), ("least sure", "unsure")):
        opened.get_by_role("button", name=title).click()
        assert texts_of(opened, "#texts") == run.read(run.examples(cluster, kind, 10))


def test_number_list_and_neighbours_choose(run, opened):
    opened.fill("#number", "5")
    opened.press("#number", "Enter")
    assert opened.locator("#name").text_content() == "Cluster 5"
    neighbour = run.nearest(5).index[0]
    opened.locator("#nearest button").first.click()
    assert opened.locator("#name").text_content() == f"Cluster {neighbour}"
    opened.select_option("#order", "mixed")
    values = opened.eval_on_selector_all("#list option", "all => all.map(o => Number(o.value))")
    assert values == run.by_purity(ascending=True).tolist()
    opened.select_option("#list", str(values[0]))
    assert opened.locator("#name").text_content() == f"Cluster {values[0]}"
    assert opened.url.endswith(f"#cluster={values[0]}")


def test_search_finds_texts_and_leads_to_their_cluster(run, opened):
    opened.fill("#search", "АКТЕР")
    found = run.read(run.search("актёр"))
    note = opened.locator("#found").text_content()
    shown = int(re.match(r"\d+", note).group())
    assert 0 < shown <= len(found)
    assert set(texts_of(opened, "#found-texts")) <= set(found)
    opened.locator("#found-clusters button").first.click()
    assert opened.locator("#name").text_content() == "Cluster 1"
    opened.fill("#search", "такого нет")
    assert opened.locator("#found").text_content().startswith("0 of")


def test_a_slider_changes_the_numbers_to_those_of_python(run, opened):
    opened.focus("#purity")
    for _ in range(17):
        opened.keyboard.press("ArrowRight")
    opened.focus("#confidence")
    for _ in range(4):
        opened.keyboard.press("ArrowRight")
    assert opened.locator("#purity-value").text_content() == "0.77"
    kept = run.thresholds.kept(77, 54)
    assert 0 < kept.texts < run.thresholds.kept(60, 50).texts
    share = f"{kept.texts:,} of 600 texts kept ({kept.share:.1%})"
    assert opened.locator("#kept").text_content() == share
    precision = opened.locator("#precision").text_content()
    measured = f"{kept.measured_precision:.3f} [{kept.low:.3f}, {kept.high:.3f}]"
    assert precision == (
        f"expected precision {kept.expected_precision:.3f}; measured {measured} "
        f"on {kept.audited} audit texts"
    )
    rows = opened.eval_on_selector_all(
        "#kept-table tr", "rows => rows.map(r => [...r.cells].map(c => c.textContent))"
    )
    counts = kept.counts.assign(all=kept.counts.sum(axis=1))
    expected = [
        [name, *map(str, line)] for name, line in zip(counts.index, counts.to_numpy(), strict=True)
    ]
    assert rows[1:-1] == expected
    assert rows[-1] == ["all", *map(str, counts.sum())]
    passing = set(run.kept_rows(0.77, 0.54)) & set(run.map_rows)
    bright = "document.getElementById('map').data.slice(0, 3).map(t => t.selectedpoints.length)"
    assert sum(opened.evaluate(bright)) == len(passing)
    opened.click("#reset")
    assert f"{run.texts['kept'].sum()} of 600" in opened.locator("#kept").text_content()


def test_hostile_texts_stay_texts(run, opened):
    row = int(run.search("window.hacked")[0])
    assert row in run.map_rows
    opened.mouse.move(*opened.evaluate(PLACE, point_of(run, row)))
    opened.wait_for_function("!document.getElementById('hover').hidden")
    assert HOSTILE in opened.locator("#hover").text_content()
    opened.fill("#search", "window.hacked")
    assert any(HOSTILE in text for text in texts_of(opened, "#found-texts"))
    opened.fill("#number", "0")
    opened.press("#number", "Enter")
    for button in opened.locator("#kinds button").all_text_contents():
        opened.get_by_role("button", name=button).click()
    assert HOSTILE in opened.locator("#sources").text_content()
    assert HOSTILE in opened.locator("#kept-table").text_content()
    assert opened.locator("img").count() == 0 and opened.locator("script").count() == 4


@pytest.mark.slow
def test_a_slider_answers_in_200_ms_at_100_000_texts(browser_page, run, tmp_path):
    folder = write_run(tmp_path / "run", 100_000, 300, map_points=100_000)
    shutil.copyfile(run.run_dir / "report" / "plotly.min.js", tmp_path / "plotly.min.js")
    page = browser_page.open(explorer_page.write(folder, tmp_path))
    seconds = page.evaluate(
        """() => [0, 60, 80, 90].map(value => {
            const slider = document.getElementById("confidence"), start = performance.now();
            slider.value = value;
            slider.dispatchEvent(new Event("input"));
            return (performance.now() - start) / 1000;
        })"""
    )
    print(seconds)
    assert min(seconds) < 0.2, seconds
    assert explorer.load(folder).thresholds.kept(60, 90).texts == int(
        page.locator("#kept").text_content().split(" of ")[0].replace(",", "")
    )


# --- JupyterLab --------------------------------------------------------------------------------


@pytest.fixture
def jupyterlab(run, tmp_path):
    """JupyterLab on a free port with the notebook of the explorer; its address with the token."""
    notebook = json.loads(code.notebook_path("explore_clusters").read_text(encoding="utf-8"))
    notebook["cells"][1]["source"] = [f"run_dir = {str(run.run_dir)!r}"]
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "explore.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    folders = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    folders += ("JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")
    environment = os.environ | {name: str(tmp_path / name) for name in folders}
    environment["PYTHONPATH"] = str(Path(lib.__file__).parent.parent)
    options = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": port,
        "ServerApp.port_retries": 0,
        "ServerApp.root_dir": tmp_path / "work",
        "IdentityProvider.token": token,
        "LabApp.expose_app_in_browser": True,
        "LabApp.extension_manager": "readonly",
        "LabApp.news_url": None,
        "LabApp.check_for_updates_class": "jupyterlab.handlers.announcements.NeverCheckForUpdate",
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += [f"--{name}={value}" for name, value in options.items()]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for(f"{address}/api/status?token={token}", server, tmp_path / "log")
        yield f"{address}/lab/tree/explore.ipynb?token={token}"
    finally:
        server.terminate()  # its kernels end with it
        server.wait(20)


def wait_for(address: str, server: subprocess.Popen, log: Path) -> None:
    deadline = time.time() + 40
    while time.time() < deadline:
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(log.read_text())


@pytest.mark.slow
def test_the_notebook_runs_in_jupyterlab(run, jupyterlab, browser_page):
    page = browser_page.page
    page.goto(jupyterlab)
    page.wait_for_function("window.jupyterapp")
    page.evaluate("window.jupyterapp.restored.then(() => true)")
    page.wait_for_selector(".jp-NotebookPanel .jp-Cell")
    page.get_by_text("| Idle").wait_for()  # before, it would ask which kernel to take
    page.evaluate("void window.jupyterapp.commands.execute('notebook:run-all-cells')")
    before = run.thresholds.kept(60, 50).texts
    kept = page.locator(".widget-html-content", has_text="texts kept").first
    kept.get_by_text(f"{before:,} texts kept").wait_for()
    page.wait_for_selector(".jp-OutputArea .js-plotly-plot canvas")

    handle = page.locator(".noUi-handle").first
    for _ in range(20):
        handle.press("ArrowRight")
    after = run.thresholds.kept(80, 50)
    assert 0 < after.texts < before
    kept.get_by_text(f"{after.texts:,} texts kept").wait_for()
    assert f"expected precision (mean confidence) {after.expected_precision:.3f}" in (
        kept.text_content()
    )

    card = page.locator(".widget-html-content", has_text="Nearest clusters").first
    chosen = card.get_by_text("Cluster 0", exact=True)
    row = int(run.search("window.hacked")[0])
    page.evaluate(PLACE, point_of(run, row))
    page.wait_for_timeout(1000)  # scrolled there, JupyterLab lays its cells out anew
    place = page.evaluate(PLACE, point_of(run, row))
    page.mouse.move(*place)
    page.mouse.click(*place)
    chosen.wait_for()
    hover = page.locator(".js-plotly-plot .hovertext").first
    assert "<script>window.hacked=1</script>" in hover.text_content()
    query = page.get_by_placeholder("words in a text")
    query.fill("window.hacked")
    query.press("Enter")
    page.locator(".widget-html-content ol li", has_text=HOSTILE).first.wait_for()
    assert page.evaluate("typeof window.hacked") == "undefined"
    outside = [r for r in browser_page.requests if not r.startswith("http://127.0.0.1:")]
    assert outside == []
    assert [e for e in browser_page.errors if e.startswith("uncaught")] == []
