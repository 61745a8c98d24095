from __future__ import annotations

import time

import numpy as np
import pytest

from lib.clusters import widget as explorer_widget
from made_up_clusters import HOSTILE, write_run


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture
def widget(run_dir):
    return explorer_widget.explore(run_dir)


def test_it_begins_with_the_run_s_thresholds_and_its_purest_cluster(widget):
    assert (widget.purity.value, widget.confidence.value) == (0.6, 0.5)
    assert f"<b>{widget.run.texts['kept'].sum():,} texts kept" in widget.kept.value
    assert widget.cluster.value == widget.run.by_purity()[0]
    assert f"<h3>Cluster {widget.cluster.value}</h3>" in widget.card.value
    assert len(widget.list.options) == 8


def test_a_slider_changes_the_numbers_and_fades_what_is_dropped(widget):
    for purity, confidence in ((0.9, 0.5), (0.75, 0.62), (0.0, 0.0), (1.0, 1.0)):
        widget.purity.value, widget.confidence.value = purity, confidence
        passing = widget.run.passing(purity, confidence)
        assert f"<b>{passing.sum():,} texts kept" in widget.kept.value
        shown = sum(len(trace.selectedpoints) for trace in widget.figure.data[:3])
        assert shown == passing[widget.run.map_rows].sum()


def test_a_click_on_a_point_shows_its_cluster(widget):
    labels = widget.run.texts["predicted"].to_numpy()[widget.run.map_rows]
    clusters = widget.run.texts["cluster"].to_numpy()[widget.run.map_rows]
    for label, trace in enumerate(widget.figure.data[:3]):
        point = len(trace.x) // 2
        message = {
            "event_type": "plotly_click",
            "points": {"trace_indexes": [label], "point_indexes": [point], "xs": [0], "ys": [0]},
            "device_state": None,
            "selector": None,
        }
        widget.figure._handler_js2py_pointsCallback({"new": message})
        chosen = clusters[labels == label][point]
        assert widget.cluster.value == chosen == trace.customdata[point][0]
        assert f"<h3>Cluster {chosen}</h3>" in widget.card.value
        assert len(widget.figure.data[3].x) == (clusters == chosen).sum()


def test_the_list_the_number_and_the_search_choose(widget):
    assert [name for _, name in widget.list.options] == widget.run.by_purity().tolist()
    widget.list.value = 5
    assert widget.cluster.value == 5
    widget.cluster.value = 2
    assert widget.list.value == 2 and "Cluster 2" in widget.card.value
    widget.query.value = "отель"
    assert [name for _, name in widget.list.options] == [5]
    widget.list.value = 5
    assert widget.cluster.value == 5
    widget.query.value = "такого нет"
    assert widget.list.options == () and "0 texts found" in widget.found.value
    widget.query.value = ""
    assert len(widget.list.options) == 8 and widget.found.value == ""


def test_texts_of_a_cluster(widget):
    widget.cluster.value = 2
    assert widget.texts.value.count("<li") == explorer_widget.SHOWN
    widget.kind.value = "unsure"
    assert widget.texts.value.count("<li") == explorer_widget.SHOWN
    (least,) = widget.run.examples(2, "unsure", 1)
    assert widget.run.read([least])[0] in widget.texts.value


def test_hostile_texts_are_escaped_everywhere_and_are_no_formulas(widget, monkeypatch):
    monkeypatch.setattr(explorer_widget, "SHOWN", 500)
    widget.cluster.value = 0
    widget.kind.value = "border"
    widget.query.value = "window.hacked"
    lists = [widget.card.value, widget.texts.value, widget.found.value]
    hovers = [hover for trace in widget.figure.data[:3] for hover in trace.text]
    shown = [widget.kept.value, *lists, *hovers]
    for value in shown:
        assert "<script" not in value and "<img" not in value
    assert sum("&lt;script&gt;" in value for value in shown) > 4
    assert HOSTILE.replace("<", "&lt;").replace(">", "&gt;") in widget.texts.value
    assert all("mathjax_ignore" in value for value in [widget.kept.value, *lists])


@pytest.mark.slow
def test_a_slider_answers_in_200_ms_at_100_000_texts(tmp_path):
    """With the map's 20,000 points (the default); best of three, as other processes disturb."""
    run_dir = write_run(tmp_path / "run", 100_000, 2_000, map_points=20_000)
    widget = explorer_widget.explore(run_dir)
    seconds = []
    for value in (0.7, 0.8, 0.9):
        started = time.perf_counter()
        widget.confidence.value = value
        seconds.append(time.perf_counter() - started)
    assert np.min(seconds) < 0.2, seconds
