"""The benchmarks run, at tiny sizes, and measure what they say."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.cluster import KMeans

sys.path.append(str(Path(__file__).parent / "benchmarks"))

import common
import corpus
import kmeans
import scale


def test_a_process_of_its_own_is_measured():
    found, seconds, peak = common.alone(np.prod, [2, 3])
    assert found == 6 and seconds < 1 and 0.02 < peak < 2


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


def test_corpus_counts_the_planted_copies(capsys):
    corpus.main(["--texts", "2000"])
    lines = re.findall(r"^(\D+) (\d+)$", capsys.readouterr().out, re.MULTILINE)
    counts = {name.strip(): int(number) for name, number in lines}
    assert counts["read"] == 2200 and counts["kept as gold"] == 200
    assert counts["twin of a gold text"] == pytest.approx(2000 * corpus.LEAKS, abs=4)
    assert counts["duplicate in corpus"] == pytest.approx(2000 * corpus.COPIES, rel=0.35)


def test_blocks_are_the_parts_of_one_file_of_each_format():
    log = [("read", 1.0)] * 8 + [("gold", 50.0)] + [("read", 2.0)] * 3 + [("compare", 7.0)]
    found = corpus.blocks(log)
    assert found["read"].tolist() == [8.0, 6.0] and found["compare"].tolist()[0] == 7.0


def test_scale_measures_every_stage(capfd):
    arguments = ["--points", "900", "--dim", "24", "--pca", "8", "--clusters", "20"]
    table = scale.main(arguments)
    assert table["points"].tolist() == [900]
    stages = [f"{name} s" for name in ("pca", "kmeans", "purity", "filter")]
    assert (table[stages] > 0).all(axis=None)
    assert (table[stages].sum(axis=1) <= table["total s"]).all()
    assert table["peak GiB"].between(0.1, 4).all() and table["kept"].between(0, 1).all()
