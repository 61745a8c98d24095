"""The embedding bank: pooled vector, probabilities and text id of every corpus text, in shards.

A shard is one file that is there whole or not at all, so a run that was stopped at any moment goes
on with the first missing shard. The index, written last, holds row counts and checksums.
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
