"""Runs side by side on one page."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib import metrics
from lib.__main__ import main
from lib.errors import UserError
from lib.reports import compare, front
from made_up_run import HOSTILE, OUTPUTS, make_run, write_manifest
from test_report import Page

PREDICTIONS = Path("06_final_eval", OUTPUTS["06_final_eval"])


@pytest.fixture(scope="module")
def outputs(tmp_path_factory) -> Path:
    """Runs a and b tested on the same texts, `other` on more, `begun` with step 01 only."""
    folder = tmp_path_factory.mktemp("outputs")
    make_run(folder / "a", notebooks=False)
    changes = {
        "04_cluster_purity": {"min_purity": 0.95},
        "05_metric_learning": {"lambda_metric": [0.0], "base_model": f"models/{HOSTILE}"},
    }
    make_run(folder / "b", changes=changes, right=0.98, notebooks=False)
    make_run(folder / "other", test_texts=120, seed=1, notebooks=False)
    make_run(folder / "begun", steps=("01_gold_data",), commit="ba9876543210", notebooks=False)
    return folder


def runs_of(outputs: Path, *names: str) -> list[compare.Run]:
    return compare.read_runs([outputs / name for name in names])


def test_only_parameters_that_differ_are_listed(outputs):
    def differences(*names):
        return front.differences(*(front.parameters(r.chapters) for r in runs_of(outputs, *names)))

    assert differences("a", "b") == [
        ("04", "min_purity", "0.8", "0.95"),
        ("05", "base_model", "embedded:e5-small", f"models/{HOSTILE}"),
        ("05", "lambda_metric", "[0.0, 0.1, 0.5]", "[0.0]"),
    ]
    assert differences("a", "other", "begun") == []


def test_the_difference_of_two_runs_is_paired_by_text(outputs, tmp_path):
    for name in "ab":
        shutil.copytree(outputs / name, tmp_path / name)
    left, right = (pd.read_parquet(outputs / name / PREDICTIONS) for name in "ab")
    for frame in (left, right):
        frame.loc[7, "text_id"] = frame.loc[3, "text_id"]  # official tests may hold a text twice
    left.to_parquet(tmp_path / "a" / PREDICTIONS)
    others = np.random.default_rng(0).permutation(np.delete(np.arange(len(right)), [3, 7]))
    right.iloc[[*others, 3, 7]].to_parquet(tmp_path / "b" / PREDICTIONS)
    runs = compare.read_runs([tmp_path / "a", tmp_path / "b", outputs / "other"])
    base, final = compare.paired_differences(runs)
    assert (base["one"], base["other"], base["model"], base["texts"]) == ("a", "b", "base", 90)
    assert base["value"] == base["low"] == base["high"] == 0
    expected, *_ = metrics.compare(
        left["label"].to_numpy(),
        left["final_predicted"].to_numpy(),
        right["final_predicted"].to_numpy(),
        dataset="gold",
        split="test",
        samples=10_000,
        seed=0,
    )
    assert {key: final[key] for key in ("value", "low", "high")} == {
        key: expected[key] for key in ("value", "low", "high")
    }
    assert final["low"] > 0


def test_a_text_with_another_label_is_another_text(outputs, tmp_path):
    for name in "ab":
        shutil.copytree(outputs / name, tmp_path / name)
    frame = pd.read_parquet(outputs / "b" / PREDICTIONS)
    frame.loc[7, "label"] = (frame.loc[7, "label"] + 1) % 3
    frame.to_parquet(tmp_path / "b" / PREDICTIONS)
    directories = [tmp_path / "a", tmp_path / "b"]
    assert compare.paired_differences(compare.read_runs(directories)) == []
    text = Page(compare.write(directories)).text
    assert "texts or their labels differ (a 90, b 90, 89 in common)" in text


def test_the_page(outputs, capsys):
    assert main(["compare", *(str(outputs / name) for name in ("a", "b", "other", "begun"))]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert path == outputs / "compare-a-b-other-begun.html"
    found = Page(path)
    assert all(source.startswith("data:") for source in found.attributes("src"))
    assert sum(tag == "img" for tag, _ in found.elements) == 6 and not found.attributes("href")
    assert "differ (a 90, b 90, other 120, 90 in common)" in found.text
    assert "begun: step 06 is not complete" in found.text and found.banners() == []
    macro = found.text.split("macro F1")[1].split("accuracy")[0]
    line = next(
        line for line in macro.split("\n") if line.startswith("gold test 90 / 120 final 0.")
    )
    assert line.count("[0.") == 3 and line.strip().endswith("–")  # `begun` has none
    assert "b - a 90 0.1" in found.text and "b is better" in found.text
    assert "ba9876543210" in found.text and found.text.count(HOSTILE) > 3
    assert not any("hacked" in script for script in found.scripts)


def test_a_run_whose_chapters_do_not_fit_is_marked(outputs, tmp_path):
    shutil.copytree(outputs / "a", tmp_path / "old")
    write_manifest(tmp_path / "old", "02_base_classifier", {}, content="another")
    out = compare.write([outputs / "a", tmp_path / "old"], tmp_path / "new" / "page.html")
    (banner,) = Page(out).banners()
    assert "Of run old, from 03_embed_corpus on" in banner and "--from 03" in banner
    assert "All were tested on the same 90 gold test texts with the same labels" in Page(out).text
    with pytest.raises(UserError, match=r"--out .*: is a folder; name a file"):
        compare.write([outputs / "a", outputs / "b"], tmp_path)


def test_runs_of_one_name_are_told_apart(outputs, tmp_path):
    for folder in ("elsewhere", "a/elsewhere"):
        shutil.copytree(outputs / "begun", tmp_path / folder / "begun")
    runs = compare.read_runs([outputs / "begun", tmp_path / "elsewhere" / "begun"])
    assert [run.name for run in runs] == [f"{outputs.name}/begun", "elsewhere/begun"]
    runs = compare.read_runs([tmp_path / f"{folder}elsewhere/begun" for folder in ("", "a/")])
    assert [run.name for run in runs] == [f"{tmp_path.name}/elsewhere/begun", "a/elsewhere/begun"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a"], "needs two runs or more"),
        (["a", "./a"], "is given twice"),
        (["a", "missing"], "missing is no run: no step in it is complete"),
        (["a", "a/04_cluster_purity"], "is no run: no step in it is complete"),
    ],
)
def test_what_is_no_run_is_said(names, message, outputs, capsys):
    before = sorted(outputs.glob("compare*"))
    assert main(["compare", *(str(outputs / name) for name in names)]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1
    assert sorted(outputs.glob("compare*")) == before
