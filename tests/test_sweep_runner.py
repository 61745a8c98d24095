"""Scheduling and sharing of steps; stand-ins do the steps."""

import subprocess
import sys
import time

import pytest
import yaml

from lib import artifacts, params, sweep, sweep_runner
from lib.errors import UserError


def read_later(step):
    """What later steps read of this one."""
    return {file for read in artifacts.UPSTREAM.values() for file in read.get(step, ())}


@pytest.fixture
def stand_in(monkeypatch):
    """Steps finish at once, in this process; returns the list of (step, point) that were done."""
    done = []

    def execute(step, run_dirs, jobs, lock):
        broken = []
        for run_dir in run_dirs:
            loaded = params.load(run_dir / sweep_runner.PARAMETERS)
            values = loaded.steps[step]
            assert run_dir.name == loaded.run
            done.append((step[:2], run_dir.name))
            if getattr(values, "min_purity", None) == 1.0:
                broken.append(run_dir)
                continue
            opened = artifacts.open_step(step, run_dir, values)
            opened.path("file.txt").write_text(values.model_dump_json())
            for file in read_later(step):  # a figure's parameter does not change it
                path = opened.path(file if "." in file else f"{file}/part")
                path.write_text(values.model_dump_json(exclude={"umap_points"}))
            opened.finish([])
            notebook = artifacts.executed_path(step, run_dir)
            notebook.parent.mkdir(exist_ok=True)
            notebook.write_text("{}")
        return broken

    monkeypatch.setattr(sweep_runner, "execute", execute)
    return done


@pytest.fixture
def load(tmp_path):
    """Load a sweep over the sample with a base model of one file."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "weights.bin").write_bytes(b"1")

    def load(**content):
        base = {"01_gold_data": {"sources": ["sample"]}, "base_model": str(model)}
        (tmp_path / "base.yaml").write_text(yaml.safe_dump(base), encoding="utf-8")
        path = tmp_path / "sweep.yaml"
        path.write_text(yaml.safe_dump({"name": "s", "base": "base.yaml"} | content))
        return sweep.load(path)

    return load


def counts(done):
    found = [step for step, _ in done]
    return {step: found.count(step) for step in sorted(set(found))}


def test_no_step_is_done_twice(load, stand_in, tmp_path):
    loaded = load(
        grid={"seed": [0, 1]},
        variants={
            "base": {"last": "02"},
            "low": {"min_purity": 0.1},
            "soft": {"lambda_metric": 0.1},
            "hard": {"lambda_metric": 0.9},
        },
    )
    assert sweep_runner.run(loaded, tmp_path / "out") == []
    assert counts(stand_in) == {"01": 2, "02": 2, "03": 2, "04": 4, "05": 6}
    for point in loaded.points:
        run_dir = tmp_path / "out" / "s" / point.name
        for step in point.steps:
            assert artifacts.is_current(step, run_dir, point.params.steps[step])
            text = (run_dir / step / "file.txt").read_text()
            assert text == point.params.steps[step].model_dump_json()
        assert not list(run_dir.glob(".*"))
    assert not (tmp_path / "out" / "s" / "base__seed-0" / "03_embed_corpus").exists()


def test_a_complete_sweep_does_nothing_and_a_point_more_only_its_own(load, stand_in, tmp_path):
    sweep_runner.run(load(grid={"min_purity": [0.1, 0.2]}), tmp_path / "out")
    stand_in.clear()
    sweep_runner.run(load(grid={"min_purity": [0.1, 0.2]}), tmp_path / "out")
    assert stand_in == []
    sweep_runner.run(load(grid={"min_purity": [0.1, 0.2, 0.3]}), tmp_path / "out")
    assert stand_in == [("04", "min_purity-0.3"), ("05", "min_purity-0.3")]


def test_points_that_keep_the_same_texts_share_training(load, stand_in, tmp_path):
    """Their 04 differs, but not in what 05 reads of it."""
    loaded = load(grid={"umap_points": [500, 600], "min_purity": [0.1, 0.2]})
    sweep_runner.run(loaded, tmp_path / "out")
    assert counts(stand_in) == {"01": 1, "02": 1, "03": 1, "04": 4, "05": 2}
    for point in loaded.points:
        run_dir = tmp_path / "out" / "s" / point.name
        assert artifacts.is_current(
            "05_metric_learning", run_dir, point.params.steps["05_metric_learning"]
        )


def test_steps_of_other_runs_are_taken_over(load, stand_in, tmp_path):
    sweep_runner.run(load(grid={"min_purity": [0.1]}), tmp_path / "out")
    stand_in.clear()
    other = load(name="t", grid={"lambda_metric": [0.3]}, set={"min_purity": 0.1})
    sweep_runner.run(other, tmp_path / "out")
    assert stand_in == [("05", "lambda_metric-0.3")]


def test_a_failed_point_does_not_stop_the_others(load, stand_in, tmp_path):
    loaded = load(grid={"lambda_metric": [0.0, 0.1], "min_purity": [1.0, 0.1]})
    failed = sweep_runner.run(loaded, tmp_path / "out")
    assert failed == ["lambda_metric-0__min_purity-1", "lambda_metric-0.1__min_purity-1"]
    assert counts(stand_in) == {"01": 1, "02": 1, "03": 1, "04": 2, "05": 2}


def test_changing_one_point_leaves_the_others(load, stand_in, tmp_path):
    """As `python -m lib run` does it, on a folder of a sweep with other parameters."""
    loaded = load(grid={"min_purity": [0.1, 0.2]})
    sweep_runner.run(loaded, tmp_path / "out")
    one, two = (tmp_path / "out" / "s" / point.name for point in loaded.points)
    values = loaded.points[0].params.steps["01_gold_data"].model_copy(update={"seed": 9})
    artifacts.open_step("01_gold_data", one, values).path("file.txt").write_text("новое")
    values = loaded.points[1].params.steps
    assert all(artifacts.is_current(step, two, values[step]) for step in loaded.points[1].steps)
    assert (two / "01_gold_data" / "file.txt").read_text() != "новое"


def test_points_with_more_rounds_run_them_after_05(load, stand_in, tmp_path):
    sweep_runner.run(load(grid={"rounds": [1, 2, 3]}), tmp_path / "out")
    assert counts(stand_in) == {"01": 1, "02": 1, "03": 1, "04": 1, "05": 3}
    assert stand_in[-2:] == [("05", "rounds-2"), ("05", "rounds-3")]


def test_a_run_is_not_taken_for_a_sweep(load, tmp_path):
    (tmp_path / "out" / "s" / "01_gold_data").mkdir(parents=True)
    with pytest.raises(UserError, match="folder of a run"):
        sweep_runner.run(load(grid={"seed": [0]}), tmp_path / "out")


# --- processes -------------------------------------------------------------------------------


@pytest.fixture
def processes(monkeypatch, tmp_path):
    """Steps are real processes of a few milliseconds; returns how long each takes."""
    seconds = {"each": 0.0}

    def start(step, run_dir, jobs, lock):
        with (run_dir / sweep_runner.LOG).open("a") as output:
            return subprocess.Popen(
                [sys.executable, "-c", PROCESS, step, str(run_dir), str(seconds["each"])],
                stdout=output,
                pass_fds=[lock.fileno()],
            )

    monkeypatch.setattr(sweep_runner, "start", start)
    return seconds


PROCESS = """
import sys, time
step, run_dir, seconds = sys.argv[1:]
def note(word):
    with open(run_dir + "/../calls", "a") as calls:
        calls.write(f"{run_dir[-1]} {word}\\n")
note("start")
time.sleep(float(seconds))
if run_dir.endswith("b"):
    print("1 of 2\\nerror: no pseudo-label is left,\\n  not one")
    sys.exit(2)
note("end")
"""


def test_so_many_processes_run_at_a_time(processes, tmp_path):
    processes["each"] = 0.6
    dirs = [tmp_path / name for name in "acd"]
    for run_dir in dirs:
        run_dir.mkdir()
    with sweep_runner._locked(tmp_path) as lock:
        assert sweep_runner.execute("01_gold_data", dirs, 2, lock) == []
    calls = (tmp_path / "calls").read_text().split("\n")
    running, most = 0, 0
    for call in filter(None, calls):
        running += 1 if call.endswith("start") else -1
        most = max(most, running)
    assert most == 2 and len(calls) == 7


def test_the_message_of_a_failed_step_is_passed_on(processes, tmp_path, caplog):
    dirs = [tmp_path / name for name in "ab"]
    for run_dir in dirs:
        run_dir.mkdir()
    with sweep_runner._locked(tmp_path) as lock:
        assert sweep_runner.execute("01_gold_data", dirs, 1, lock) == dirs[1:]
    assert "b failed: no pseudo-label is left,\n  not one" in caplog.text
    assert "sweep.log" in caplog.text


def test_a_step_of_a_killed_sweep_keeps_the_folder(processes, tmp_path):
    """The lock is released when the last process that holds it ends."""
    processes["each"] = 60
    (tmp_path / "a").mkdir()
    with sweep_runner._locked(tmp_path) as lock:
        process = sweep_runner.start("01_gold_data", tmp_path / "a", 1, lock)
    with pytest.raises(UserError, match="another sweep"), sweep_runner._locked(tmp_path):
        pass
    process.kill()
    process.wait()
    with sweep_runner._locked(tmp_path):
        pass


def test_an_interrupt_ends_the_steps(processes, tmp_path, monkeypatch):
    processes["each"] = 60
    (tmp_path / "a").mkdir()
    started = time.time()

    def interrupted(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep_runner.time, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt), sweep_runner._locked(tmp_path) as lock:
        sweep_runner.execute("01_gold_data", [tmp_path / "a"], 1, lock)
    assert time.time() - started < 30


def test_the_command_of_a_step(monkeypatch, tmp_path):
    """Each of N processes gets its share of the cores, and runs the point's own parameters."""
    found = {}

    def popen(command, **options):
        found.update(command=command, **options)

    monkeypatch.setattr(sweep_runner.subprocess, "Popen", popen)
    monkeypatch.setattr(artifacts, "cores", lambda: 8)
    run_dir = tmp_path / "s" / "point"
    run_dir.mkdir(parents=True)
    with (tmp_path / "lock").open("w") as lock:
        sweep_runner.start("05_metric_learning", run_dir, 3, lock)
    assert found["env"]["OMP_NUM_THREADS"] == "2"
    assert found["command"][1:4] == ["-m", "lib", "run"]
    assert found["command"][4] == str(run_dir / "params.yaml")
    assert found["command"][found["command"].index("--outputs") + 1] == str(tmp_path / "s")
