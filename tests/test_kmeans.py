from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans as ReferenceKMeans
from sklearn.datasets import make_blobs

from lib.errors import UserError
from lib.kmeans import KMeans, fit_kmeans

DEFAULTS = {"iterations": 25, "restarts": 1, "sample": 10**6, "seed": 0}


def fit(vectors: np.ndarray, clusters: int, **changes) -> KMeans:
    return fit_kmeans(vectors.astype(np.float32), clusters, **(DEFAULTS | changes))[0]


@pytest.mark.parametrize("seed", [0, 1])
def test_inertia_is_that_of_scikit_learn(seed):
    vectors, _ = make_blobs(600, n_features=8, centers=12, cluster_std=4.0, random_state=seed)
    found = fit(vectors, 12, iterations=50, restarts=10, seed=seed)
    expected = ReferenceKMeans(12, n_init=10, random_state=seed).fit(vectors).inertia_ / 600
    assert expected * 0.98 <= found.inertia <= expected * 1.02
    assigned, _ = found.assign(vectors.astype(np.float32))
    assert found.inertia == pytest.approx(
        ((vectors - found.centroids[assigned]) ** 2).sum(1).mean(), rel=1e-3
    )


def test_more_lloyd_iterations_do_not_improve_it():
    vectors = np.random.default_rng(0).normal(size=(500, 6))
    found = fit(vectors, 10, iterations=100)
    further = ReferenceKMeans(10, init=found.centroids, n_init=1, max_iter=100).fit(vectors)
    assert further.inertia_ / 500 == pytest.approx(found.inertia, rel=1e-3)


def test_texts_go_to_the_nearest_centre():
    rng = np.random.default_rng(0)
    kmeans = KMeans(rng.normal(size=(7, 5)).astype(np.float32), 0.0)
    vectors = rng.normal(size=(50, 5)).astype(np.float32)
    distances = np.linalg.norm(vectors[:, None] - kmeans.centroids[None], axis=2)
    for chunk in (100_000, 8):
        assigned, distance = kmeans.assign(vectors, chunk=chunk)
        assert (assigned == distances.argmin(1)).all()
        np.testing.assert_allclose(distance, distances.min(1), rtol=1e-4)


def test_the_seed_decides():
    vectors = np.random.default_rng(0).normal(size=(300, 4))
    first, same, other = (fit(vectors, 15, seed=seed, sample=200) for seed in (3, 3, 4))
    assert (first.centroids == same.centroids).all() and first.inertia == same.inertia
    assert (first.centroids != other.centroids).any()


@settings(max_examples=40)
@given(st.integers(2, 60), st.integers(1, 40), st.integers(0, 2**31 - 1), st.booleans())
def test_no_cluster_is_empty(distinct, copies, seed, sampled):
    """As long as there are as many different texts as clusters, down to one text per cluster."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(distinct, 3)).round(2) * 10
    points = np.unique(points, axis=0)
    clusters = int(rng.integers(2, len(points) + 1)) if len(points) > 2 else 2
    repeats = rng.integers(1, copies + 1, len(points))
    vectors = rng.permutation(np.repeat(points, repeats, axis=0))
    sample = max(clusters, len(vectors) // 2) if sampled else 10**6
    kmeans = fit(vectors, clusters, iterations=5, seed=seed, sample=sample)
    assigned, _ = kmeans.assign(vectors.astype(np.float32))
    assert (np.bincount(assigned, minlength=clusters) > 0).all()


def test_no_cluster_is_empty_with_one_text_over_and_over():
    points = np.random.default_rng(0).normal(size=(30, 4)) * np.arange(1, 31)[:, None]
    vectors = np.concatenate([np.zeros((1000, 4)), np.repeat(points, 20, axis=0)])
    kmeans = fit(vectors, 31)
    assigned, _ = kmeans.assign(vectors.astype(np.float32))
    assert len(np.unique(assigned)) == 31


def test_fewer_texts_than_clusters_is_an_error_with_the_numbers():
    with pytest.raises(UserError, match=r"clusters: 20 clusters .*corpus has 12 .*lower clusters"):
        fit(np.zeros((12, 3)), 20)
    with pytest.raises(UserError, match=r"kmeans_sample is 15"):
        fit(np.zeros((100, 3)), 20, sample=15)


def test_saved_and_loaded_again(tmp_path):
    kmeans = fit(np.random.default_rng(0).normal(size=(40, 4)), 5)
    kmeans.save(tmp_path / "kmeans.npz")
    loaded = KMeans.load(tmp_path / "kmeans.npz")
    assert (loaded.centroids == kmeans.centroids).all() and loaded.inertia == kmeans.inertia
    assert [p.name for p in tmp_path.iterdir()] == ["kmeans.npz"]


def test_the_clusters_that_come_with_the_fit_are_the_nearest():
    vectors = np.random.default_rng(0).normal(size=(400, 6)).astype(np.float32)
    for sample in (150, 10**6):
        kmeans, assigned, distances = fit_kmeans(vectors, 12, **(DEFAULTS | {"sample": sample}))
        again, distances_again = kmeans.assign(vectors)
        assert (assigned == again).all() and (distances == distances_again).all()
        assert kmeans.inertia == pytest.approx(float((distances.astype(float) ** 2).mean()))


def test_an_update_moves_centroids_to_the_means_of_their_texts(monkeypatch):
    monkeypatch.setattr("lib.kmeans.CHUNK", 64)
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(300, 5)).astype(np.float32)
    kmeans = KMeans(np.vstack([vectors[:8], np.full((1, 5), 99.0)]).astype(np.float32), 0.0)
    before = kmeans.centroids.copy()
    assigned, distances = kmeans.assign(vectors)
    kmeans.update(vectors)
    assert kmeans.inertia == pytest.approx(float((distances**2).mean()), rel=1e-5)
    for cluster in range(8):
        expected = vectors[assigned == cluster].mean(0)
        np.testing.assert_allclose(kmeans.centroids[cluster], expected, atol=1e-5)
    assert (kmeans.centroids[8] == before[8]).all()  # nobody's centroid stays


def test_a_sample_costs_little_inertia():
    """The iterations on all vectors take out most of the sample's noise."""
    vectors, _ = make_blobs(6000, n_features=10, centers=30, cluster_std=4.0, random_state=0)
    whole = fit(vectors, 30, iterations=100).inertia
    sampled = fit(vectors, 30, iterations=100, sample=900).inertia
    assert sampled <= whole * 1.01


def test_vectors_may_be_memory_mapped(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(500, 8)).astype(np.float32)
    np.save(tmp_path / "reduced.npy", vectors)
    mapped = np.load(tmp_path / "reduced.npy", mmap_mode="r")
    found, expected = fit(mapped, 9, sample=200), fit(vectors, 9, sample=200)
    assert (found.centroids == expected.centroids).all()
