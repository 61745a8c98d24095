from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from sklearn.metrics import f1_score

from lib import compare, compare_runs, plots, schema
from lib.__main__ import main
from lib.errors import UserError
from made_up_run import HOSTILE, make_run
from test_report import Page


@pytest.fixture(scope="module")
def outputs(tmp_path_factory) -> Path:
    """Runs a and b tested on the same texts, `other` on more, `begun` with step 01 only."""
    folder = tmp_path_factory.mktemp("outputs")
    make_run(folder / "a", pictures=False)
    changes = {
        "04_cluster_purity": {"min_purity": 0.95},
        "05_metric_learning": {"lambda_metric": [0.0], "base_model": f"models/{HOSTILE}"},
    }
    make_run(folder / "b", changes=changes, right=0.98, pictures=False)
    make_run(folder / "other", test_texts=120, seed=1, pictures=False)
    make_run(folder / "begun", steps=("01_gold_data",), commit="ba9876543210", pictures=False)
    return folder


def runs_of(outputs: Path, *names: str) -> list[compare_runs.Run]:
    return compare_runs.read_runs([outputs / name for name in names])


def test_only_parameters_that_differ_are_listed(outputs):
    assert compare_runs.different_parameters(runs_of(outputs, "a", "b")) == [
        ("04_cluster_purity", "min_purity", "0.8", "0.95"),
        ("05_metric_learning", "base_model", "embedded:e5-small", f"models/{HOSTILE}"),
        ("05_metric_learning", "lambda_metric", "[0.0, 0.1, 0.5]", "[0.0]"),
    ]
    assert compare_runs.different_parameters(runs_of(outputs, "a", "other", "begun")) == []


def test_the_difference_of_two_runs_is_paired(outputs):
    rows = compare_runs.paired_differences(runs_of(outputs, "a", "b", "other"))
    assert [row[:3] for row in rows] == [("base", "b - a", "90"), ("final", "b - a", "90")]
    assert rows[0][3] == "+0.000 [+0.000, +0.000]" and rows[0][4] == "no difference shown"
    scores = [
        f1_score(frame["label"], frame["final_predicted"], average="macro")
        for frame in (run.predictions for run in runs_of(outputs, "a", "b"))
    ]
    assert rows[1][3].startswith(f"{scores[1] - scores[0]:+.3f} [+")
    assert rows[1][4] == "b is better"
    (_, back) = compare_runs.paired_differences(runs_of(outputs, "b", "a"))
    assert back[3].startswith(f"{scores[0] - scores[1]:+.3f} [-") and back[4] == "b is better"


def test_pairing_goes_by_text_and_not_by_row(outputs, tmp_path):
    shutil.copytree(outputs / "a", tmp_path / "shuffled")
    path = tmp_path / "shuffled" / "06_final_eval" / "predictions.parquet"
    pd.read_parquet(path).sample(frac=1, random_state=0).to_parquet(path)
    runs = compare_runs.read_runs([outputs / "a", tmp_path / "shuffled"])
    assert {row[3] for row in compare_runs.paired_differences(runs)} == {"+0.000 [+0.000, +0.000]"}


def test_a_text_that_is_there_twice_is_paired_once(outputs, tmp_path):
    for name in ("a", "b"):
        shutil.copytree(outputs / name, tmp_path / name)
        path = tmp_path / name / "06_final_eval" / "predictions.parquet"
        frame = pd.read_parquet(path)
        frame.loc[7, "text_id"] = frame.loc[3, "text_id"]
        frame.to_parquet(path)
    runs = compare_runs.read_runs([tmp_path / "a", tmp_path / "b"])
    found = compare_runs.paired_differences(runs)
    assert found == compare_runs.paired_differences(runs_of(outputs, "a", "b"))
    assert "the same 90 gold test" in compare_runs.tested_on(runs)


def test_it_is_said_whether_the_test_texts_are_the_same(outputs):
    assert "the same 90 gold test" in compare_runs.tested_on(runs_of(outputs, "a", "b", "begun"))
    different = compare_runs.tested_on(runs_of(outputs, "a", "other"))
    assert "differ (a 90, other 120; 90 in common)" in different
    assert "Fewer than two" in compare_runs.tested_on(runs_of(outputs, "a", "begun"))


def test_purity_histograms_lie_over_each_other(outputs):
    runs = runs_of(outputs, "a", "b")
    figure = compare.purity_overlay(runs)
    colour_of_a = plots.CLUSTER_COLORS[0]
    for axes in figure.axes:
        assert axes.get_title() and axes.get_xlabel() and axes.get_ylabel()
        assert len(axes.patches) == 2
        colours = [to_hex(patch.get_edgecolor()).upper() for patch in axes.patches]
        assert sorted(colours) == sorted(plots.CLUSTER_COLORS[:2])
        thresholds = {to_hex(line.get_color()).upper(): line.get_xdata()[0] for line in axes.lines}
        assert thresholds == dict(zip(plots.CLUSTER_COLORS, (0.8, 0.95), strict=False))
    table = runs[0].purity.dropna(subset="purity")
    edges = np.linspace(1 / 3, 1, 41)
    by_size = np.histogram(table["purity"], edges, weights=table["size"])[0] / table["size"].sum()
    of_a = next(p for p in axes.patches if to_hex(p.get_edgecolor()).upper() == colour_of_a)
    np.testing.assert_allclose(of_a.get_xy()[1:-1:2, 1], by_size)


def test_the_page(outputs, capsys):
    folders = [str(outputs / name) for name in ("a", "b", "begun")]
    assert main(["compare", *folders]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert path == outputs / "compare-a-b-begun.html"
    page = Page(path)
    assert "Runs a, b, begun" in page.text
    assert page.attributes("src") and all(s.startswith("data:") for s in page.attributes("src"))
    assert not page.attributes("href")
    rows = json.loads((outputs / "a" / "06_final_eval" / "metrics.json").read_text())
    macro = page.text.split("Macro-F1")[1].split("Accuracy")[0]
    for row in (row for row in rows if row["name"] == "macro_f1" and "low" in row):
        assert f"{row['low']:.3f}" in macro and f"{row['value']:.3f}" in macro
    line = next(line for line in macro.split("\n") if line.startswith("goldtest90final0."))
    assert line.count("[0.") == 2 and line.endswith("–")  # side by side; `begun` has none
    assert "begun: step 06 is not complete" in page.text
    assert page.text.count(HOSTILE) > 3 and not any("hacked" in text for text in page.scripts)
    assert sum(tag == "img" for tag, _ in page.elements) == 3


def test_out_names_the_page(outputs, tmp_path):
    out, other = tmp_path / "new" / "page.html", tmp_path / "other"
    make_run(other, steps=("01_gold_data",), pictures=False)
    assert compare.write([outputs / "begun", other], out) == out
    page = Page(out)
    assert "0123456789ab" in page.text and "ba9876543210" in page.text
    assert "Fewer than two" in page.text and "No run has figures of step 06" in page.text
    with pytest.raises(UserError, match=r"--out .*: is a folder; name a file"):
        compare.write([outputs / "begun", other], tmp_path)


def test_runs_of_one_name_are_told_apart(outputs, tmp_path):
    shutil.copytree(outputs / "a", tmp_path / "elsewhere" / "a")
    runs = compare_runs.read_runs([outputs / "a", tmp_path / "elsewhere" / "a"])
    assert [run.name for run in runs] == [f"{outputs.name}/a", "elsewhere/a"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a"], "needs two runs or more"),
        (["a", "./a"], "is given twice"),
        (["a", "missing"], "missing: no such folder"),
        (["a", "a/06_final_eval/metrics.json"], "no such folder"),
        (["a", "a/04_cluster_purity"], "is no run: no step in it is complete"),
        (["a", "broken"], "broken: a manifest.json or metrics.json is not readable"),
    ],
)
def test_what_is_no_run_is_said(names, message, outputs, capsys):
    broken = outputs / "broken" / next(iter(schema.STEPS))
    broken.mkdir(parents=True, exist_ok=True)
    (broken / "manifest.json").write_text('{"step": ')
    before = sorted(outputs.glob("compare*"))
    assert main(["compare", *(str(outputs / name) for name in names)]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1
    assert sorted(outputs.glob("compare*")) == before
