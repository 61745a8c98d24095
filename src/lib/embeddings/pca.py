"""Principal components of the embedding store by faiss: L2-normalised vectors, projected.

Shards are streamed, so memory does not grow with the number of texts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
from tqdm import tqdm

from lib.embeddings.store import INDEX, read_store
from lib.errors import UserError
from lib.files import atomic, read_json

TRAIN = 300_000  # vectors, evenly spread, that the components are fitted to: 0.9 GB at 768


def l2_normalise(vectors: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1, float32 [n, d]; a zero row stays zero."""
    vectors = np.array(vectors, dtype=np.float32, order="C")
    faiss.normalize_L2(vectors)
    return vectors


@dataclass
class PCA:
    """Principal components of L2-normalised vectors.

    mean float32 [d]; components float32 [k, d], orthonormal, by falling variance (zeros where
    nothing varies); explained_variance_ratio float64 [k].
    """

    mean: np.ndarray
    components: np.ndarray
    explained_variance_ratio: np.ndarray

    def transform(self, vectors: np.ndarray) -> np.ndarray:
        """Vectors [n, d] of any length -> normalised and projected, float32 [n, k]."""
        return (l2_normalise(vectors) - self.mean) @ self.components.T

    def save(self, path: Path) -> None:
        """Write as .npz, atomically."""
        with atomic(path) as temporary:
            np.savez(temporary, **vars(self))

    @classmethod
    def load(cls, path: Path) -> PCA:
        """Read what `save` wrote."""
        with np.load(path) as content:
            return cls(**{name: content[name] for name in content.files})


def fit_and_project(folder: Path, *, embeddings: Path, dimensions: int) -> None:
    """Write pca.npz, and reduced.npy, float32 [n, dimensions].

    The components are fitted to every text, or to TRAIN of them that are evenly spread.

    Args:
        embeddings: the store.
    Raises:
        UserError: more dimensions than the vectors have, or than there are texts.
    """
    rows = read_json(embeddings / INDEX)["rows"]
    width = next(read_store(embeddings))["embedding"].shape[1]
    if dimensions > min(width, rows):
        raise UserError(
            f"03_embed_corpus.pca_dimensions: {dimensions} is more than the {width} dimensions of "
            f"this model or the {rows} corpus texts; lower it"
        )
    every = -(-rows // TRAIN)
    sample = np.empty((-(-rows // every), width), dtype=np.float32)
    for start, vectors in _vectors(embeddings, rows, "PCA"):
        chosen = l2_normalise(vectors[-start % every :: every])
        sample[-(-start // every) :][: len(chosen)] = chosen
    pca = fit(sample, dimensions)
    del sample  # a gigabyte
    pca.save(folder / "pca.npz")
    header = {"descr": "<f4", "fortran_order": False, "shape": (rows, dimensions)}
    # no memory map: on a full disk it would kill the process, where writing raises OSError
    with atomic(folder / "reduced.npy") as temporary, temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for _, vectors in _vectors(embeddings, rows, "projection"):
            file.write(pca.transform(vectors).astype("<f4").tobytes())


def fit(vectors: np.ndarray, dimensions: int) -> PCA:
    """PCA of L2-normalised vectors, float32 [n, d].

    Signs are fixed so that each component's largest entry is positive.
    """
    width = vectors.shape[1]
    matrix = faiss.PCAMatrix(width, dimensions)
    matrix.max_points_per_d = -(-len(vectors) // width)  # all that are given
    matrix.train(vectors)
    components = faiss.vector_to_array(matrix.A).reshape(dimensions, width)
    largest = np.abs(components).argmax(1)
    components *= np.sign(components[np.arange(dimensions), largest])[:, None]
    variances = np.clip(faiss.vector_to_array(matrix.eigenvalues).astype(np.float64), 0, None)
    ratio = variances[:dimensions] / variances.sum()
    components[ratio < 1e-6] = 0  # where nothing varies, faiss gives any direction
    return PCA(faiss.vector_to_array(matrix.mean), components, ratio)


def _vectors(embeddings: Path, rows: int, doing: str) -> Iterator[tuple[int, np.ndarray]]:
    """First row and vectors, float16 [n, d], of each shard of a store."""
    start = 0
    with tqdm(total=rows, desc=doing, unit="text") as bar:
        for shard in read_store(embeddings):
            yield start, shard["embedding"]
            start += len(shard["embedding"])
            bar.update(len(shard["embedding"]))
