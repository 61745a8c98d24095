"""Sweep files: points, names, and one clear message for what is wrong."""

import pytest
import yaml

from lib import code, params, sweep
from lib.__main__ import main
from lib.errors import UserError

DEMO = code.PROJECT / "params" / "demo.yaml"
SWEEPS = sorted((code.PROJECT / "params" / "sweeps").glob("*.yaml"))


@pytest.fixture
def write(tmp_path):
    """Write a sweep file over the demo; `changes` replace its entries, None removes one."""

    def write(**changes):
        content = {"name": "s", "base": str(DEMO), "grid": {"min_purity": [0.5, 0.9]}} | changes
        path = tmp_path / "sweep.yaml"
        content = {key: value for key, value in content.items() if value is not None}
        path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
        return path

    return write


def steps(point):
    return point.params.steps


def test_the_grid_is_crossed_with_the_variants(write):
    loaded = sweep.load(
        write(
            grid={"lambda_metric": [0.0, 0.1], "seed": [0, 1, 2]},
            variants={"base": {"last": "02"}, "full": {"05.temperature": 0.2}},
            compare_with="base",
            set={"05_metric_learning": {"steps": 7}},
        )
    )
    assert loaded.axes == ["lambda_metric", "seed"]
    assert len({point.name for point in loaded.points}) == len(loaded.points) == 12
    point = loaded.points[-1]
    assert point.name == point.params.run == "full__lambda_metric-0.1__seed-2"
    assert (point.variant, point.values) == ("full", {"lambda_metric": 0.1, "seed": 2})
    training = steps(point)["05_metric_learning"]
    assert (training.lambda_metric, training.temperature, training.steps) == ([0.1], 0.2, 7)
    assert {values.seed for values in steps(point).values()} == {2}
    assert [name[:2] for name in point.steps] == ["01", "02", "03", "04", "05"]
    assert [len(point.steps) for point in loaded.points] == 6 * [2] + 6 * [5]


def test_command_line_is_stronger_than_set_and_base_can_be_another_file(write, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text("epochs: 9\n01_gold_data: {sources: [sample]}\n", encoding="utf-8")
    path = write(set={"batch_size": 4, "evaluations": 3})
    (point, _) = sweep.load(path, ["batch_size=8"], base=other).points
    base = steps(point)["02_base_classifier"]
    assert (base.batch_size, base.epochs) == (8, 9)
    assert steps(point)["05_metric_learning"].evaluations == 3


def test_variants_of_another_file_and_the_own_one_wins(write, tmp_path):
    variants = {"base": {"last": "02"}, "few": {"05.steps": 3}, "many": {"05.steps": 9}}
    write(variants=variants, set={"05.temperature": 0.3}).rename(tmp_path / "other.yaml")
    path = write(
        variants_of="other.yaml", variants={"few": {"05.steps": 4}, "own": {}}, grid={"seed": [7]}
    )
    points = sweep.load(path).points
    assert [point.variant for point in points] == ["base", "few", "many", "own"]
    trained = [steps(point)["05_metric_learning"] for point in points[1:3]]
    assert [(values.steps, values.temperature) for values in trained] == [(4, 0.1), (9, 0.1)]
    assert {point.values["seed"] for point in points} == {7}


def test_the_file_of_the_variants_must_have_some(write, tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.yaml does not exist"):
        sweep.load(write(variants_of="nowhere.yaml"))
    write().rename(tmp_path / "other.yaml")
    with pytest.raises(UserError, match=r"variants_of: .*other\.yaml has no variants of its own"):
        sweep.load(write(variants_of="other.yaml"))


def test_what_a_variant_does_not_have_stays_as_it_is(write):
    loaded = sweep.load(write(grid=None, variants={"a": None, "b": {"min_purity": 0.2}}))
    assert [point.name for point in loaded.points] == ["a", "b"]
    assert [steps(p)["04_cluster_purity"].min_purity for p in loaded.points] == [0.9, 0.2]


def test_rounds_are_a_parameter_of_the_run(write):
    loaded = sweep.load(write(grid={"rounds": [1, 2]}))
    assert [point.params.rounds for point in loaded.points] == [1, 2]


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_the_sweep_files_of_the_project_are_valid(path):
    loaded = sweep.load(path)
    assert loaded.name == path.stem
    assert len(loaded.points) >= 2


@pytest.mark.parametrize("name", ["lambda", "temperature", "purity", "confidence", "clusters"])
def test_sweeps_that_choose_are_small_and_see_validation_only(name):
    """They run as they are: on the demo's data, which a fresh checkout has."""
    loaded = sweep.load(code.PROJECT / "params" / "sweeps" / f"{name}.yaml")
    assert loaded.measure == "validation" and len(loaded.points) <= 5
    demo = params.load(DEMO)
    assert all(steps(p)["01_gold_data"] == demo.steps["01_gold_data"] for p in loaded.points)


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"grid": {"min_purty": [0.5]}}, ["point min_purty-0.5", "min_purty", "'min_purity'"]),
        ({"grid": {"min_purity": [0.5, 1.5]}}, ["point min_purity-1.5", "got 1.5", "<= 1.0"]),
        ({"grid": {"min_purity": []}}, ["min_purity", "empty list"]),
        ({"grid": {"min_purity": 0.5}}, ["grid.min_purity", "0.5", "list"]),
        ({"grid": {"min_purity": [0.5, 0.5]}}, ["two points", "'min_purity-0.5'"]),
        ({"grid": {"min_purity": [0.9, 0.9000000001]}}, ["two points"]),
        ({"grid": {"seed": [0], "05.seed": [1]}}, ["seed", "same parameter"]),
        ({"variants": {"a": {"04.min_purity": 0.1}}}, ["'a'", "min_purity", "grid"]),
        ({"grid": {"steps": [9]}, "variants": {"a": {"05.steps": 9}}}, ["'a'", "05.steps"]),
        ({"variants": {"a": {}}, "compare_with": "b"}, ["no variant 'b'", "'a'"]),
        ({"variants": {"a": {"last": "01"}}}, ["01_gold_data", "no model"]),
        ({"variants": {"a": {"last": "09"}}}, ["no step '09'"]),
        ({"grid": None}, ["nothing to sweep"]),
        ({"gird": {}}, ["gird", "grid"]),
        ({"measure": "gold"}, ["measure", "'gold'", "'test'"]),
        ({"name": "a/b"}, ["'a/b'", "folder name"]),
        ({"name": ".."}, ["'..'", "folder name"]),
        ({"name": None}, ["name", "required"]),
        ({"base": "nowhere.yaml"}, ["nowhere.yaml does not exist"]),
        ({"grid": {"run": ["a", "b"]}}, ["run", "names of their own"]),
        ({"grid": {"rounds": [0]}}, ["rounds", ">= 1", "got 0"]),
    ],
)
def test_what_is_wrong_with_a_sweep_file_is_said(write, changes, parts):
    with pytest.raises(UserError) as caught:
        sweep.load(write(**changes))
    message = str(caught.value)
    assert all(part in message for part in parts), message


@pytest.mark.parametrize("override", ["min_purity=0.3", "04.min_purity=0.3", "run=mine"])
def test_the_command_line_cannot_set_what_is_swept(write, override):
    with pytest.raises(UserError, match=f"-p {override.split('=')[0]}"):
        sweep.load(write(), [override])


def test_a_problem_of_many_points_is_said_once(write):
    with pytest.raises(UserError) as caught:
        sweep.load(write(set={"epochs": 0}, grid={"seed": list(range(9))}))
    assert str(caught.value).count("epochs") == 1


def test_command_answers_bad_input_before_anything_runs(write, tmp_path, capsys):
    outputs = tmp_path / "outputs"
    path = str(write(set={"base_model": "embedded:e5-large"}))
    assert main(["sweep", path, "--outputs", str(outputs)]) == 2
    assert "embedded:e5-small" in capsys.readouterr().err
    assert main(["sweep", path, "--outputs", str(outputs), "--jobs", "0"]) == 2
    assert "--jobs 0" in capsys.readouterr().err
    assert not outputs.exists()
