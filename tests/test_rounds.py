"""Rounds: where they live, when they stop, and which one 06 judges. Stand-ins do the steps."""

import itertools

import pytest

from lib import artifacts, code, params, rounds, schema
from lib.__main__ import main
from lib.errors import UserError

GOLD, BASE, FINAL = "01_gold_data", "02_base_classifier", "05_metric_learning"
LATER = artifacts.ROUND_STEPS


@pytest.fixture
def steps(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "weights.bin").write_bytes(b"1")
    content = {GOLD: {"sources": ["sample"]}, "base_model": str(model)}
    return params.resolve(content, []).steps


def do(name, run_dir, values, score=0.5):
    """Complete a step as its notebook would, with this macro-F1 on validation."""
    step = artifacts.open_step(name, run_dir, values)
    step.path("model/weights.bin").write_text(f"{name} {score}")
    about = {"dataset": "gold", "split": "validation"}
    metrics = [{"name": "macro_f1", **about, "value": score, "low": score - 0.1, "high": 0.99}]
    if name == "04_cluster_purity":
        metrics = [{"name": "kept_share", "value": 0.4}]
    step.finish(metrics)
    notebook = artifacts.executed_path(name, run_dir)
    notebook.parent.mkdir(exist_ok=True)
    notebook.write_text(name)


@pytest.fixture
def play(tmp_path, steps):
    """Play a run whose rounds (0: the base) have these scores; returns what was done in rounds."""

    def play(scores, at_most, run="run"):
        run_dir, done = tmp_path / run, []
        for name in (GOLD, BASE, *LATER):
            do(name, run_dir, steps[name], scores[0] if name == BASE else scores[1])

        def do_step(name, folder, title):
            done.append(f"{folder.name} {name[:2]}")
            assert folder.name.removeprefix("round_") in title
            do(name, folder, steps[name], scores[int(folder.name[-1])])
            return True

        assert rounds.run(run_dir, at_most, do_step)
        return run_dir, done

    return play


def test_a_second_round_is_labelled_by_the_first_ones_model(play, steps):
    run_dir, done = play([0.5, 0.6, 0.7], 2)
    assert done == ["round_2 03", "round_2 04", "round_2 05"]
    second = run_dir / "round_2"
    weights = (second / BASE / "model" / "weights.bin").read_text()
    assert weights == f"{FINAL} 0.6" == (run_dir / FINAL / "model" / "weights.bin").read_text()
    assert (second / GOLD / "model" / "weights.bin").read_text() == f"{GOLD} 0.6"
    for name in LATER:
        assert artifacts.is_current(name, second, steps[name])
        assert artifacts.is_current(name, run_dir, steps[name])
    assert artifacts.executed_path(BASE, second).read_text() == FINAL


@pytest.mark.parametrize(
    ("scores", "at_most", "last", "best"),
    [
        ([0.5, 0.6, 0.7, 0.8], 3, 3, 3),
        ([0.5, 0.6, 0.7, 0.65], 5, 3, 2),
        ([0.5, 0.6, 0.6], 5, 2, 1),
        ([0.5, 0.5], 5, 1, 1),  # the first round is no better than the base
        ([0.5, 0.4], 2, 1, 1),
    ],
)
def test_it_stops_when_validation_does_not_improve(play, steps, scores, at_most, last, best):
    run_dir, done = play(scores, at_most)
    assert [name for name in done if name.endswith("05")] == [
        f"round_{n} 05" for n in range(2, last + 1)
    ]
    found = artifacts.read_rounds(run_dir)
    assert found["best"] == best
    assert [row["value"] for row in found["rounds"]] == scores[: last + 1]
    gains = [row["gain"] for row in found["rounds"]][1:]
    assert gains == pytest.approx([b - a for a, b in itertools.pairwise(scores[: last + 1])])


def test_06_judges_the_best_rounds_model_against_the_first_base(play, steps):
    run_dir, _ = play([0.5, 0.6, 0.7], 2)
    step = artifacts.open_step("06_final_eval", run_dir, steps["06_final_eval"])
    assert step.input(FINAL, "model") == (run_dir / "round_2" / FINAL / "model").resolve()
    assert step.input(BASE, "model") == (run_dir / BASE / "model").resolve()
    assert artifacts.input_dir(run_dir, "06_final_eval", GOLD) == run_dir / GOLD
    one, _ = play([0.5, 0.6, 0.55], 2, "other")
    step = artifacts.open_step("06_final_eval", one, steps["06_final_eval"])
    assert step.input(FINAL, "model") == (one / FINAL / "model").resolve()


def test_06_is_stale_when_the_rounds_change(play, steps):
    run_dir, _ = play([0.5, 0.6, 0.7, 0.8], 2)
    artifacts.open_step("06_final_eval", run_dir, steps["06_final_eval"]).finish([])
    assert artifacts.is_current("06_final_eval", run_dir, steps["06_final_eval"])
    play([0.5, 0.6, 0.7, 0.8], 3)
    assert not artifacts.is_current("06_final_eval", run_dir, steps["06_final_eval"])


def test_rounds_of_another_first_model_do_not_count(play, steps):
    """05 was done again by hand: what rounds.json says belongs to the old one."""
    run_dir, _ = play([0.5, 0.6, 0.7], 2)
    do(FINAL, run_dir, steps[FINAL], 0.9)
    assert artifacts.read_rounds(run_dir) is None
    step = artifacts.open_step("06_final_eval", run_dir, steps["06_final_eval"])
    assert step.input(FINAL, "model") == (run_dir / FINAL / "model").resolve()


def test_a_changed_first_round_reaches_the_next_ones(play, steps):
    run_dir, _ = play([0.5, 0.6, 0.7], 2)
    play([0.5, 0.65, 0.7], 2)
    weights = (run_dir / "round_2" / BASE / "model" / "weights.bin").read_text()
    assert weights == f"{FINAL} 0.65"


def test_doing_a_round_again_leaves_the_run_alone(play, steps):
    run_dir, _ = play([0.5, 0.6, 0.7], 2)
    changed = steps[BASE].model_copy(update={"epochs": 9})
    do(BASE, run_dir / "round_2", changed, 0.1)
    assert artifacts.is_current(FINAL, run_dir, steps[FINAL])
    assert (run_dir / FINAL / "model" / "weights.bin").read_text() == f"{FINAL} 0.6"


def test_a_failed_step_of_a_round_ends_it(tmp_path, steps):
    for name in (GOLD, BASE, *LATER):
        do(name, tmp_path, steps[name], 0.4 if name == BASE else 0.5)
    assert not rounds.run(tmp_path, 2, lambda *_: False)
    assert artifacts.read_rounds(tmp_path) is None


def test_a_round_that_cannot_be_completed_is_none(tmp_path, steps, caplog):
    """The model may have forgotten a class: then the filter ends with a UserError."""
    for name in (GOLD, BASE, *LATER):
        do(name, tmp_path, steps[name], 0.4 if name == BASE else 0.5)

    def do_step(name, folder, title):
        if name == "04_cluster_purity":
            raise UserError("no text of class <negative> passed the filter")
        do(name, folder, steps[name])
        return True

    caplog.set_level("INFO")
    assert rounds.run(tmp_path, 3, do_step)
    found = artifacts.read_rounds(tmp_path)
    assert found["best"] == 1 and len(found["rounds"]) == 2
    assert "round 2 cannot be completed: no text of class <negative>" in caplog.text
    assert "class &lt;negative&gt; passed" in rounds.html_section(tmp_path)


def test_a_round_needs_the_one_before(tmp_path):
    with pytest.raises(UserError, match=r"round 2 needs .*05_metric_learning"):
        rounds.prepare(tmp_path, 2)


def test_the_rounds_as_tables(play, capsys):
    run_dir, _ = play([0.5, 0.6, 0.7, 0.65], 3)
    shown = rounds.table(artifacts.read_rounds(run_dir))
    assert shown["round"].tolist() == ["base", "1", "2 (kept)", "3"]
    assert shown["gain"].tolist() == ["–", "+0.100", "+0.100", "-0.050"]
    assert shown["pseudo-labels kept"].tolist() == ["–", "40.0%", "40.0%", "40.0%"]
    assert "2 (kept)" in capsys.readouterr().out
    page = rounds.html_section(run_dir)
    assert "<h2>Rounds</h2>" in page and "2 (kept)" in page
    (run_dir / "rounds.json").unlink()
    assert rounds.html_section(run_dir) == ""


def test_the_step_command_names_the_round_that_is_missing(tmp_path, capsys):
    file = str(code.PROJECT / "params" / "demo.yaml")
    assert main(["step", "03", file, "--outputs", str(tmp_path), "--round", "2"]) == 2
    assert "round 2 needs" in capsys.readouterr().err


# --- the parameter ---------------------------------------------------------------------------


def test_rounds_in_a_parameter_file_and_on_the_command_line(tmp_path, capsys):
    assert params.resolve({}, []).rounds == 1
    assert params.resolve({"rounds": 2}, []).rounds == 2
    assert params.resolve({"rounds": 2}, ["rounds=3"]).rounds == 3
    path = tmp_path / "file.yaml"
    path.write_text("rounds: 4\n")
    assert main(["params", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "\nrounds: 4  # a whole number >= 1 and <= 5;" in printed
    path.write_text(printed)
    assert params.load(path).rounds == 4


@pytest.mark.parametrize("value", ["0", "6", "1.5", "true", "'2'", "[2]", "[", "-1", ""])
def test_wrong_rounds(value):
    with pytest.raises(UserError, match="rounds: expected a whole number >= 1 and <= 5"):
        params.resolve({}, [f"rounds={value}"])


def test_rounds_in_a_section_are_unknown():
    assert "rounds" not in schema.MetricLearningParams.model_fields
    with pytest.raises(UserError, match="no such parameter"):
        params.resolve({FINAL: {"rounds": 2}}, [])
