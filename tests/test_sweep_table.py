"""Aggregation over points, texts and seeds, against independent computations."""

import re

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score

from lib import artifacts, schema, sweep, sweep_plot, sweep_predictions, sweep_table
from lib.evaluation import compare

SIZES = {"validation": 120, "test": 300, "audit": 200}


def made_up(seed, right, texts_seed=0):
    """Predictions that are right with a probability that grows with `right`."""
    frames = []
    for number, (split, size) in enumerate(SIZES.items()):
        rng = np.random.default_rng([texts_seed, number])
        label = rng.choice(3, size)
        source = rng.choice(["а", "б"], size) if split == "audit" else "gold"
        rng = np.random.default_rng([seed, number, 1])
        predicted = np.where(rng.random(size) < right, label, rng.choice(3, size))
        frame = pd.DataFrame(np.eye(3, dtype=np.float32)[predicted], columns=["p0", "p1", "p2"])
        ids = [f"{split}{i}" for i in range(size)]
        if split == "test":
            ids[-1] = ids[0]  # official tests have texts twice
        frame.insert(0, "text_id", ids)
        frames.append(frame.assign(source=source, split=split, label=label))
    return pd.concat(frames, ignore_index=True)


@pytest.fixture
def make(tmp_path, monkeypatch):
    """A sweep whose points are complete and have made-up predictions; returns it and its folder."""

    def make(quality=lambda point: 0.5, **content):
        base = {"01_gold_data": {"sources": ["sample"]}, "bootstrap_samples": 2000}
        (tmp_path / "base.yaml").write_text(yaml.safe_dump(base), encoding="utf-8")
        path = tmp_path / "sweep.yaml"
        path.write_text(yaml.safe_dump({"name": "s", "base": "base.yaml"} | content))
        loaded = sweep.load(path)
        folder = tmp_path / "out" / "s"
        for number, point in enumerate(loaded.points):
            for step in point.steps:
                directory = folder / point.name / step
                directory.mkdir(parents=True, exist_ok=True)
                outputs = {"model": f"{point.name} {step}" if step > "03" else step}
                artifacts.write_json(directory / "manifest.json", {"outputs": outputs})
                kept = [{"name": "kept_share", "value": 0.25}] if step[:2] == "04" else []
                artifacts.write_json(directory / "metrics.json", kept)
            frame = made_up(number, quality(point))
            path = folder / point.name / sweep_predictions.FILE
            wanted = sweep_predictions.key(point, folder / point.name)
            sweep_predictions.write(path, frame, wanted, loaded.measure)
        return loaded, folder

    return make


def predictions(folder, point, split):
    frame = pd.read_parquet(folder / point.name / "predictions.parquet")
    return frame[frame["split"] == split].assign(
        predicted=lambda f: f[["p0", "p1", "p2"]].to_numpy().argmax(1)
    )


def test_one_row_per_point_and_data_set(make):
    loaded, folder = make(grid={"min_purity": [0.5, 0.9]}, measure="test")
    table = sweep_table.write(loaded, folder)
    assert len(table) == 2 * 5  # validation, gold test, all audit texts, two audit sources
    for point in loaded.points:
        for split, dataset in (("validation", "gold"), ("test", "gold")):
            rows = table[(table["point"] == point.name) & (table["split"] == split)]
            (row,) = rows[rows["dataset"] == dataset].to_dict("records")
            frame = predictions(folder, point, split)
            assert row["texts"] == len(frame) == SIZES[split]
            expected = f1_score(frame["label"], frame["predicted"], average="macro")
            assert row["macro_f1"] == pytest.approx(expected)
            assert row["macro_f1_low"] < row["macro_f1"] < row["macro_f1_high"]
            expected = accuracy_score(frame["label"], frame["predicted"])
            assert row["accuracy"] == pytest.approx(expected)
            assert row["min_purity"] == f"{point.values['min_purity']:g}"
    assert set(table["kept_share"]) == {0.25}
    audit = table[table["split"] == "audit"].groupby("dataset")["texts"].sum()
    assert audit["all audit texts"] == audit["а"] + audit["б"] == 2 * SIZES["audit"]
    again = pd.read_csv(folder / "comparison.csv")
    assert len(again) == len(table) and list(again.columns) == list(table.columns)
    assert (folder / "comparison.png").stat().st_size > 5000
    assert not (folder / "seeds.csv").exists()


def test_validation_sweeps_read_no_test_text(make):
    loaded, folder = make(grid={"min_purity": [0.5, 0.9]})
    table = sweep_table.write(loaded, folder)
    assert set(table["split"]) == {"validation"} and len(table) == 2


def test_paired_differences_within_a_cell(make):
    loaded, folder = make(
        lambda point: 0.4 if point.variant == "base" else 0.7,
        grid={"seed": [0, 1]},
        variants={"base": {"last": "02"}, "full": None},
        compare_with="base",
        measure="test",
    )
    table = sweep_table.write(loaded, folder)
    assert table[table["variant"] == "base"]["difference"].isna().all()
    for seed in (0, 1):
        base, full = (p for p in loaded.points if p.values["seed"] == seed)
        one, two = (predictions(folder, p, "test") for p in (base, full))
        expected, *_ = compare(
            one["label"].to_numpy(),
            one["predicted"].to_numpy(),
            two["predicted"].to_numpy(),
            dataset="gold",
            split="test",
            samples=2000,
            seed=seed,
        )
        rows = table[(table["point"] == full.name) & (table["split"] == "test")]
        found = rows[["difference", "difference_low", "difference_high"]].to_numpy()[0]
        assert found == pytest.approx([expected[k] for k in ("value", "low", "high")])
        assert expected["low"] > 0


def test_means_over_seeds(make):
    loaded, folder = make(
        lambda point: 0.4 if point.variant == "base" else 0.6,
        grid={"seed": [0, 1, 2]},
        variants={"base": {"last": "02"}, "full": None},
        compare_with="base",
    )
    table = sweep_table.write(loaded, folder)
    seeds = pd.read_csv(folder / "seeds.csv")
    assert seeds["variant"].tolist() == ["base", "full"]
    assert seeds["seeds"].tolist() == [3, 3]
    for name in ("macro_f1", "difference"):
        values = table[table["variant"] == "full"][name]
        low, high = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
        (row,) = seeds[seeds["variant"] == "full"].to_dict("records")
        found = [row[name], row[f"{name}_low"], row[f"{name}_high"]]
        assert found == pytest.approx([values.mean(), low, high], abs=1e-5)
    (base,) = seeds[seeds["variant"] == "base"].to_dict("records")
    assert np.isnan([base["difference"], base["difference_texts_low"]]).all()


def test_interval_over_texts_of_a_mean_over_seeds():
    """Against drawing texts one by one; the seeds share most texts, not all."""
    rng = np.random.default_rng(0)
    label = rng.choice(3, 90)
    pairs = []
    for seed in range(3):
        pair = pd.DataFrame({"text_id": [f"{i}" for i in range(90)], "label": label})
        pair["reference"] = np.where(rng.random(90) < 0.5, label, rng.choice(3, 90))
        pair["point"] = np.where(rng.random(90) < 0.3, label, pair["reference"])
        pairs.append(pair.sample(80, random_state=seed))
    found = sweep_table.mean_difference_interval(pairs, samples=4000, seed=1)
    values = []
    columns = ["text_id", "label", "reference", "point"]
    arrays = [pair[columns].astype(int).to_numpy().T for pair in pairs]
    for _ in range(1000):
        drawn = np.bincount(rng.integers(90, size=90), minlength=90)  # how often each text
        differences = []
        for text, label, reference, point in arrays:
            scores = []
            for predicted in (point, reference):
                cells = np.bincount(label * 3 + predicted, drawn[text], minlength=9)
                matrix = cells.reshape(3, 3)
                scores.append(np.mean(2 * np.diag(matrix) / (matrix.sum(0) + matrix.sum(1))))
            differences.append(scores[0] - scores[1])
        values.append(np.mean(differences))
    expected = np.quantile(values, [0.025, 0.975])
    assert found == pytest.approx(expected, abs=0.012)
    width = found[1] - found[0]
    one = sweep_table.mean_difference_interval(pairs[:1], samples=4000, seed=1)
    assert width < one[1] - one[0]


def test_incomplete_points_are_left_out(make, capsys, caplog):
    loaded, folder = make(grid={"min_purity": [0.5, 0.9]})
    (folder / loaded.points[0].name / "05_metric_learning" / "manifest.json").unlink()
    table = sweep_table.write(loaded, folder)
    assert set(table["point"]) == {loaded.points[1].name}
    (folder / loaded.points[1].name / "01_gold_data" / "manifest.json").unlink()
    assert sweep_table.write(loaded, folder).empty
    assert "nothing to compare" in caplog.text


def test_the_printed_table_is_short_and_has_intervals(make, capsys):
    loaded, folder = make(grid={"min_purity": [0.5, 0.9]}, measure="test")
    sweep_table.write(loaded, folder)
    lines = capsys.readouterr().out.strip().split("\n")
    shown = [line for line in lines if re.search(r"0\.\d{3} \[0\.\d{3}, 0\.\d{3}\]", line)]
    assert len(shown) == 2 * 3
    assert "variant" not in lines[0] and "min_purity" in lines[0]
    assert str(folder / "comparison.csv") in lines[-1]


def test_figure_of_a_numeric_parameter_is_a_curve(make):
    loaded, folder = make(grid={"lambda_metric": [1.0, 0.0, 0.3]}, variants={"a": {}, "b": {}})
    table = sweep_table.write(loaded, folder)
    figure = sweep_plot.comparison(table, sweep_table.axes(loaded), "s")
    (place,) = figure.axes
    assert place.get_xlabel() == "lambda_metric"
    curves = [line for line in place.lines if len(line.get_xdata()) == 3]
    assert all(list(line.get_xdata()) == [0.0, 0.3, 1.0] for line in curves[:1])
    assert [text.get_text() for text in place.get_legend().get_texts()] == ["a", "b"]


def test_figure_of_variants_names_every_line(make):
    loaded, folder = make(
        grid={"seed": [0, 1], "class_mix": ["natural", "equal"]},
        variants={"a": {}, "b": {}},
        measure="test",
    )
    sweep_table.write(loaded, folder)
    seeds = pd.read_csv(folder / "seeds.csv")
    figure = sweep_plot.comparison(seeds, sweep_table.axes(loaded), "s")
    assert len(figure.axes) == 5
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["a, natural", "a, equal", "b, natural", "b, equal"]


# --- predictions -----------------------------------------------------------------------------


def test_predictions_are_made_once_and_again_for_another_model(make, monkeypatch):
    loaded, folder = make(grid={"min_purity": [0.5, 0.9]})
    made = []

    def predictions(point, run_dir, measure):
        made.append((point.name, measure))
        return made_up(7, 0.5)

    monkeypatch.setattr(sweep_predictions, "predictions", predictions)
    sweep_predictions.write_all(loaded.points, folder, "validation")
    assert made == []
    one, two = (point.name for point in loaded.points)
    manifest = folder / two / "05_metric_learning" / "manifest.json"
    artifacts.write_json(manifest, {"outputs": {"model": "another"}})
    sweep_predictions.write_all(loaded.points, folder, "validation")
    assert made == [(two, "validation")]
    made.clear()
    sweep_predictions.write_all(loaded.points, folder, "test")
    assert made == [(one, "test"), (two, "test")]
    made.clear()
    sweep_predictions.write_all(loaded.points, folder, "validation")
    assert made == []
    kept = sweep_predictions.read(folder / one / "predictions.parquet", "validation")
    assert set(kept["split"]) == {"validation"}


def test_points_with_the_same_model_are_predicted_once(make, monkeypatch):
    loaded, folder = make(variants={"a": {"last": "02"}, "b": {"last": "02", "min_purity": 0.1}})
    made = []
    monkeypatch.setattr(
        sweep_predictions,
        "predictions",
        lambda point, *_: made.append(point.name) or made_up(3, 0.5),
    )
    for point in loaded.points:
        (folder / point.name / "predictions.parquet").unlink()
    sweep_predictions.write_all(loaded.points, folder, "validation")
    assert made == ["a"]
    one, two = (pd.read_parquet(folder / name / "predictions.parquet") for name in "ab")
    assert one.equals(two)


def test_predictions_of_a_real_model(tiny_checkpoint, tmp_path):
    """Split by split the labels of the tables and the probabilities of the point's last model."""
    from lib import encoder, inference, tables

    run_dir = tmp_path / "point"
    model = encoder.new_classifier(tiny_checkpoint, pooling="cls", max_tokens=32, seed=0)
    (run_dir / "02_base_classifier").mkdir(parents=True)
    encoder.save_classifier(model, run_dir / "02_base_classifier" / "model")
    gold = pd.DataFrame({"text": ["хорошо", "плохо", "день", "ужас"], "label": [2, 0, 1, 0]})
    gold = gold.assign(text_id=list("абвг"), source="х", original_label="")
    gold["split"] = ["train", "validation", "test", "test"]
    (run_dir / "01_gold_data").mkdir()
    tables.write_gold(gold, run_dir / "01_gold_data" / "gold.parquet")
    corpus = pd.DataFrame({"text_id": ["д", "е"], "text": ["да", "нет"], "source": "у"})
    corpus["audit_label"] = pd.array([2, None], dtype="Int8")
    tables.write_corpus(corpus, run_dir / "01_gold_data" / "corpus" / "part-0.parquet")
    steps = {"06_final_eval": schema.FinalEvalParams(precision="float32", device="cpu")}
    point = sweep.Point("p", "", {}, sweep.RunParams("p", steps), "04_cluster_purity")
    found = sweep_predictions.predictions(point, run_dir, "test")
    assert found["text_id"].tolist() == ["б", "в", "г", "д"]
    assert found["split"].tolist() == ["validation", "test", "test", "audit"]
    assert found["label"].tolist() == [0, 1, 0, 2]
    expected, _ = inference.predict(
        model,
        model.tokenize(["плохо", "день", "ужас", "да"]),
        **encoder.hardware(steps["06_final_eval"]),
    )
    np.testing.assert_allclose(found[["p0", "p1", "p2"]], expected, atol=1e-6)
    assert "text" not in found.columns
    only = sweep_predictions.predictions(point, run_dir, "validation")
    assert only["text_id"].tolist() == ["б"]
