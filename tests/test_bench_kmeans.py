from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import KMeans as ReferenceKMeans

from lib.__main__ import main
from lib.bench.kmeans import REFERENCE, compare
from lib.bench.simulation import Mixture


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return np.concatenate([part for part, _ in Mixture(8, 30, seed=0).chunks(2000)])


def test_inertia_and_speed_are_relative_to_scikit_learn(vectors):
    table = compare(vectors, 20, seed=0, only=["ours", "scikit"]).set_index("contestant")
    expected = ReferenceKMeans(20, n_init=1, random_state=0).fit(vectors).inertia_ / len(vectors)
    assert table.loc[REFERENCE, "inertia"] == pytest.approx(expected, rel=1e-4)
    ours = table.loc["ours, trained on all"]
    assert ours["relative inertia"] == pytest.approx(ours["inertia"] / expected, rel=1e-4)
    assert ours["relative inertia"] < 1.05
    faster = table.loc[REFERENCE, "seconds"] / ours["seconds"]
    assert ours["times faster"] == pytest.approx(faster)


def test_the_command_prints_a_table(capsys):
    arguments = ["--points", "500", "--dim", "8", "--clusters", "10", "--only", "ours"]
    assert main(["bench", "kmeans", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "500 x 8, 10 clusters" in printed and "inertia falls by" in printed
    assert "scikit-learn" not in printed


def test_a_full_name_chooses_that_contestant_alone():
    vectors = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    table = compare(vectors, 5, seed=0, only=[REFERENCE])
    assert table["contestant"].tolist() == [REFERENCE]
