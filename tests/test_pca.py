from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.decomposition import PCA as ReferencePCA

from lib.embedding import read_bank, write_index, write_shard
from lib.errors import UserError
from lib.pca import PCA, fit_pca, l2_normalise, reduce_bank


def write_vectors(directory: Path, vectors: np.ndarray, shard_size: int) -> Path:
    """A bank of these vectors, float16 [n, d]; its probabilities are all alike."""
    directory.mkdir()
    shards = {}
    for number, start in enumerate(range(0, len(vectors), shard_size)):
        part = vectors[start : start + shard_size]
        path = directory / f"shard-{number:05d}.safetensors"
        probabilities = np.full((len(part), 3), 1 / 3, dtype=np.float32)
        write_shard(path, part, probabilities, np.arange(start, start + len(part), dtype=np.uint64))
        shards[path] = len(part)
    write_index(directory, shards)
    return directory


def some_vectors(rows: int = 90, width: int = 32) -> np.ndarray:
    """Correlated, off the origin, of different lengths: float16 [rows, width]."""
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(rows, width)) @ rng.normal(size=(width, width)) / 3 + 1.0
    return (mixed * rng.uniform(0.5, 3, size=(rows, 1))).astype(np.float16)


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    """A bank of five shards."""
    return write_vectors(tmp_path / "bank", some_vectors(), 20)


def all_vectors(directory: Path) -> np.ndarray:
    return np.concatenate([shard.embedding for shard in read_bank(directory)])


@pytest.mark.parametrize("dimensions", [2, 32])
def test_pca_equals_that_of_scikit_learn(bank, dimensions):
    vectors = all_vectors(bank).astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = ReferencePCA(dimensions, svd_solver="full").fit(vectors)
    pca = fit_pca(bank, dimensions)
    np.testing.assert_allclose(pca.mean, expected.mean_, atol=1e-6)
    np.testing.assert_allclose(
        pca.explained_variance_ratio, expected.explained_variance_ratio_, atol=1e-6
    )
    signs = np.sign((pca.components * expected.components_).sum(1))
    np.testing.assert_allclose(pca.components, signs[:, None] * expected.components_, atol=1e-3)
    np.testing.assert_allclose(
        pca.transform(all_vectors(bank)), signs * expected.transform(vectors), atol=1e-3
    )


def test_components_are_orthonormal_and_signs_fixed(bank):
    pca = fit_pca(bank, 12)
    np.testing.assert_allclose(pca.components @ pca.components.T, np.eye(12), atol=1e-5)
    assert (np.diff(pca.explained_variance_ratio) <= 0).all()
    largest = np.abs(pca.components).argmax(1)
    assert (pca.components[np.arange(12), largest] > 0).all()


def test_shards_do_not_change_the_pca(bank, tmp_path):
    several, single = (
        fit_pca(bank, 5),
        fit_pca(write_vectors(tmp_path / "one", some_vectors(), 90), 5),
    )
    np.testing.assert_allclose(several.components, single.components, atol=1e-4)


def test_blocks_add_up_where_vectors_are_much_alike(tmp_path, monkeypatch):
    """As in a real bank, the mean is far longer than what varies; blocks end within shards."""
    monkeypatch.setattr("lib.pca.BLOCK", 37)
    rng = np.random.default_rng(0)
    spread = rng.normal(size=(400, 24)) * np.geomspace(1, 0.05, 24)
    bank = write_vectors(tmp_path / "alike", (10 + spread).astype(np.float16), 150)
    vectors = all_vectors(bank).astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = ReferencePCA(8, svd_solver="full").fit(vectors)
    pca = fit_pca(bank, 8)
    np.testing.assert_allclose(
        pca.explained_variance_ratio, expected.explained_variance_ratio_, rtol=1e-4
    )
    cosines = np.abs((pca.components * expected.components_).sum(1))
    np.testing.assert_allclose(cosines, 1, atol=1e-6)


def test_memory_does_not_grow_with_the_number_of_texts(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(20_000, 32)).astype(np.float16)
    peaks = []
    for rows in (5_000, 20_000):
        bank = write_vectors(tmp_path / str(rows), vectors[:rows], 2_500)
        tracemalloc.start()
        reduce_bank(bank, fit_pca(bank, 4), tmp_path / f"{rows}.npy")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.1  # four times as many texts


def test_too_many_dimensions_are_an_error(bank, tmp_path):
    with pytest.raises(UserError, match=r"pca_dimensions: 33 .* 32 dimensions"):
        fit_pca(bank, 33)
    few = write_vectors(tmp_path / "few", some_vectors(10), 20)
    with pytest.raises(UserError, match=r"pca_dimensions: 11 .* 10 corpus texts"):
        fit_pca(few, 11)
    assert fit_pca(few, 10).components.shape == (10, 32)


def test_reduced_bank_is_the_transform_of_every_text(bank, tmp_path):
    pca = fit_pca(bank, 6)
    pca.save(tmp_path / "pca.npz")
    loaded = PCA.load(tmp_path / "pca.npz")
    assert (loaded.components == pca.components).all() and (loaded.mean == pca.mean).all()
    target = tmp_path / "out" / "reduced.npy"
    reduced = reduce_bank(bank, loaded, target)
    assert reduced.shape == (90, 6) and reduced.dtype == np.float32
    np.testing.assert_allclose(reduced, pca.transform(all_vectors(bank)), atol=1e-6)
    assert (np.load(target) == reduced).all()
    assert [p.name for p in target.parent.iterdir()] == ["reduced.npy"]


@given(
    hnp.arrays(
        np.float16,
        hnp.array_shapes(min_dims=2, max_dims=2),
        elements=st.floats(-100, 100, width=16),
    )
)
def test_normalised_rows_have_length_one(vectors):
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    result = l2_normalise(vectors)
    assert result.dtype == np.float32
    expected = np.where(lengths > 0, 1.0, 0.0)
    np.testing.assert_allclose(np.linalg.norm(result, axis=1), expected, atol=1e-5)
    np.testing.assert_allclose(result * lengths[:, None], vectors, atol=1e-3, rtol=1e-4)
