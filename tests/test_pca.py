"""PCA of the store against scikit-learn's, streamed."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.decomposition import PCA as ReferencePCA

from lib.embeddings import pca
from lib.embeddings.pca import PCA, fit, fit_and_project, l2_normalise
from lib.embeddings.store import write_index, write_shard
from lib.errors import UserError


def write_vectors(folder: Path, vectors: np.ndarray, shard_size: int) -> Path:
    """A store of these vectors, float16 [n, d]; its probabilities are all alike."""
    starts = range(0, len(vectors), shard_size)
    for number, start in enumerate(starts):
        part = vectors[start : start + shard_size]
        text_id = np.arange(start, start + len(part), dtype=np.uint64)
        write_shard(folder, number, part, np.full((len(part), 3), 1 / 3), text_id)
    write_index(folder, [min(shard_size, len(vectors) - start) for start in starts])
    return folder


def some_vectors(rows: int = 120, width: int = 16) -> np.ndarray:
    """Correlated, off the origin, of different lengths: float16 [rows, width]."""
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(rows, width)) @ rng.normal(size=(width, width)) / 3 + 1.0
    return (mixed * rng.uniform(0.5, 3, size=(rows, 1))).astype(np.float16)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return write_vectors(tmp_path / "store", some_vectors(), 50)


def test_it_is_scikit_learns_pca(store, tmp_path):
    fit_and_project(tmp_path, embeddings=store, dimensions=5)
    normal = l2_normalise(some_vectors())
    reference = ReferencePCA(5).fit(normal.astype(np.float64))
    found = PCA.load(tmp_path / "pca.npz")
    np.testing.assert_allclose(
        found.explained_variance_ratio, reference.explained_variance_ratio_, rtol=1e-4
    )
    signs = np.sign((found.components * reference.components_).sum(1))
    expected = reference.transform(normal) * signs
    reduced = np.load(tmp_path / "reduced.npy", mmap_mode="r")
    assert reduced.dtype == np.float32 and reduced.shape == (120, 5)
    np.testing.assert_allclose(reduced, expected, atol=1e-4)
    np.testing.assert_allclose(found.transform(some_vectors()), reduced, atol=1e-6)
    largest = np.abs(found.components).argmax(1)
    assert (found.components[np.arange(5), largest] > 0).all()


@pytest.mark.parametrize("most", [40, 50, 119])
def test_more_vectors_than_are_needed_are_sampled_evenly(store, tmp_path, monkeypatch, most):
    monkeypatch.setattr(pca, "TRAIN", most)
    fit_and_project(tmp_path, embeddings=store, dimensions=3)
    reference = ReferencePCA(3).fit(l2_normalise(some_vectors())[:: -(-120 // most)])
    found = PCA.load(tmp_path / "pca.npz")
    np.testing.assert_allclose(found.mean, reference.mean_, atol=1e-6)
    np.testing.assert_allclose(
        found.explained_variance_ratio, reference.explained_variance_ratio_, rtol=1e-3
    )


@pytest.mark.parametrize("rows", [5, 9])
def test_fewer_texts_than_dimensions_of_the_encoder(rows):
    """So many components as texts: the last one has nothing left to explain."""
    normal = l2_normalise(some_vectors(rows))
    reference = ReferencePCA(rows).fit(normal.astype(np.float64))
    found = fit(normal, rows)
    np.testing.assert_allclose(
        found.explained_variance_ratio, reference.explained_variance_ratio_, atol=1e-6
    )
    expected = np.abs(reference.transform(normal))
    np.testing.assert_allclose(np.abs(found.transform(normal)), expected, atol=1e-4)


@pytest.mark.parametrize("dimensions", [17, 121])
def test_too_many_dimensions_are_refused_before_any_work(store, tmp_path, dimensions):
    with pytest.raises(UserError, match=r"03_embed_corpus.pca_dimensions: \d+ is more than the 16"):
        fit_and_project(tmp_path, embeddings=store, dimensions=dimensions)
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_an_error_and_not_the_end_of_the_process(store, tmp_path, monkeypatch):
    def open_full(path, mode="r", **options):
        return open("/dev/full" if "w" in mode else path, mode, **options)

    monkeypatch.setattr(Path, "open", open_full)
    with pytest.raises(OSError, match="No space left on device"):
        fit_and_project(tmp_path, embeddings=store, dimensions=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pca.npz", "store"]


@given(hnp.arrays(np.float16, (3, 4), elements=st.floats(-50, 50, width=16)))
def test_normalised_vectors_have_length_1_and_the_input_stays(vectors):
    before = vectors.copy()
    lengths = np.linalg.norm(l2_normalise(vectors), axis=1)
    zero = np.linalg.norm(vectors.astype(np.float32), axis=1) < 1e-6
    np.testing.assert_allclose(lengths[~zero], 1, rtol=1e-5)
    np.testing.assert_array_equal(vectors, before)
