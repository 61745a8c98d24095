"""Steps and their parts: what is reused, what is made again, and that nothing done is lost."""

import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest

from lib import artefacts, files
from lib.errors import UserError
from lib.parameters import BaseClassifierParams, ClusterPurityParams, GoldDataParams
from lib.runs import fingerprints, locks, steps

ONE, TWO, FOUR = "01_gold_data", "02_base_classifier", "04_cluster_purity"
SAMPLE = GoldDataParams(sources=["sample"])
EMBEDDED = BaseClassifierParams(base_model="embedded:e5-small")


@pytest.fixture
def tmp_path(tmp_path):
    """A run's folder with no other test's runs beside it, whose parts it would take."""
    (tmp_path / "outputs" / "run").mkdir(parents=True)
    return tmp_path / "outputs" / "run"


@pytest.fixture(autouse=True)
def code(monkeypatch):
    """Digests of code that the test may change; functions of a test belong to no module of lib."""
    digests = {"lib.x": "1"}
    monkeypatch.setattr(fingerprints, "of_modules", lambda modules: dict(digests))
    monkeypatch.setattr(fingerprints, "of_notebook", lambda step: {"notebook": step})
    monkeypatch.setattr(fingerprints, "external", lambda step, params: {})
    return digests


class Function:
    """Writes its arguments into the folder, and counts its calls."""

    def __init__(self):
        self.__module__, self.__qualname__ = "lib.x", "function"
        self.calls = 0
        self.fails = False

    def __call__(self, folder, **arguments):
        self.calls += 1
        (folder / f"call-{self.calls}").touch()
        if self.fails:
            raise UserError("pca_dimensions: lower it")
        texts = {k: v.read_text() if hasattr(v, "read_text") else v for k, v in arguments.items()}
        (folder / "result.json").write_text(json.dumps(texts))


@pytest.fixture
def function():
    return Function()


def complete(name, run_dir, params=SAMPLE, content="a"):
    step = steps.open_step(name, run_dir, params)
    step.path("gold.parquet").write_text(content)
    step.finish([{"name": "texts", "value": 1}], "one\ntwo")


def tree(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_step_is_complete_when_it_is_finished(tmp_path):
    step = steps.open_step(ONE, tmp_path, SAMPLE)
    step.path("figures/x.png").write_bytes(b"1")
    assert artefacts.read_manifest(tmp_path, ONE) is None
    step.finish([{"name": "texts", "value": 3}], "kept 3\ndropped 0")
    manifest = artefacts.read_manifest(tmp_path, ONE)
    assert manifest["parameters"] == SAMPLE.model_dump(mode="json")
    assert set(manifest["outputs"]) == {"figures/x.png", "metrics.json"}
    assert manifest["outputs"]["figures/x.png"] == files.file_digest(
        tmp_path / ONE / "figures" / "x.png"
    )
    assert artefacts.read_metrics(tmp_path, ONE) == [{"name": "texts", "value": 3}]
    assert steps.last_result(ONE, tmp_path).splitlines() == ["**kept 3**  ", "**dropped 0**"]
    assert steps.is_current(ONE, tmp_path, SAMPLE)


def test_looking_never_destroys(tmp_path, function):
    """Opening a finished step and running its first cells leaves it as it was."""
    step = steps.open_step(ONE, tmp_path, SAMPLE)
    step.make("model", function, epochs=3)
    step.finish([], "done")
    before = tree(tmp_path / ONE)
    for params in (SAMPLE, GoldDataParams(sources=["sample"], seed=1)):
        looked = steps.open_step(ONE, tmp_path, params)
        looked.path("history.csv").write_text("half")
        assert tree(tmp_path / ONE) == before
    folder = looked.make("model", function, epochs=3)
    assert function.calls == 1 and (folder / "result.json").exists()
    assert tree(tmp_path / ONE) == before


def test_an_error_at_the_end_loses_nothing(tmp_path, function):
    complete(ONE, tmp_path)
    before = tree(tmp_path / ONE)
    step = steps.open_step(ONE, tmp_path, GoldDataParams(sources=["sample"], seed=1))
    step.make("embeddings", function, seed=1)
    function.fails = True
    with pytest.raises(UserError):
        step.make("pca", function, dimensions=999)
    assert tree(tmp_path / ONE) == before
    function.fails = False
    again = steps.open_step(ONE, tmp_path, GoldDataParams(sources=["sample"], seed=1))
    again.make("embeddings", function, seed=1)
    assert function.calls == 2, "the embeddings are there"
    again.make("pca", function, dimensions=8)
    again.finish([], "done")
    assert {"embeddings", "pca"} <= {path.name for path in (tmp_path / ONE).iterdir()}
    assert not list((tmp_path / ONE).rglob(".pca-*")), "the failed attempt is left"
    assert not (tmp_path / ONE / "gold.parquet").exists(), "a file of the step before is left"


def test_the_last_cell_run_again_loses_nothing(tmp_path, function):
    """In JupyterLab: what was built lies in the finished step then, and no more where it was."""
    step = steps.open_step(ONE, tmp_path, SAMPLE)
    step.path("figures/x.png").write_bytes(b"1")
    step.make("model", function, epochs=3)
    step.finish([], "done")
    before = tree(tmp_path / ONE)
    with pytest.raises(UserError, match=r"finished before, or never wrote figures/x\.png, m.*, mo"):
        step.finish([], "done")
    step.path("figures/x.png").write_bytes(b"2")
    with pytest.raises(UserError, match="run its notebook again"):
        step.finish([], "done")
    assert tree(tmp_path / ONE) == before


@pytest.mark.parametrize("killed", ["replace_folder", "folder_digests"])
def test_a_part_that_is_killed_when_done_is_not_lost(tmp_path, function, monkeypatch, killed):
    """Digests of many gigabytes take a while, in which a kill must not cost the part."""

    def kill(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(files, killed, kill)
    step = steps.open_step(ONE, tmp_path, SAMPLE)
    with pytest.raises(KeyboardInterrupt):
        step.make("model", function, epochs=3)
    (made,) = step.folder.glob(".model-*")
    assert (made / "result.json").exists()


def truncate(path):
    path.write_bytes(path.read_bytes()[:-5])


@pytest.mark.parametrize("file", ["model/result.json", ".parts/model.json"])
@pytest.mark.parametrize("harm", [truncate, Path.unlink, lambda path: path.write_text("null")])
def test_a_part_that_is_not_whole_is_made_again(tmp_path, function, caplog, file, harm):
    step = steps.open_step(ONE, tmp_path, SAMPLE)
    step.make("model", function, epochs=3)
    step.finish([], "done")
    whole = (tmp_path / ONE / "model" / "result.json").read_bytes()
    harm(tmp_path / ONE / file)
    assert not steps.is_current(ONE, tmp_path, SAMPLE) and f"{ONE}/{file} is " in caplog.text
    step = steps.open_step(ONE, tmp_path, SAMPLE)
    assert (step.make("model", function, epochs=3) / "result.json").read_bytes() == whole
    assert function.calls == 2


@pytest.mark.parametrize("file", ["gold.parquet", "manifest.json"])
def test_a_step_with_a_cut_file_is_not_current(tmp_path, caplog, file):
    complete(ONE, tmp_path, content="a text")
    assert steps.is_current(ONE, tmp_path, SAMPLE)
    truncate(tmp_path / ONE / file)
    assert not steps.is_current(ONE, tmp_path, SAMPLE)
    assert f"{ONE}/{file} is damaged" in caplog.text
    complete(ONE, tmp_path, content="a text")
    assert steps.is_current(ONE, tmp_path, SAMPLE)


@pytest.mark.parametrize("content", ["null", "[]", "{}", "{"])
def test_damaged_records_count_as_not_there(tmp_path, function, content):
    def step():
        return steps.open_step(ONE, tmp_path, SAMPLE)

    step().make("model", function, epochs=3)
    (step().folder / ".parts" / "model.json").write_text(content)
    step().make("model", function, epochs=3)
    assert function.calls == 2
    complete(ONE, tmp_path)
    for name in (artefacts.MANIFEST, artefacts.METRICS):
        (tmp_path / ONE / name).write_text(content)
    assert not steps.is_current(ONE, tmp_path, SAMPLE)
    assert content == "{}" or artefacts.read_manifest(tmp_path, ONE) is None
    assert artefacts.read_metrics(tmp_path, ONE) == []


def test_a_run_beside_that_is_replaced_meanwhile_is_not_taken(tmp_path, function, monkeypatch):
    """Between the look at its part and the linking, it gets another one in its place."""
    beside = steps.open_step(ONE, tmp_path / "a", SAMPLE)
    beside.make("model", function, epochs=3)
    link = files.link_tree

    def replaced(source, target):
        beside.make("model", function, epochs=4)
        link(source, target)

    monkeypatch.setattr(files, "link_tree", replaced)
    folder = steps.open_step(ONE, tmp_path / "b", SAMPLE).make("model", function, epochs=3)
    assert json.loads((folder / "result.json").read_text()) == {"epochs": 3}


def test_an_interrupted_link_leaves_no_record_of_other_files(tmp_path, monkeypatch):
    """A part that was here before is not taken to be what the link has put in its place."""
    link = files.link_tree

    def killed(source, target):
        link(source, target)
        raise KeyboardInterrupt

    step = steps.open_step(ONE, tmp_path / "a", SAMPLE)
    step.make("model", Function(), epochs=3)
    steps.open_step(ONE, tmp_path / "b", SAMPLE).make("model", Function(), epochs=4)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(files, "link_tree", killed)
        step.make("model", Function(), epochs=4)
    folder = step.make("model", Function(), epochs=3)
    assert json.loads((folder / "result.json").read_text()) == {"epochs": 3}


def test_an_interrupted_part_goes_on_in_its_folder(tmp_path, function):
    function.fails = True
    for _ in range(2):
        step = steps.open_step(ONE, tmp_path, SAMPLE)
        with pytest.raises(UserError):
            step.make("model", function, epochs=3)
    function.fails = False
    made = step.make("model", function, epochs=3)
    assert sorted(p.name for p in made.glob("call-*")) == ["call-1", "call-2", "call-3"]


@pytest.mark.parametrize("change", ["argument", "file", "code", "package", "none"])
def test_what_makes_a_part_again(tmp_path, function, code, monkeypatch, change):
    data = tmp_path / "data.txt"
    data.write_text("1")
    steps.open_step(ONE, tmp_path / "run", SAMPLE).make("model", function, data=data, epochs=3)
    if change == "file":
        data.write_text("2")
    if change == "code":
        code["lib.x"] = "2"
    if change == "package":
        versions = {**fingerprints.packages(), "torch": "0"}
        monkeypatch.setattr(fingerprints, "packages", lambda: versions)
    epochs = 4 if change == "argument" else 3
    step = steps.open_step(ONE, tmp_path / "run", SAMPLE)
    folder = step.make("model", function, data=data, epochs=epochs)
    assert function.calls == (1 if change == "none" else 2)
    content = json.loads((folder / "result.json").read_text())
    assert content == {"data": data.read_text(), "epochs": epochs}


def test_a_run_beside_shares_its_parts(tmp_path, function):
    """Also while its step is not complete; the files are the same ones."""
    one = steps.open_step(ONE, tmp_path / "a", SAMPLE).make("model", function, epochs=3)
    other = steps.open_step(ONE, tmp_path / "b", SAMPLE)
    folder = other.make("model", function, epochs=3)
    assert function.calls == 1
    assert (folder / "result.json").samefile(one / "result.json")
    other.finish([], "done")
    shutil.rmtree(tmp_path / "a")
    assert (tmp_path / "b" / ONE / "model" / "result.json").exists()


def test_force_makes_all_parts_again(tmp_path, function):
    for run in ("a", "b"):
        step = steps.open_step(ONE, tmp_path / run, SAMPLE)
        step.make("model", function, epochs=3)
        step.finish([], "done")
    steps.force(ONE, tmp_path / "b")
    assert (tmp_path / "b" / ONE / "model").exists()
    step = steps.open_step(ONE, tmp_path / "b", SAMPLE)
    step.make("model", function, epochs=3)
    assert function.calls == 2
    steps.force(ONE, tmp_path / "b")  # the same command, after an interruption
    step.make("model", function, epochs=3)
    step.finish([], "done")
    assert function.calls == 2
    steps.open_step(ONE, tmp_path / "b", SAMPLE).make("model", function, epochs=3)
    assert function.calls == 2


def test_inputs_make_a_step_stale_and_only_those_it_read(tmp_path):
    step = steps.open_step(ONE, tmp_path, SAMPLE)
    for name in ("tables/gold.parquet", "card.md"):
        step.path(name).write_text("1")
    step.finish([], "done")
    step = steps.open_step(TWO, tmp_path, EMBEDDED)
    step.input(ONE, "tables")
    step.finish([], "done")
    assert steps.is_current(TWO, tmp_path, EMBEDDED)
    for name, current in (("card.md", True), ("tables/gold.parquet", False)):
        step = steps.open_step(ONE, tmp_path, SAMPLE)
        step.path("tables/gold.parquet").write_text("1")
        step.path("card.md").write_text("1")
        step.path(name).write_text("2")
        step.finish([], "done")
        assert steps.is_current(TWO, tmp_path, EMBEDDED) is current
    manifest = artefacts.read_manifest(tmp_path, TWO)
    assert artefacts.changed_inputs(tmp_path, manifest) == [f"{ONE}/tables"]


def test_other_parameters_or_code_make_a_step_stale(tmp_path, monkeypatch):
    complete(ONE, tmp_path)
    assert not steps.is_current(ONE, tmp_path, GoldDataParams(sources=["sample"], seed=1))
    monkeypatch.setattr(fingerprints, "of_notebook", lambda step: {"notebook": "other"})
    assert not steps.is_current(ONE, tmp_path, SAMPLE)


def test_a_missing_step_is_named(tmp_path):
    step = steps.open_step(FOUR, tmp_path, ClusterPurityParams())
    with pytest.raises(UserError, match="reads the artefacts of 01_gold_data, which is not compl"):
        step.input(ONE, "tables/corpus")
    complete(ONE, tmp_path)
    with pytest.raises(UserError, match="tables/corpus, which is missing; run 01_gold_data with"):
        step.input(ONE, "tables/corpus")


def test_a_part_that_fails_leaves_no_lock(tmp_path, function):
    function.fails = True
    with pytest.raises(UserError):
        steps.open_step(ONE, tmp_path, SAMPLE).make("model", function, epochs=3)
    assert [path.name for path in tmp_path.parent.iterdir()] == ["run"]


@pytest.fixture
def other(tmp_path):
    """Another process that holds the run's lock until it is killed."""
    program = f"""
        import pathlib, sys
        from lib.runs import locks
        with locks.lock(pathlib.Path({str(tmp_path)!r}), "run"):
            print("locked", flush=True)
            sys.stdin.readline()
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


def test_one_process_at_a_time_writes_into_a_run(tmp_path, other):
    with pytest.raises(UserError, match=rf"in use by another process \(pid {other.pid}, run\)"):
        steps.open_step(ONE, tmp_path, SAMPLE)
    other.kill()
    other.wait()
    complete(ONE, tmp_path)  # a killed process leaves no lock
    with locks.lock(tmp_path, "run"), locks.lock(tmp_path, "again"):
        complete(ONE, tmp_path)


def test_processes_that_open_a_step_together_do_not_lock_each_other_out(tmp_path, request):
    """Four on one machine: three open it at the same moment, behind the main one."""
    waited = []
    one_of_many = SimpleNamespace(is_main_process=False, wait_for_everyone=lambda: waited.append(1))
    request.getfixturevalue("other")
    step = steps.open_step(ONE, tmp_path, SAMPLE, one_of_many)
    assert waited and step.group is one_of_many


def test_finishing_takes_nothing_from_a_process_at_work(tmp_path, request, function):
    """A notebook left open in JupyterLab, and a run in the same folder."""
    looked = steps.open_step(ONE, tmp_path, SAMPLE)
    looked.path("history.csv").write_text("1")
    request.getfixturevalue("other")
    unfinished = looked.folder / ".model-0123" / "checkpoint"
    unfinished.mkdir(parents=True)
    with pytest.raises(UserError, match="in use by another process"):
        looked.finish([], "done")
    assert unfinished.exists()


def test_a_number_of_a_process_is_no_key_to_a_lock(tmp_path, monkeypatch, request):
    """Every container has a process 1; and a killed one leaves its number behind."""
    other = request.getfixturevalue("other")
    monkeypatch.setattr(locks.os, "getpid", lambda: other.pid)
    monkeypatch.setattr(locks.platform, "node", lambda: "another-host")
    with pytest.raises(UserError, match="in use"), locks.lock(tmp_path, "run"):
        pass
    files.write_json(tmp_path / "free" / ".lock.json", {"pid": other.pid, "host": "another-host"})
    with locks.lock(tmp_path / "free", "run"):
        assert files.read_json(tmp_path / "free" / ".lock.json")["what"] == "run"


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/run cannot be written: .*; name another --outputs"):
        steps.open_step(ONE, tmp_path / "file" / "run", SAMPLE)
