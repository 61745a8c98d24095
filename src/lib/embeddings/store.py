"""The embedding store: pooled vector, probabilities and text id of every corpus text, in shards.

A shard is one file with the checksum of its content, there whole or not at all: a run that was
stopped at any moment goes on with the shards that are missing or not whole. The index, written
last, holds row counts and checksums.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from accelerate import PartialState
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file
from tqdm import tqdm

from lib.data.tables import corpus_parts
from lib.errors import UserError
from lib.files import atomic, read_json, write_json
from lib.models.encoder import hardware, load_classifier
from lib.models.inference import Predictor

INDEX = "index.json"
Item = TypeVar("Item")


@dataclass
class Shard:
    """embedding float16 [n, d], not normalised; probabilities float32 [n, 3]; text_id [n] hex."""

    embedding: np.ndarray
    probabilities: np.ndarray
    text_id: np.ndarray


def embed(
    folder: Path,
    *,
    corpus: Path,
    model: Path,
    probe: Path | None,
    max_tokens: int,
    precision: str,
    device: str,
    shard_size: int,
    tokens_per_batch: int | None,
) -> None:
    """Embed every text in shards of `shard_size`, in row order.

    Shards that are whole and hold the same texts are kept. Tokenisation of the next shard runs
    beside the model. Of several processes (`accelerate launch`) each takes every n-th shard, and
    the main one writes the index.

    Args:
        corpus: folder of 01; model: of 02.
        probe: another classifier. The probabilities are then the mean of both; the vectors are
            those of `model`.
        others: see `lib.parameters.EmbedCorpusParams`.
    """
    processes, started = PartialState(), time.monotonic()
    encoders = [load_classifier(path, max_tokens) for path in (model, probe) if path is not None]
    on = hardware(precision, device)
    predictors = [Predictor(each, **on, tokens_per_batch=tokens_per_batch) for each in encoders]
    count = sum(pq.read_metadata(part).num_rows for part in corpus_parts(corpus))
    sizes = [min(shard_size, count - start) for start in range(0, count, shard_size)]
    paths = [folder / f"shard-{number:05d}.safetensors" for number in range(len(sizes))]
    index, step = processes.process_index, processes.num_processes
    # texts come longest first within a shard: tokens tell the remaining time, texts would not
    with tqdm(
        desc="embedding", unit="tok", unit_scale=True, disable=not processes.is_main_process
    ) as bar:
        mean, done = 0.0, 0

        def unfinished() -> Iterator[tuple[Path, np.ndarray, list[list[np.ndarray]]]]:
            pieces = zip(paths, read_pieces(corpus, shard_size), strict=True)
            for path, rows in islice(pieces, index, None, step):
                text_id = np.array([int(i, 16) for i in rows["text_id"]], dtype=np.uint64)
                found = _read_whole(path)
                if found is None or not np.array_equal(found["text_id"], text_id):
                    contents = rows["text"].tolist()
                    yield path, text_id, [each.tokenize(contents) for each in encoders]

        for path, text_id, token_ids in ahead(unfinished()):
            tokens = sum(len(row) for ids in token_ids for row in ids)
            mean = mean or tokens / len(text_id)
            bar.total = round(mean * sum(islice(sizes, index, None, step)))
            answers = [
                predictor(ids, lambda _, tokens: bar.update(tokens))
                for predictor, ids in zip(predictors, token_ids, strict=True)
            ]
            probabilities = np.mean([answer[0] for answer in answers], axis=0)
            _write_shard(path, answers[0][1], probabilities, text_id)
            done += len(text_id)
    processes.wait_for_everyone()
    if processes.is_main_process:
        entries = [
            {"file": path.name, "rows": rows, "sha256": _recorded_checksum(path)}
            for path, rows in zip(paths, sizes, strict=True)
        ]
        speed = {
            "texts": done,
            "seconds": round(time.monotonic() - started, 1),
            "padding_share": round(predictors[0].padding_share, 4),
        }
        write_json(folder / INDEX, {"rows": count, "speed": speed, "shards": entries})


def read_store(folder: Path) -> Iterator[Shard]:
    """The shards of a complete store, in order.

    Raises:
        UserError: a shard is missing or does not have its checksum.
    """
    for entry in read_json(folder / INDEX)["shards"]:
        path = folder / entry["file"]
        content = _read_whole(path)
        if content is None or _recorded_checksum(path) != entry["sha256"]:
            raise UserError(f"{path} is missing or damaged; run 03_embed_corpus with --force")
        ids = np.array([f"{i:016x}" for i in content["text_id"]])
        yield Shard(content["embedding"], content["probabilities"], ids)


def read_probabilities(folder: Path, text_ids: Collection[str] | None = None) -> np.ndarray:
    """Class probabilities, float32 [n, 3]: of all texts in order, or of chosen ones in theirs.

    Raises:
        UserError: a text is not in the store.
    """
    if text_ids is None:
        return np.concatenate([shard.probabilities for shard in read_store(folder)])
    wanted = pd.Index(text_ids)
    found = np.full((len(wanted), 3), np.nan, dtype=np.float32)
    for shard in read_store(folder):
        rows = wanted.get_indexer(shard.text_id)
        found[rows[rows >= 0]] = shard.probabilities[rows >= 0]
    absent = wanted[np.isnan(found[:, 0])]
    if len(absent):
        raise UserError(f"{folder}: no text {absent[0]}; run 03_embed_corpus with --force")
    return found


def read_pieces(corpus: Path, size: int) -> Iterator[pd.DataFrame]:
    """text_id and text in frames of `size` rows, in row order.

    Parts are streamed: memory depends on `size` and their row groups only.
    """
    waiting = pa.table({"text_id": pa.array([], pa.string()), "text": pa.array([], pa.string())})
    for part in corpus_parts(corpus):
        with pq.ParquetFile(part) as file:
            for batch in file.iter_batches(batch_size=size, columns=waiting.column_names):
                read = pa.Table.from_batches([batch]).cast(waiting.schema)
                waiting = pa.concat_tables([waiting, read])
                while len(waiting) >= size:
                    yield waiting.slice(0, size).to_pandas()
                    waiting = waiting.slice(size)
    if len(waiting):
        yield waiting.to_pandas()


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items; a thread prepares the next one while the caller works on this one."""
    end: Any = object()
    with ThreadPoolExecutor(1, "ahead") as pool:
        waiting = pool.submit(next, items, end)
        while (item := waiting.result()) is not end:
            waiting = pool.submit(next, items, end)
            yield item


def _write_shard(
    path: Path, pooled: np.ndarray, probabilities: np.ndarray, text_id: np.ndarray
) -> None:
    content = {
        "embedding": pooled.astype(np.float16),
        "probabilities": probabilities,
        "text_id": text_id,
    }
    with atomic(path) as temporary:
        save_file(content, temporary, metadata={"sha256": _checksum(content)})


def _read_whole(path: Path) -> dict[str, np.ndarray] | None:
    """The arrays of a shard file; None if it is missing or not what was written."""
    try:
        content = load_file(path)
        return content if _checksum(content) == _recorded_checksum(path) else None
    except (OSError, SafetensorError):
        return None


def _recorded_checksum(path: Path) -> str | None:
    with safe_open(path, "numpy") as file:
        return (file.metadata() or {}).get("sha256")


def _checksum(content: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(content):
        digest.update(f"{name} {content[name].dtype} {content[name].shape}".encode())
        digest.update(np.ascontiguousarray(content[name]).data)
    return digest.hexdigest()[:16]
