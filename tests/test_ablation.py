from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lib import ablation, code, params, sweep
from lib.errors import UserError
from lib.evaluation import t_interval

VARIANTS = {
    "a_base": [0.60, 0.62, 0.61],
    "a_longer": [0.61, 0.60, 0.62],
    "b_confidence": [0.63, 0.62, 0.64],  # 0.02 above a_longer with every seed
    "c_purity": [0.62, 0.61, 0.63],  # 0.01 below b with every seed
    "d_supcon": [0.64, 0.60, 0.63],  # now above, now below
}


def write_sweep(folder, shift=0.0):
    """comparison.csv and seeds.csv as a sweep writes them; `shift` is added to all but a_base."""
    points, means = [], []
    for variant, values in VARIANTS.items():
        values = [v + shift * (variant != "a_base") for v in values]
        for dataset, split in (("gold", "test"), ("all audit texts", "audit")):
            about = {"variant": variant, "dataset": dataset, "split": split}
            rows = [
                {"point": f"{variant}__seed-{seed}", "seed": seed, **about, "macro_f1": value,
                 "difference": value - VARIANTS["a_base"][seed] if variant != "a_base" else np.nan}
                for seed, value in enumerate(values)
            ]  # fmt: skip
            points += rows
            frame = pd.DataFrame(rows)
            mean = {**about, "seeds": 3, "texts": 100, "kept_share": np.nan}
            for name in ("macro_f1", "difference"):
                ends = t_interval(frame[name].dropna().to_numpy())
                mean |= dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))
            means.append(mean | {"difference_texts_low": -0.01, "difference_texts_high": 0.05})
    folder.mkdir()
    pd.DataFrame(points).to_csv(folder / "comparison.csv", index=False)
    pd.DataFrame(means).to_csv(folder / "seeds.csv", index=False)


@pytest.fixture
def run_dir(tmp_path):
    write_sweep(tmp_path / "few")
    write_sweep(tmp_path / "many", shift=0.1)
    return tmp_path / "run"


def test_a_part_is_judged_against_the_variant_without_it(run_dir):
    points = ablation.read(run_dir, ["few"], ablation.POINTS)
    parts = ablation.parts(points).set_index("part")
    assert parts["verdict"].to_dict() == {
        "training on, gold only": "not shown",
        "pseudo-labels by confidence": "helps",
        "cluster purity as a second filter": "harms",
        "SupCon": "not shown",
    }
    assert parts.loc["pseudo-labels by confidence", "difference"] == pytest.approx(0.02)
    assert parts.loc["SupCon", "difference_low"] < 0 < parts.loc["SupCon", "difference_high"]
    assert ablation.readable(ablation.parts(points))["macro-F1"].iloc[1].startswith("0.020 [0.020")


def test_sweeps_stand_side_by_side(run_dir):
    means = ablation.read(run_dir, ["many", "few"])
    lines = ablation.markdown(means).splitlines()
    assert lines[0] == "| variant | many | few |" and len(lines) == 2 + len(VARIANTS)
    assert lines[2] == "| a_base | 0.610 | 0.610 |"
    assert lines[3].startswith("| a_longer | 0.710: +0.100 [") and "−" in lines[3]
    table = ablation.table(means)
    assert len(table) == 2 * 2 * len(VARIANTS) and set(table["sweep"]) == {"many", "few"}
    base = table[(table["variant"] == "a_base") & (table["sweep"] == "few")]
    assert set(base["difference, over texts"]) == {"–"}


def test_figure_shows_the_difference_to_the_base(run_dir):
    drawn = ablation.figure(ablation.read(run_dir, ["few", "many"]))
    titles = [axis.get_title() for axis in drawn.axes]
    assert titles[:2] == ["few: gold test", "many: gold test"] and len(titles) == 4
    dots = [line.get_xdata()[0] for line in drawn.axes[1].lines if line.get_marker() == "o"]
    assert dots == pytest.approx([0.1, 0.12, 0.11, 0.1133], abs=1e-3)
    names = [label.get_text() for label in drawn.axes[0].get_yticklabels()]
    assert names == list(VARIANTS)[1:]


def test_a_sweep_without_some_variants_keeps_the_others_in_their_lines(run_dir):
    for name in ("seeds.csv", "comparison.csv"):
        path = run_dir.parent / "many" / name
        rows = pd.read_csv(path)
        rows[~rows["variant"].isin(["a_longer", "c_purity"])].to_csv(path, index=False)
    means = ablation.read(run_dir, ["few", "many"])
    drawn = ablation.figure(means)
    names = [label.get_text() for label in drawn.axes[0].get_yticklabels()]
    for axis, expected in zip(
        drawn.axes, [list(VARIANTS)[1:], ["b_confidence", "d_supcon"]], strict=False
    ):
        lines = [line.get_ydata()[0] for line in axis.lines if line.get_marker() == "o"]
        assert [names[int(line)] for line in lines] == expected
    assert [line.split("|")[3].strip() for line in ablation.markdown(means).splitlines()][3] == "–"


def test_fingerprint_follows_the_files(run_dir):
    before = ablation.fingerprint(run_dir, ["few"])
    assert before == ablation.fingerprint(run_dir, ["few"])
    path = run_dir.parent / "few" / "seeds.csv"
    path.write_text(path.read_text(encoding="utf-8").replace("0.6", "0.7"), encoding="utf-8")
    assert ablation.fingerprint(run_dir, ["few"]) != before


@pytest.mark.parametrize("name", ["absent", "unfinished"])
def test_a_sweep_that_is_not_complete_is_named(run_dir, name):
    (run_dir.parent / "unfinished").mkdir()
    with pytest.raises(UserError, match=rf"ablations: .*{name} has no comparison.csv"):
        ablation.folders(run_dir, [name])


def test_a_sweep_without_a_reference_is_refused(run_dir):
    path = run_dir.parent / "few" / "seeds.csv"
    pd.read_csv(path).drop(columns="difference").to_csv(path, index=False)
    with pytest.raises(UserError, match=r"no column 'difference'.*compare_with"):
        ablation.read(run_dir, ["few"])


def test_the_readme_shows_the_shipped_figures():
    means = ablation.read("outputs/any", [])
    readme = (code.PROJECT / "README.md").read_text(encoding="utf-8")
    assert ablation.markdown(means) in readme
    for name in means["sweep"].unique():
        assert (code.PROJECT / "params" / "sweeps" / f"{name}.yaml").is_file()
        assert (means[means["sweep"] == name]["seeds"] >= 3).all()


@pytest.mark.parametrize("step", ["02_base_classifier", "03_embed_corpus", "05_metric_learning"])
def test_the_file_for_few_gold_texts_is_the_variant_that_helps(step):
    folder = code.PROJECT / "params"
    measured = sweep.load(folder / "sweeps" / "ablation_500.yaml").points
    point = next(p for p in measured if p.name == "h_second_opinion__seed-0")
    offered = params.load(folder / "few_gold.yaml").steps[step]
    assert offered == point.params.steps[step]


def test_the_variant_that_helps_keeps_every_text():
    kept = {"min_purity": 0.0, "min_confidence": 0.0, "confident_share": 1.0}
    offered = params.load(code.PROJECT / "params" / "few_gold.yaml").steps["04_cluster_purity"]
    assert kept.items() <= offered.model_dump().items()
    assert not offered.require_dominant
