"""Sweep files, their points, and the comparison against independent computations."""

import shutil

import joblib
import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats
from sklearn.metrics import f1_score

from lib import files, metrics
from lib.data import tables
from lib.errors import UserError
from lib.models import encoder
from lib.parameters import STEPS
from lib.runs import sweep
from lib.runs.fingerprints import PROJECT

DEMO = PROJECT / "params" / "demo.yaml"
SWEEPS = sorted((PROJECT / "params" / "sweeps").glob("*.yaml"))


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


def test_the_grid_is_crossed_with_the_variants(write):
    path = write(
        grid={"lambda_metric": [[0.0], [0.1, 0.5]], "seed": [0, 1, 2]},
        variants={"base": {"last": "02"}, "full": {"05.temperature": 0.2}},
        compare_with="base",
        set={"05.steps": 7, "batch_size": 4},
    )
    loaded = sweep.load(path, ["batch_size=8", "05.evaluations=1"])
    assert loaded.axes == ["variant", "lambda_metric"]
    assert len({point.name for point in loaded.points}) == len(loaded.points) == 12
    point = loaded.points[-1]
    assert point.name == point.params.run == "full__lambda_metric-0.1-0.5__seed-2"
    assert (point.variant, point.values) == ("full", {"lambda_metric": [0.1, 0.5], "seed": 2})
    training = point.params.steps["05_metric_learning"]
    assert (training.lambda_metric, training.temperature) == ([0.1, 0.5], 0.2)
    assert (training.steps, training.evaluations) == (7, 1)
    assert point.params.steps["02_base_classifier"].batch_size == 8
    assert {values.seed for values in point.params.steps.values()} == {2}
    assert [len(point.steps) for point in loaded.points] == 6 * [2] + 6 * [5]


def test_base_can_be_another_file(write, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text("epochs: 9\n01_gold_data: {sources: [sample]}\n", encoding="utf-8")
    point, _ = sweep.load(write(), base=other).points
    assert point.params.steps["02_base_classifier"].epochs == 9


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_the_sweep_files_of_the_project_are_valid(path):
    loaded = sweep.load(path)
    assert loaded.name == path.stem and len(loaded.points) >= 2
    assert (loaded.measure == "test") == (path.stem == "ablation")


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"grid": {"min_purty": [0.5]}}, ["min_purty-0.5: ", "'min_purity'"]),
        ({"grid": {"min_purity": [0.5, 1.5]}}, ["min_purity-1.5: ", "got 1.5", "equal to 1,"]),
        ({"grid": {"min_purity": []}}, ["min_purity", "at least 1"]),
        ({"grid": {"min_purity": 0.5}}, ["grid.min_purity", "list"]),
        ({"grid": {"min_purity": [0.5, 0.5]}}, ["two points have the name min_purity-0.5"]),
        ({"variants": {"a": {"04.min_purity": 0.1}}}, ["min_purity is set by the grid"]),
        ({"variants": {"a": {}}, "compare_with": "b"}, ["no variant 'b'", "'a'"]),
        ({"variants": {"a": {"last": "01"}}}, ["01 leaves no model"]),
        ({"variants": {"a": {"last": "09"}}}, ["no step '09'"]),
        ({"grid": None}, ["nothing to compare"]),
        ({"gird": {}}, ["gird", "Unexpected"]),
        ({"measure": "gold"}, ["measure", "'test'"]),
        ({"name": "a/b"}, ["name", "match"]),
        ({"name": None}, ["name", "required"]),
        ({"base": "nowhere.yaml"}, ["nowhere.yaml does not exist"]),
    ],
)
def test_what_is_wrong_with_a_sweep_file_is_said(write, changes, parts):
    with pytest.raises(UserError) as caught:
        sweep.load(write(**changes))
    assert all(part in str(caught.value) for part in parts), caught.value


@pytest.mark.parametrize("override", ["min_purity=0.3", "04.min_purity=0.3", "run=mine"])
def test_the_command_line_cannot_set_what_is_swept(write, override):
    with pytest.raises(UserError, match=f"-p {override.split('=')[0]}: the sweep sets"):
        sweep.load(write(), [override])


def test_a_problem_of_many_points_is_said_once(write):
    with pytest.raises(UserError) as caught:
        sweep.load(write(set={"epochs": 0}, grid={"seed": list(range(9))}))
    assert str(caught.value).count("epochs") == 1


def test_a_failed_point_is_named_and_the_others_go_on(write, monkeypatch, tmp_path, caplog):
    ran = []

    def run(params, *, last, outputs, render):
        assert (outputs, render) == (tmp_path / "s", False)
        ran.append((params.run, last))
        if params.run.endswith("0.6"):
            raise UserError("no pseudo-label is left")
        return int(params.run.endswith("0.7"))

    monkeypatch.setattr(sweep.runner, "run", run)
    loaded = sweep.load(write(grid={"min_purity": [0.5, 0.6, 0.7, 0.8]}, last="04"))
    with joblib.parallel_config(backend="threading"):
        failed = sweep.run(loaded, tmp_path, jobs=2)
    assert sorted(failed) == ["min_purity-0.6", "min_purity-0.7"]
    assert sorted(ran) == [(point.name, "04_cluster_purity") for point in loaded.points]
    assert "min_purity-0.6: failed: no pseudo-label is left" in caplog.text


def test_bad_input_is_said_before_anything_runs(write, tmp_path):
    with pytest.raises(UserError, match="embedded:e5-small"):
        sweep.run(sweep.load(write(set={"base_model": "embedded:e5-large"})), tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- the comparison --------------------------------------------------------------------------

SIZES = {"validation": 120, "test": 300, "audit": 200}


def made_up(point, measure):
    """Predictions of a variant: right in a share of 0.4 (base) or 0.7; of a test text twice."""
    frames = []
    for number, split in enumerate(sweep.SPLITS[measure]):
        size, rng = SIZES[split], np.random.default_rng(number)
        label = rng.choice(3, size)
        source = rng.choice(["а", "б"], size) if split == "audit" else "gold"
        rng = np.random.default_rng([number, point.values["seed"], len(point.variant)])
        right = rng.random(size) < (0.4 if point.variant == "base" else 0.7)
        ids = [f"{split}{i}" for i in range(size - 1)] + [f"{split}0"]
        frame = pd.DataFrame({"text_id": ids, "source": source, "split": split, "label": label})
        frames.append(frame.assign(predicted=np.where(right, label, rng.choice(3, size))))
    return pd.concat(frames, ignore_index=True)


@pytest.fixture
def compared(write, monkeypatch, tmp_path):
    """A sweep whose points are complete and have made-up predictions."""
    monkeypatch.setattr(sweep, "predictions", lambda point, _, measure: made_up(point, measure))
    monkeypatch.setattr(
        sweep.steps, "is_current", lambda step, run_dir, _: (run_dir / step).exists()
    )
    loaded = sweep.load(
        write(
            grid={"seed": [0, 1, 2]},
            variants={"base": {"last": "02"}, "full": {}},
            compare_with="base",
            measure="test",
        )
    )
    for point in loaded.points:
        for step in point.steps:
            kept = [{"name": "kept_share", "value": 0.25}] if step[:2] == "04" else []
            files.write_json(tmp_path / point.name / step / "metrics.json", kept)
    return loaded


def test_one_row_per_point_and_data_set(compared, tmp_path):
    sweep.write(compared, tmp_path)
    table = pd.read_csv(tmp_path / "comparison.csv").set_index(["point", "dataset", "split"])
    assert len(table) == 6 * 6  # gold test, its source; all audit texts, two sources and their mean
    for point in compared.points:
        values = table.loc[point.name]["macro_f1"]
        both = values[["а", "б"]].mean()
        assert values["mean over other domains"].item() == pytest.approx(both, abs=1e-5)
    for point in compared.points:
        frame = made_up(point, "test").query("split == 'test'")
        row = table.loc[point.name, "gold", "test"]
        expected = f1_score(frame["label"], frame["predicted"], average="macro")
        assert row["macro_f1"] == pytest.approx(expected, abs=1e-5)
        label, predicted = frame["label"].to_numpy(), frame["predicted"].to_numpy()
        about = {"dataset": "gold", "split": "test", "samples": 20_000, "seed": 3}
        known = metrics.evaluate(label, predicted, model="x", **about)[0]
        found = [row["macro_f1_texts_low"], row["macro_f1_texts_high"]]
        assert found == pytest.approx([known["low"], known["high"]], abs=0.006)
        if point.variant == "full":
            base = next(p for p in compared.points[:3] if p.values == point.values)
            other = made_up(base, "test").query("split == 'test'")["predicted"].to_numpy()
            known = metrics.compare(label, other, predicted, **about)[0]
            found = row[["difference", "difference_texts_low", "difference_texts_high"]].tolist()
            assert found[0] == pytest.approx(known["value"], abs=1e-5)
            assert found[1:] == pytest.approx([known["low"], known["high"]], abs=0.01)
            assert row["kept_share"] == 0.25
        else:
            assert row[["difference", "kept_share"]].isna().all()


def test_means_over_seeds(compared, tmp_path, capsys):
    sweep.write(compared, tmp_path)
    points = pd.read_csv(tmp_path / "comparison.csv").query("dataset == 'gold'")
    table = pd.read_csv(tmp_path / "seeds.csv").set_index(["variant", "dataset"])
    assert len(table) == 2 * 6 and set(table["seeds"]) == {3}
    row = table.loc["full", "gold"]
    for name in ("macro_f1", "difference"):
        values = points.loc[points["variant"] == "full", name]
        expected = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
        assert row[name] == pytest.approx(values.mean(), abs=1e-5)
        assert row[[f"{name}_low", f"{name}_high"]].tolist() == pytest.approx(expected, abs=1e-5)
    assert table.loc[("full", "all audit texts"), "texts"] == SIZES["audit"]
    printed = capsys.readouterr().out
    assert "all audit texts" in printed and f"{row['macro_f1']:.3f} [" in printed


@pytest.mark.parametrize("lacking", [["б"], ["а", "б"]])
def test_sources_that_the_reference_lacks_are_in_no_difference(
    compared, tmp_path, monkeypatch, lacking
):
    def predictions(point, _, measure):
        frame = made_up(point, measure).drop_duplicates("text_id")
        return frame[~frame["source"].isin(lacking) | (point.variant == "full")]

    monkeypatch.setattr(sweep, "predictions", predictions)
    sweep.write(compared, tmp_path)
    table = pd.read_csv(tmp_path / "seeds.csv").set_index(["variant", "dataset"]).loc["full"]
    mean, known = table.loc["mean over other domains"], table.loc[["а", "б"], "macro_f1"]
    assert mean["macro_f1"] == pytest.approx(known.mean(), abs=1e-5)
    assert mean["difference"] == pytest.approx(table.loc["а", "difference"], nan_ok=True)
    assert np.isnan(mean["difference"]) == (len(lacking) == 2)


def test_interval_over_texts_of_a_mean_over_seeds(compared, tmp_path):
    """Against a bootstrap that draws the texts themselves, the same ones for all seeds."""
    sweep.write(compared, tmp_path)
    row = pd.read_csv(tmp_path / "seeds.csv").set_index(["variant", "dataset"]).loc["full", "gold"]
    frames = [made_up(point, "test").query("split == 'test'") for point in compared.points]
    label = frames[0]["label"].to_numpy()
    rng, values = np.random.default_rng(5), []
    for _ in range(1500):
        drawn = rng.integers(len(label), size=len(label))
        scores = [metrics.macro_f1(label[drawn], f["predicted"].to_numpy()[drawn]) for f in frames]
        values.append(np.mean(scores[3:]) - np.mean(scores[:3]))
    found = row[["difference_texts_low", "difference_texts_high"]].tolist()
    assert found == pytest.approx(np.quantile(values, [0.025, 0.975]), abs=0.01)


def test_a_spreadsheet_runs_no_source(compared, tmp_path, monkeypatch):
    source = '=HYPERLINK("http://a")'

    def found(point, _, measure):
        return made_up(point, measure).replace({"source": {"а": source}})

    monkeypatch.setattr(sweep, "predictions", found)
    sweep.write(compared, tmp_path)
    for name in ("comparison", "seeds"):
        datasets = set(pd.read_csv(tmp_path / f"{name}.csv")["dataset"])
        assert f"'{source}" in datasets and source not in datasets


def test_failed_points_are_left_out(compared, tmp_path, caplog, monkeypatch):
    for point in compared.points[2:]:
        shutil.rmtree(tmp_path / point.name / "02_base_classifier")
    with_revisions = sweep.runner.with_revisions

    def with_bad_input(params, *others):
        if params.run == compared.points[1].name:
            raise UserError("no such model")
        return with_revisions(params, *others)

    monkeypatch.setattr(sweep.runner, "with_revisions", with_bad_input)
    monkeypatch.setattr(sweep.runner.examine, "examine", lambda *_: pytest.fail("read again"))
    assert set(sweep.write(compared, tmp_path)["variant"]) == {"base"}
    shutil.rmtree(tmp_path / compared.points[0].name)
    assert sweep.write(compared, tmp_path).empty
    assert "nothing to compare" in caplog.text


def test_predictions_of_a_real_model_are_made_once(tiny_checkpoint, write, tmp_path, monkeypatch):
    run_dir = tmp_path / "outputs" / "point"
    model = encoder.new_classifier(tiny_checkpoint, pooling="cls", max_tokens=32, seed=0)
    encoder.save_classifier(model, run_dir / "02_base_classifier" / "model")
    gold = pd.DataFrame({"text": ["хорошо", "плохо", "день", "ужас"], "label": [2, 0, 1, 0]})
    gold = gold.assign(text_id=list("абвг"), source="х")
    gold["split"] = ["train", "validation", "test", "test"]
    source = run_dir / "01_gold_data" / "tables"
    files.write_parquet(source / "gold.parquet", gold)
    corpus = pd.DataFrame({"text_id": list("123"), "text": ["да", "нет", "ой"], "source": "у"})
    corpus["audit_label"] = pd.array([2, None, 0], dtype="Int8")
    tables.write_corpus(corpus, source / "corpus" / "part-0.parquet")
    outputs = {"01_gold_data": ["tables/gold.parquet", "tables/corpus/part-0.parquet"]}
    for step, names in (outputs | {"02_base_classifier": ["model/x"]}).items():
        files.write_json(run_dir / step / "manifest.json", {"outputs": dict.fromkeys(names, "1")})
    path = write(set={"precision": "float32", "device": "cpu"}, last="04")
    point = sweep.load(path).points[0]
    found = sweep.predictions(point, run_dir, "test")
    assert found["text_id"].tolist() == ["в", "г", "1"]
    assert found["split"].tolist() == ["test", "test", "audit"]
    assert found["label"].tolist() == [1, 0, 2] and "text" not in found
    logits = model.model.eval()(
        **model.tokenizer(["день", "ужас", "да"], padding=True, return_tensors="pt")
    )
    assert found["predicted"].tolist() == logits.logits.argmax(1).tolist()
    monkeypatch.setattr(encoder, "load_classifier", lambda *_: pytest.fail("made again"))
    pd.testing.assert_frame_equal(sweep.predictions(point, run_dir, "test"), found)
    monkeypatch.undo()
    assert sweep.predictions(point, run_dir, "validation")["text_id"].tolist() == ["б", "3"]


def test_steps_are_in_the_order_of_their_names():
    """`predictions` finds the last model by comparing names."""
    assert list(STEPS) == sorted(STEPS)
