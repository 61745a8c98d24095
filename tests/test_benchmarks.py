"""The benchmarks run, at tiny sizes, and measure what they say."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import KMeans

sys.path.append(str(Path(__file__).parent / "benchmarks"))

import breaking
import common
import kmeans
import scale

from lib.files import write_text
from lib.parameters import STEPS


def test_a_process_of_its_own_is_measured():
    found, seconds, peak = common.alone(np.prod, [2, 3])
    assert found == 6 and seconds < 1 and 0.02 < peak < 2


def test_what_lies_beside_a_run_is_seen(tmp_path):
    for name in (".lock", "a.json"):
        write_text(tmp_path / "tiny" / name, "")
    assert breaking.digests(tmp_path / "tiny") == {"a.json": ""}
    write_text(tmp_path / ".0123.lock", "")
    assert breaking.digests(tmp_path / "tiny") == {"a.json": "", "../.0123.lock": ""}


def test_the_mixture_has_its_clusters_and_comes_back_with_its_seed():
    mixture = common.Mixture(dimensions=16, components=5, seed=3)
    vectors, drawn = next(mixture.chunks(2000))
    for component in range(5):
        mean = vectors[drawn == component].mean(0)
        np.testing.assert_allclose(mean, mixture.centres[component], atol=0.4)
    parts = list(common.Mixture(16, 5, seed=3).chunks(4500, chunk=2000))
    assert [len(part) for part, _ in parts] == [2000, 2000, 500]
    assert (parts[0][0] == vectors).all() and (parts[1][0] != vectors).any()


def test_kmeans_is_measured_against_scikit_learn(capsys):
    arguments = ["--points", "2000", "--dim", "8", "--clusters", "20", "--only", "all", "KMeans"]
    table = kmeans.main(arguments).set_index("contestant")
    mixture = common.Mixture(8, 30, seed=0)
    vectors, _ = next(mixture.chunks(2000))
    expected = KMeans(20, n_init=1, random_state=0).fit(vectors).inertia_ / len(vectors)
    assert table.loc[kmeans.REFERENCE, "inertia"] == pytest.approx(expected, rel=1e-4)
    assert table.loc["ours, trained on all", "relative inertia"] < 1.05
    assert "2,000 x 8, 20 clusters" in capsys.readouterr().out and "fastkmeans" not in table.index


def test_the_planted_copies_are_there(tmp_path):
    scale.make_files(tmp_path / "data", texts=2000, seed=0)
    texts = pd.read_csv(tmp_path / "data" / "corpus-00000.csv")["text"]
    assert len(texts) == 2000 and len(pd.read_csv(tmp_path / "data" / "gold_train.csv")) == 180
    assert texts.str.endswith("!!!").mean() == pytest.approx(scale.COPIES, rel=0.35)
    near = texts.str.contains("иначе").mean()
    assert near == pytest.approx(scale.NEAR_COPIES, rel=0.35)


@pytest.mark.slow
def test_scale_measures_every_step(tiny_checkpoint, tmp_path):
    small = ["03.pca_dimensions=8", "04.clusters=20", "04.umap_points=100", "05.batch_groups=8"]
    overrides = [part for value in small for part in ("-p", value)]
    arguments = ["--texts", "1500", "--base-model", tiny_checkpoint, "--folder", str(tmp_path)]
    table = scale.main([*arguments, *overrides])
    assert table["step"].tolist() == [*STEPS][:5] and (table["texts"] == 1500).all()
    assert table["GiB"].between(0.1, 4).all() and (table["CPU s"] > 0).all()
    assert table["parts"].str.contains("pca|kmeans|candidates/0.5").sum() == 3


@pytest.mark.slow
def test_the_benchmark_of_a_gpu_runs_without_one(monkeypatch, capsys):
    import gpu  # sentence-transformers takes its time

    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit):
        gpu.main([])
    assert "torch sees no GPU; --tiny" in capsys.readouterr().err
    table = gpu.main(["--tiny"])
    assert len(table) == 10 and (table[["tokens/s", "texts/s", "share"]] > 0).all(axis=None)
