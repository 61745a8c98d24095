"""PCA of the store against scikit-learn's, streamed."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.decomposition import PCA as ReferencePCA

from lib.embeddings import pca as pcas
from lib.embeddings.pca import PCA, fit_and_project, l2_normalise
from lib.embeddings.store import INDEX, _checksum, _write_shard
from lib.errors import UserError
from lib.files import write_json


def write_vectors(folder: Path, vectors: np.ndarray, shard_size: int) -> Path:
    """A store of these vectors, float16 [n, d]; its probabilities are all alike."""
    shards = []
    for number, start in enumerate(range(0, len(vectors), shard_size)):
        part = vectors[start : start + shard_size]
        path = folder / f"shard-{number:05d}.safetensors"
        content = {
            "embedding": part,
            "probabilities": np.full((len(part), 3), 1 / 3, dtype=np.float32),
            "text_id": np.arange(start, start + len(part), dtype=np.uint64),
        }
        _write_shard(path, part, content["probabilities"], content["text_id"])
        shards.append({"file": path.name, "rows": len(part), "sha256": _checksum(content)})
    write_json(folder / INDEX, {"rows": len(vectors), "shards": shards})
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


def test_more_vectors_than_are_needed_are_sampled_evenly(store, tmp_path, monkeypatch):
    monkeypatch.setattr(pcas, "TRAIN", 40)
    monkeypatch.setattr(pcas, "BLOCK", 7)
    sample = pcas._sample(store, 120, 16)
    np.testing.assert_array_equal(sample, l2_normalise(some_vectors())[::3])
    fit_and_project(tmp_path, embeddings=store, dimensions=3)
    reference = ReferencePCA(3).fit(sample.astype(np.float64))
    found = PCA.load(tmp_path / "pca.npz").explained_variance_ratio
    np.testing.assert_allclose(found, reference.explained_variance_ratio_, rtol=1e-4)


@pytest.mark.parametrize("dimensions", [17, 121])
def test_too_many_dimensions_are_refused_before_any_work(store, tmp_path, dimensions):
    with pytest.raises(UserError, match=r"03_embed_corpus.pca_dimensions: \d+ is more than the 16"):
        fit_and_project(tmp_path, embeddings=store, dimensions=dimensions)
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


@given(hnp.arrays(np.float16, (3, 4), elements=st.floats(-50, 50, width=16)))
def test_normalised_vectors_have_length_1_and_the_input_stays(vectors):
    before = vectors.copy()
    lengths = np.linalg.norm(l2_normalise(vectors), axis=1)
    zero = np.linalg.norm(vectors.astype(np.float32), axis=1) < 1e-6
    np.testing.assert_allclose(lengths[~zero], 1, rtol=1e-5)
    np.testing.assert_array_equal(vectors, before)
