import json
import os
import subprocess
import sys

import pytest

from lib import code
from lib.schema import STEPS

MODULES = {
    "__init__": "",
    "alpha": "import os\nfrom lib.beta import thing\n",
    "beta": "from lib import gamma\nthing = 1\n",
    "gamma": "from lib.alpha import os\n",  # a circle: must end
    "lonely": "from lib import alpha\n",
}
CELLS = [
    ("markdown", [], "# Title"),
    ("code", ["parameters"], "seed = 0"),
    ("code", [], "from lib import alpha\nx = alpha.os"),
    ("code", [], "y = x"),
]
ALL = {"step.ipynb", "alpha.py", "beta.py", "gamma.py"}


@pytest.fixture
def fingerprint(tmp_path, monkeypatch):
    """Fingerprint of a made-up project with the given cells and modules, each in a new folder."""
    count = 0

    def of(cells=CELLS, **modules):
        nonlocal count
        count += 1  # parsed files are remembered by their path
        project = tmp_path / f"project {count}"
        package = project / "src" / "lib"
        package.mkdir(parents=True)
        (project / "notebooks").mkdir()
        for name, text in (MODULES | modules).items():
            (package / f"{name}.py").write_text(text, encoding="utf-8")
        notebook = {
            "cells": [
                {
                    "cell_type": kind,
                    "metadata": {"tags": tags} if tags else {},
                    "source": text.splitlines(keepends=True),
                }
                for kind, tags, text in cells
            ]
        }
        path = project / "notebooks" / "step.ipynb"
        path.write_text(json.dumps(notebook), encoding="utf-8")
        monkeypatch.setattr(code, "PROJECT", project)
        monkeypatch.setattr(code, "PACKAGE", package)
        return code.fingerprint("step")

    return of


def with_cell(index, text):
    cells = list(CELLS)
    cells[index] = (*cells[index][:2], text)
    return cells


def test_modules_behind_modules_are_found_and_others_are_not(fingerprint):
    assert set(fingerprint()) == ALL


def test_the_same_code_has_the_same_fingerprint(fingerprint):
    assert fingerprint() == fingerprint()


@pytest.mark.parametrize(
    "cells",
    [
        pytest.param(with_cell(0, "# Another title"), id="markdown"),
        pytest.param([("markdown", [], "more"), *CELLS], id="new markdown"),
        pytest.param(with_cell(1, "seed = 1"), id="parameters"),
        pytest.param(with_cell(3, "# why\ny  =  x  # here\n\n"), id="comment and layout"),
        pytest.param([*CELLS, ("code", [], "")], id="empty cell"),
    ],
)
def test_what_does_not_count_in_a_notebook(fingerprint, cells):
    assert fingerprint(cells) == fingerprint()


@pytest.mark.parametrize(
    "cells",
    [
        pytest.param(with_cell(3, "y = x + 1"), id="changed"),
        pytest.param(CELLS[:3], id="removed"),
        pytest.param([*CELLS, ("code", [], "z = y")], id="added"),
        pytest.param([*CELLS[:2], CELLS[3], CELLS[2]], id="moved"),
    ],
)
def test_a_code_cell_counts(fingerprint, cells):
    before, after = fingerprint(), fingerprint(cells)
    assert before.pop("step.ipynb") != after.pop("step.ipynb")
    assert before == after


@pytest.mark.parametrize("name", ["alpha", "beta", "gamma"])
def test_a_change_of_a_module_changes_its_digest_alone(fingerprint, name):
    before, after = fingerprint(), fingerprint(**{name: MODULES[name] + "more = 2\n"})
    assert {file for file in ALL if before[file] != after[file]} == {f"{name}.py"}


def test_comments_of_modules_and_other_modules_do_not_count(fingerprint):
    quiet = {name: f"# comment\n{text}\n\n# end\n" for name, text in MODULES.items()}
    assert fingerprint(**quiet) == fingerprint()
    assert fingerprint(lonely="x = 1") == fingerprint()


def test_a_new_import_brings_its_module(fingerprint):
    assert set(fingerprint([*CELLS, ("code", [], "from lib.lonely import *")])) == {
        *ALL,
        "lonely.py",
    }


def test_names_that_are_no_modules_are_ignored(fingerprint):
    found = fingerprint([("code", [], "from lib import LABELS, gamma\nimport json")])
    assert set(found) == ALL


@pytest.mark.parametrize("step", STEPS)
def test_fingerprints_of_the_real_steps(step):
    found = code.fingerprint(step)
    assert {f"{step}.ipynb", "artifacts.py", "errors.py"} <= set(found)
    assert ("metric_learning.py" in found) == (step == "05_metric_learning")
    assert ("kmeans.py" in found) == (step in ("04_cluster_purity", "05_metric_learning"))
    assert not {"runner.py", "report.py", "__main__.py"} & set(found)


def test_the_modules_are_those_that_python_loads():
    """The imports of notebook 01 in a new process load exactly the modules in its fingerprint."""
    cells = json.loads(code.notebook_path("01_gold_data").read_text(encoding="utf-8"))["cells"]
    lines = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code").splitlines()
    script = "\n".join(line for line in lines if line.startswith(("import ", "from ")))
    script += "\nimport sys\nprint(*(name for name in sys.modules if name.startswith('lib.')))"
    run = [sys.executable, "-c", script]
    loaded = subprocess.run(run, capture_output=True, text=True, check=True).stdout.split()
    found = set(code.fingerprint("01_gold_data")) - {"01_gold_data.ipynb"}
    modules = {name.removeprefix("lib.") for name in loaded} - code.NEUTRAL
    assert {f"{name}.py" for name in modules} == found


def git(folder, *arguments):
    options = ["-c", "user.name=a", "-c", "user.email=a@b"]
    command = ["git", "-C", str(folder), *options, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository with one commit, taken for the project."""
    (tmp_path / "file.txt").write_text("one")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    monkeypatch.setattr(code, "PROJECT", tmp_path)
    return tmp_path


def test_commit_is_the_checked_out_one(checkout):
    assert code.commit() == git(checkout, "rev-parse", "HEAD")[:12]
    (checkout / "new.txt").write_text("untracked files are no change")
    assert code.commit() == git(checkout, "rev-parse", "HEAD")[:12]
    (checkout / "file.txt").write_text("two")
    assert code.commit() == git(checkout, "rev-parse", "HEAD")[:12] + " with changes"


def test_files_with_a_new_time_are_looked_at_once(checkout, tmp_path_factory):
    """Notebooks go through nbstripout for that, which takes seconds for each."""
    log = tmp_path_factory.mktemp("filter") / "log"
    git(checkout, "config", "filter.counted.clean", f"echo seen >> '{log}'; cat")
    (checkout / ".git" / "info" / "attributes").write_text("* filter=counted\n")
    os.utime(checkout / "file.txt", (946684800, 946684800))
    assert code.commit() == git(checkout, "rev-parse", "HEAD")[:12]
    seen = log.read_text()
    assert seen and code.commit() == git(checkout, "rev-parse", "HEAD")[:12]
    assert log.read_text() == seen


def test_no_commit_without_a_checkout_of_the_project(checkout, monkeypatch, tmp_path_factory):
    inner = checkout / "site-packages"
    inner.mkdir()
    monkeypatch.setattr(code, "PROJECT", inner)  # somewhere inside another repository
    assert code.commit() is None
    monkeypatch.setattr(code, "PROJECT", tmp_path_factory.mktemp("plain"))
    assert code.commit() is None
    monkeypatch.setattr(code, "PROJECT", checkout)
    monkeypatch.setenv("PATH", str(inner))  # no git
    assert code.commit() is None


def test_reading_parameters_is_no_step(fingerprint):
    cells = with_cell(2, "from lib import alpha, params\nfrom lib.schema import STEPS")
    before = fingerprint(cells, params="x = 1\n", schema="from lib import lonely\n")
    assert set(before) == ALL and before == fingerprint(cells, params="x = 2\n", schema="y = 3\n")
