"""The embedding store: pooled vector, probabilities and text id of every corpus text, in shards.

A shard is one file with the checksum of its content, there whole or not at all: a run that was
stopped at any moment goes on with the shards that are missing or not whole. The index, written
last, holds row counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from tqdm import tqdm

from lib.data.tables import batches, corpus_parts
from lib.errors import UserError
from lib.files import atomic, read_json, write_json
from lib.models.batching import Tokens, batched

INDEX = "index.json"
Item = TypeVar("Item")


def embed(
    folder: Path,
    *,
    corpus: Path,
    model: Path,
    probe: Path | None,
    linear_probe: bool,
    cluster_space: str,
    max_tokens: int,
    precision: str,
    device: str,
    shard_size: int,
    tokens_per_batch: int | None,
) -> None:
    """Embed every text in shards of `shard_size`, in row order.

    Shards that are whole and hold the same texts are kept. Tokenisation of the next shard runs
    beside the model. Of several processes (`torchrun`; `accelerate launch` on GPUs) each takes
    every n-th shard, and the main one writes the index.

    Args:
        corpus: folder of 01; model: of 02.
        probe: the pretrained encoder with a linear probe. With `linear_probe` the probabilities
            are the mean of both; with `cluster_space` base_model the vectors are the probe's.
        others: see `lib.parameters.EmbedCorpusParams`.
    """
    # torch takes seconds, which those who only read a store need not wait
    from lib.models.encoder import hardware, load_classifier, processes
    from lib.models.inference import Predictor

    group = processes()
    encoders = [load_classifier(path, max_tokens) for path in (model, probe) if path is not None]
    on = hardware(precision, device)
    predictors = [Predictor(each, **on, tokens_per_batch=tokens_per_batch) for each in encoders]
    count = sum(pq.read_metadata(part).num_rows for part in corpus_parts(corpus))
    sizes = [min(shard_size, count - start) for start in range(0, count, shard_size)]

    def mine(shards: Iterator[Item]) -> Iterator[Item]:
        return islice(shards, group.process_index, None, group.num_processes)

    def unfinished() -> Iterator[tuple[int, np.ndarray, list[Tokens]]]:
        for number, rows in mine(enumerate(read_pieces(corpus, shard_size))):
            text_id = np.array([int(text_id, 16) for text_id, _ in rows], dtype=np.uint64)
            found = _read_shard(folder, number)
            if found is None and (path := shard_path(folder, number)).exists():
                tqdm.write(f"{path} is damaged; it is made again")
            if found is None or not np.array_equal(found["text_id"], text_id):
                words = [text for _, text in rows]
                yield number, text_id, [each.tokenize(words) for each in encoders]
            else:
                kept.append(len(text_id))

    kept: list[int] = []
    texts = tokens = 0
    hidden = not group.is_main_process
    # texts come longest first within a shard: tokens tell the remaining time, texts would not
    with tqdm(desc="embedding", unit="tok", unit_scale=True, disable=hidden) as bar:
        for number, text_id, token_ids in ahead(unfinished()):
            texts += len(text_id)
            tokens += sum(len(ids.ids) for ids in token_ids)
            bar.total = round(tokens / texts * (sum(mine(iter(sizes))) - sum(kept)))
            answers = [
                predictor(ids, bar.update)
                for predictor, ids in zip(predictors, token_ids, strict=True)
            ]
            opinions = [answer[0] for answer in answers[: None if linear_probe else 1]]
            pooled = answers[-1 if cluster_space == "base_model" else 0][1]
            write_shard(folder, number, pooled, np.mean(opinions, axis=0), text_id)
    group.wait_for_everyone()
    if group.is_main_process:
        write_index(folder, sizes)


def read_store(folder: Path) -> Iterator[dict[str, np.ndarray]]:
    """The shards of a complete store, in order.

    Returns:
        Of each embedding float16 [n, d], not normalised; probabilities float32 [n, 3]; text_id
        uint64 [n].
    Raises:
        UserError: a shard is missing or does not have its checksum.
    """
    for number in range(len(read_json(folder / INDEX)["shards"])):
        content = _read_shard(folder, number)
        if content is None:
            path = shard_path(folder, number)
            raise UserError(f"{path} is missing or damaged; run 03_embed_corpus with --force")
        yield content


def read_probabilities(folder: Path) -> np.ndarray:
    """Class probabilities of all texts, in order: float32 [n, 3]."""
    return np.concatenate([shard["probabilities"] for shard in read_store(folder)])


def read_pieces(corpus: Path, size: int) -> Iterator[list[tuple[str, str]]]:
    """text_id and text of `size` rows at a time, in row order."""
    columns = (b.to_pydict() for b in batches(corpus, ["text_id", "text"]))
    yield from batched(chain.from_iterable(zip(*c.values(), strict=True) for c in columns), size)


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items; a thread prepares the next one while the caller works on this one."""
    end: Any = object()
    with ThreadPoolExecutor(1, "ahead") as pool:
        waiting = pool.submit(next, items, end)
        while (item := waiting.result()) is not end:
            waiting = pool.submit(next, items, end)
            yield item


def shard_path(folder: Path, number: int) -> Path:
    """The file of a shard."""
    return folder / f"shard-{number:05d}.safetensors"


def write_shard(
    folder: Path,
    number: int,
    pooled: np.ndarray,
    probabilities: np.ndarray,
    text_id: np.ndarray,
) -> None:
    """Write a shard, atomically: pooled float [n, d], probabilities float32 [n, 3], text_id uint64
    [n]."""
    content = {
        "embedding": pooled.astype(np.float16),
        "probabilities": probabilities,
        "text_id": text_id,
    }
    with atomic(shard_path(folder, number)) as temporary:
        save_file(content, temporary, metadata={"sha256": _checksum(content)})


def write_index(folder: Path, sizes: list[int]) -> None:
    """Complete a store of shards with so many rows."""
    shards = [
        {"file": shard_path(folder, number).name, "rows": rows} for number, rows in enumerate(sizes)
    ]
    write_json(folder / INDEX, {"rows": sum(sizes), "shards": shards})


def _read_shard(folder: Path, number: int) -> dict[str, np.ndarray] | None:
    """The arrays of a shard; None if its file is missing or not what was written."""
    try:
        with safe_open(shard_path(folder, number), "numpy") as file:
            content = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return content if file.metadata() == {"sha256": _checksum(content)} else None
    except (OSError, SafetensorError):
        return None


def _checksum(content: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(content):
        digest.update(f"{name} {content[name].dtype} {content[name].shape}".encode())
        digest.update(np.ascontiguousarray(content[name]).data)
    return digest.hexdigest()[:16]
