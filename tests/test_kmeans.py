from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.cluster import KMeans as ReferenceKMeans
from sklearn.datasets import make_blobs

from lib.clusters import kmeans
from lib.clusters.kmeans import KMeans
from lib.errors import UserError

OPTIONS = {"restarts": 1, "sample": 10**6, "seed": 0}


@pytest.fixture(scope="module")
def fit(tmp_path_factory):
    """K-Means of an array: the part's KMeans, clusters and distances."""

    def run(vectors: np.ndarray, clusters: int, **changes) -> tuple[KMeans, np.ndarray, np.ndarray]:
        folder: Path = tmp_path_factory.mktemp("kmeans")
        np.save(folder / "reduced.npy", vectors.astype(np.float32))
        options = OPTIONS | changes
        kmeans.cluster(folder, vectors=folder / "reduced.npy", clusters=clusters, **options)
        found = (np.load(folder / f"{name}.npy") for name in ("assigned", "distance"))
        return KMeans.load(folder / "kmeans.npz"), *found

    return run


@pytest.mark.parametrize("seed", [0, 1])
def test_inertia_is_that_of_scikit_learn(fit, seed):
    vectors, _ = make_blobs(600, n_features=8, centers=12, cluster_std=4.0, random_state=seed)
    found, assigned, distance = fit(vectors, 12, restarts=10, seed=seed)
    expected = ReferenceKMeans(12, n_init=10, random_state=seed).fit(vectors).inertia_ / 600
    assert expected * 0.98 <= found.inertia <= expected * 1.02
    squares = ((vectors - found.centroids[assigned]) ** 2).sum(1)
    assert found.inertia == pytest.approx(squares.mean(), rel=1e-3)
    np.testing.assert_allclose(distance, np.sqrt(squares), rtol=1e-3)
    assert (assigned.dtype, distance.dtype) == (np.int32, np.float32)


def test_more_lloyd_iterations_do_not_improve_it(fit):
    vectors = np.random.default_rng(0).normal(size=(500, 6))
    found, _, _ = fit(vectors, 10)
    further = ReferenceKMeans(10, init=found.centroids, n_init=1, max_iter=100).fit(vectors)
    assert further.inertia_ / 500 == pytest.approx(found.inertia, rel=1e-3)


def test_texts_go_to_the_nearest_centre(monkeypatch):
    rng = np.random.default_rng(0)
    centres = KMeans(rng.normal(size=(7, 5)).astype(np.float32), 0.0)
    vectors = rng.normal(size=(50, 5)).astype(np.float32)
    distances = np.linalg.norm(vectors[:, None] - centres.centroids[None], axis=2)
    for chunk in (100_000, 8):
        monkeypatch.setattr(kmeans, "CHUNK", chunk)
        assigned, distance = centres.assign(vectors)
        assert (assigned == distances.argmin(1)).all()
        np.testing.assert_allclose(distance, distances.min(1), rtol=1e-4)


def test_the_seed_decides(fit):
    vectors = np.random.default_rng(0).normal(size=(300, 4))
    first, same, other = (fit(vectors, 15, seed=seed, sample=200)[0] for seed in (3, 3, 4))
    assert (first.centroids == same.centroids).all() and first.inertia == same.inertia
    assert (first.centroids != other.centroids).any()


def test_iterations_on_all_vectors_take_out_most_of_the_noise_of_a_sample(fit, monkeypatch):
    vectors = np.random.default_rng(0).normal(size=(6000, 6))
    whole = fit(vectors, 30)[0].inertia
    finished = fit(vectors, 30, sample=900)[0].inertia
    monkeypatch.setitem(kmeans.FINAL, "niter", 0)
    noisy = fit(vectors, 30, sample=900)[0].inertia
    assert finished - whole < (noisy - whole) / 2


def test_repeated_texts_may_leave_clusters_empty(fit):
    vectors = np.repeat([[0.0, 0.0], [1.0, 0.0], [0.0, 5.0]], 50, axis=0)
    found, assigned, distance = fit(vectors, 10)
    assert np.isfinite(found.centroids).all() and found.inertia == pytest.approx(0, abs=1e-4)
    assert len(np.unique(assigned)) >= 3 and distance.max() < 0.01


def test_fewer_texts_than_clusters_is_an_error_with_the_numbers(fit):
    with pytest.raises(UserError, match=r"clusters: 20 clusters .*corpus has 12 .*lower clusters"):
        fit(np.zeros((12, 3)), 20)
    with pytest.raises(UserError, match=r"kmeans_sample is 15"):
        fit(np.zeros((100, 3)), 20, sample=15)
