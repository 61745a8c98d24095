"""The demo, as `make demo` runs it, with fewer texts and steps: on one core it takes minutes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lib import LABELS, artefacts
from lib.__main__ import main
from lib.files import read_json
from lib.parameters import STEPS
from lib.runs import fingerprints

pytestmark = pytest.mark.slow

SMALLER = {
    "max_gold_train": 250,
    "max_corpus": 25,  # of each of eight sources
    "max_tokens": 48,
    "02_base_classifier.epochs": 3,
    "min_purity": 0.0,
    "05_metric_learning.steps": 2,
    "05_metric_learning.evaluations": 1,
    "lambda_metric": "[0.5]",
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> tuple[Path, str]:
    """The demo in a fresh folder: where it is, and what was printed."""
    outputs = tmp_path_factory.mktemp("outputs")
    file = str(fingerprints.PROJECT / "params" / "demo.yaml")
    overrides = [part for name, value in SMALLER.items() for part in ("-p", f"{name}={value}")]
    result = subprocess.run(
        [sys.executable, "-m", "lib", "run", file, "--outputs", str(outputs), *overrides],
        capture_output=True,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return outputs / "demo", result.stdout


def test_demo(demo):
    """All steps, and a report that says what its data are."""
    run_dir, printed = demo
    assert "final - base" in printed and "index.html" in printed
    index = (run_dir / "report" / "index.html").read_text(encoding="utf-8")
    assert "smoke test" in index
    rows = artefacts.read_metrics(run_dir, "06_final_eval")
    scores = {
        r["model"]: r["value"]
        for r in rows
        if (r["name"], r["dataset"], r["split"]) == ("macro_f1", "gold", "test")
    }
    assert min(scores["base"], scores["final"]) > 0.35, scores  # the largest class alone: 0.18
    manifest = artefacts.read_manifest(run_dir, "01_gold_data")
    assert manifest["commit"] == fingerprints.commit()


@pytest.mark.browser
@pytest.mark.parametrize("name", ["index", *STEPS])
def test_the_demos_report_in_a_browser(demo, browser_page, name):
    run_dir, _ = demo
    page = browser_page.open(run_dir / "report" / f"{name}.html")
    browser_page.check()
    assert all(browser_page.drawn())
    assert page.locator("img").count() >= 1
    assert page.locator("header a").count() >= 7


def test_the_demo_ends_with_a_model(demo, capsys):
    """Exported, on the front page, and able to label."""
    run_dir, _ = demo
    assert main(["export", str(run_dir), "--max-loss", "0.2"]) == 0
    about = read_json(run_dir / "model" / "export.json")
    rows = {row["model"]: row for row in about["measured"]}
    assert rows["ONNX float32"]["equal_labels"] > 0.99
    assert rows["ONNX int8"]["equal_labels"] > 0.8  # after so few steps texts are near the border
    assert len(rows["ONNX int8"]["in_float"]) >= 3
    assert rows["ONNX int8"]["megabytes"] < 40
    index = (run_dir / "report" / "index.html").read_text(encoding="utf-8")
    assert "ONNX int8" in index and "Out of date: exported" not in index
    capsys.readouterr()
    assert main(["predict", str(run_dir), "--text", "Ужасно, всё сломалось, верните деньги"]) == 0
    assert capsys.readouterr().out.split("\t")[0] in LABELS
