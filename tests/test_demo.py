"""The demo, as `make demo` runs it."""

import os
import subprocess
import sys

import pytest

from lib import artifacts, code

pytestmark = pytest.mark.slow


def test_demo(tmp_path):
    """`make demo` in a fresh folder: all steps, and a report that says what its data are."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "lib",
            "run",
            str(code.PROJECT / "params" / "demo.yaml"),
            "--outputs",
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "final - base" in result.stdout and "index.html" in result.stdout
    index = (tmp_path / "demo" / "report" / "index.html").read_text(encoding="utf-8")
    assert "smoke test" in index
    rows = artifacts.read_metrics(tmp_path / "demo", "06_final_eval")
    scores = {
        r["model"]: r["value"]
        for r in rows
        if (r["name"], r["dataset"], r["split"]) == ("macro_f1", "gold", "test")
    }
    assert min(scores["base"], scores["final"]) > 0.5, scores  # chance is 0.33
