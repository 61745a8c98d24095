"""The embedding bank: pooled vector, probabilities and text id of every corpus text, in shards.

A shard is one file that is there whole or not at all, so a run that was stopped at any moment goes
on with the first missing shard. The index, written last, holds row counts and checksums.
PCA streams over the shards: its memory does not depend on the number of texts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import load_file, save_file
from tqdm import tqdm

from lib.artifacts import atomic, file_digest, read_json, write_json
from lib.encoder import Encoder, hardware
from lib.errors import UserError
from lib.inference import predict
from lib.params import EmbedCorpusParams

INDEX = "index.json"


@dataclass
class Shard:
    """embedding float16 [n, d], not normalised; probabilities float32 [n, 3]; text_id [n] hex."""

    embedding: np.ndarray
    probabilities: np.ndarray
    text_id: np.ndarray


def write_bank(
    encoder: Encoder, texts: pd.DataFrame, directory: Path, params: EmbedCorpusParams
) -> None:
    """Embed `text` of every row of `texts` in shards of `params.shard_size`, in row order.

    Shards that are already there are kept.
    """
    on = hardware(params)
    dtype, device = on["dtype"], on["device"]
    starts = range(0, len(texts), params.shard_size)
    entries = []
    with tqdm(total=len(texts), desc="embedding", unit="text") as bar:
        for number, start in enumerate(starts):
            path = directory / f"shard-{number:05d}.safetensors"
            rows = texts.iloc[start : start + params.shard_size]
            if not path.exists():
                token_ids = encoder.tokenize(rows["text"].tolist())
                probabilities, pooled = predict(
                    encoder,
                    token_ids,
                    dtype=dtype,
                    device=device,
                    tokens_per_batch=params.tokens_per_batch,
                    progress=path.name,
                )
                content = {
                    "embedding": pooled.astype(np.float16),
                    "probabilities": probabilities,
                    "text_id": np.array([int(i, 16) for i in rows["text_id"]], dtype=np.uint64),
                }
                with atomic(path) as temporary:
                    save_file(content, temporary)
            entries.append({"file": path.name, "rows": len(rows), "sha256": file_digest(path)})
            bar.update(len(rows))
    write_json(directory / INDEX, {"rows": len(texts), "shards": entries})


def read_bank(directory: Path) -> Iterator[Shard]:
    """The shards of a complete bank, in order.

    Raises:
        UserError: a shard is missing or does not have its checksum.
    """
    for entry in read_json(directory / INDEX)["shards"]:
        path = directory / entry["file"]
        if not path.exists() or file_digest(path) != entry["sha256"]:
            raise UserError(f"{path} is missing or damaged; run 03_embed_corpus with --force")
        content = load_file(path)
        ids = np.array([f"{i:016x}" for i in content["text_id"]])
        yield Shard(content["embedding"], content["probabilities"], ids)


def l2_normalise(vectors: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1, float32 [n, d]; a zero row stays zero."""
    vectors = vectors.astype(np.float32)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(norms, 1e-12)


@dataclass
class PCA:
    """Principal components of L2-normalised vectors.

    mean float32 [d]; components float32 [k, d], orthonormal, by falling variance;
    explained_variance_ratio float64 [k].
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
            np.savez(
                temporary,
                mean=self.mean,
                components=self.components,
                explained_variance_ratio=self.explained_variance_ratio,
            )

    @classmethod
    def load(cls, path: Path) -> PCA:
        """Read what `save` wrote."""
        with np.load(path) as content:
            return cls(**{name: content[name] for name in content.files})


def fit_pca(directory: Path, dimensions: int) -> PCA:
    """PCA of a bank in one pass, by the eigenvectors of its covariance matrix.

    Sums are kept in float64; signs are fixed so that each component's largest entry is positive.

    Raises:
        UserError: more dimensions than the vectors have, or than there are texts.
    """
    count, total, products = 0, 0.0, 0.0
    for shard in read_bank(directory):
        vectors = l2_normalise(shard.embedding).astype(np.float64)
        count += len(vectors)
        total = total + vectors.sum(0)
        products = products + vectors.T @ vectors
    width = len(total)
    if dimensions > min(width, count):
        raise UserError(
            f"03_embed_corpus.pca_dimensions: {dimensions} is more than the {width} dimensions of "
            f"this model or the {count} corpus texts; lower it"
        )
    mean = total / count
    covariance = (products - count * np.outer(mean, mean)) / max(1, count - 1)
    variances, vectors = np.linalg.eigh(covariance)
    components = vectors[:, ::-1][:, :dimensions].T
    largest = np.abs(components).argmax(1)
    components *= np.sign(components[np.arange(dimensions), largest])[:, None]
    ratio = np.clip(variances[::-1], 0, None) / np.clip(variances, 0, None).sum()
    return PCA(mean.astype(np.float32), components.astype(np.float32), ratio[:dimensions])


def reduce_bank(directory: Path, pca: PCA, path: Path) -> np.ndarray:
    """Project a bank shard by shard into one .npy file, float32 [n, k]; returned memory-mapped."""
    rows = read_json(directory / INDEX)["rows"]
    shape = (rows, len(pca.components))
    with atomic(path) as temporary:
        reduced = np.lib.format.open_memmap(temporary, "w+", dtype=np.float32, shape=shape)
        start = 0
        for shard in read_bank(directory):
            reduced[start : start + len(shard.embedding)] = pca.transform(shard.embedding)
            start += len(shard.embedding)
        reduced.flush()
        del reduced
    return np.load(path, mmap_mode="r")
