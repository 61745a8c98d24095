"""The embedding bank: pooled vector, probabilities and text id of every corpus text, in shards.

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
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file
from tqdm import tqdm

from lib import distributed
from lib.artifacts import atomic, read_json, write_json
from lib.encoder import Encoder, hardware
from lib.errors import UserError
from lib.inference import Predictor
from lib.schema import EmbedCorpusParams
from lib.tables import corpus_parts

INDEX = "index.json"
Item = TypeVar("Item")


@dataclass
class Shard:
    """embedding float16 [n, d], not normalised; probabilities float32 [n, 3]; text_id [n] hex."""

    embedding: np.ndarray
    probabilities: np.ndarray
    text_id: np.ndarray


def write_bank(
    encoder: Encoder,
    texts: pd.DataFrame | Path,
    directory: Path,
    params: EmbedCorpusParams,
    second_opinion: Encoder | None = None,
) -> dict[str, float]:
    """Embed every text in shards of `params.shard_size`, in row order.

    Shards that are whole and hold the same texts are kept. Tokenisation of the next shard runs
    beside the model. Of several processes (see `lib.distributed`) each takes every n-th shard, and
    the main one writes the index.

    Args:
        texts: a frame with text_id and text, or the folder of corpus parts, read in pieces.
        second_opinion: another classifier. The probabilities are then the mean of both; the
            vectors are those of `encoder`.
    Returns:
        What this call did: texts, tokens, padding_share (of the tokens), seconds.
    """
    started = time.monotonic()
    options = {**hardware(params), "tokens_per_batch": params.tokens_per_batch}
    asked = [encoder] if second_opinion is None else [encoder, second_opinion]
    predictors = [Predictor(each, **options) for each in asked]
    count = count_rows(texts)
    starts = range(0, count, params.shard_size)
    sizes = [min(params.shard_size, count - start) for start in starts]
    paths = [directory / f"shard-{number:05d}.safetensors" for number in range(len(sizes))]
    done = 0
    with Progress(sum(distributed.own_share(sizes)), "embedding") as progress:

        def unfinished() -> Iterator[tuple[Path, np.ndarray, list[list[np.ndarray]]]]:
            pieces = zip(paths, read_pieces(texts, params.shard_size), strict=True)
            for path, rows in distributed.own_share(pieces):
                text_id = np.array([int(i, 16) for i in rows["text_id"]], dtype=np.uint64)
                found = read_whole(path)
                if found and np.array_equal(found["text_id"], text_id):
                    progress.skip(len(rows))
                else:
                    contents = rows["text"].tolist()
                    yield path, text_id, [each.tokenize(contents) for each in asked]

        for path, text_id, token_ids in ahead(unfinished()):
            progress.begin(len(text_id), sum(len(row) for ids in token_ids for row in ids))
            answers = [
                predictor(ids, progress.advance)
                for predictor, ids in zip(predictors, token_ids, strict=True)
            ]
            pooled = answers[0][1]
            write_shard(path, pooled, np.mean([a[0] for a in answers], axis=0), text_id)
            done += len(text_id)
    distributed.wait_for_all()
    if distributed.is_main():
        write_index(directory, dict(zip(paths, sizes, strict=True)))
    distributed.wait_for_all()
    return {
        "texts": done,
        "tokens": predictors[0].tokens,
        "padding_share": predictors[0].padding_share,
        "seconds": time.monotonic() - started,
    }


def write_shard(
    path: Path, pooled: np.ndarray, probabilities: np.ndarray, text_id: np.ndarray
) -> None:
    """Write one shard with the checksum of its content; it appears whole or not at all."""
    content = {
        "embedding": pooled.astype(np.float16),
        "probabilities": probabilities,
        "text_id": text_id,
    }
    with atomic(path) as temporary:
        save_file(content, temporary, metadata={"sha256": checksum(content)})


def write_index(directory: Path, shards: dict[Path, int]) -> None:
    """Write the index of a bank, which makes it complete; `shards`: file -> rows, in order."""
    entries = [
        {"file": path.name, "rows": rows, "sha256": recorded_checksum(path)}
        for path, rows in shards.items()
    ]
    write_json(directory / INDEX, {"rows": sum(shards.values()), "shards": entries})


def read_bank(directory: Path) -> Iterator[Shard]:
    """The shards of a complete bank, in order.

    Raises:
        UserError: a shard is missing or does not have its checksum.
    """
    for entry in read_json(directory / INDEX)["shards"]:
        path = directory / entry["file"]
        content = read_whole(path)
        if content is None or recorded_checksum(path) != entry["sha256"]:
            raise UserError(f"{path} is missing or damaged; run 03_embed_corpus with --force")
        ids = np.array([f"{i:016x}" for i in content["text_id"]])
        yield Shard(content["embedding"], content["probabilities"], ids)


def read_probabilities(directory: Path, text_ids: Collection[str]) -> np.ndarray:
    """The class probabilities of chosen texts of a complete bank, float32 [n, 3], in their order.

    Raises:
        UserError: a text is not in the bank.
    """
    wanted = pd.Index(text_ids)
    found = np.full((len(wanted), 3), np.nan, dtype=np.float32)
    for shard in read_bank(directory):
        rows = wanted.get_indexer(shard.text_id)
        found[rows[rows >= 0]] = shard.probabilities[rows >= 0]
    absent = wanted[np.isnan(found[:, 0])]
    if len(absent):
        raise UserError(f"{directory}: no text {absent[0]}; run 03_embed_corpus with --force")
    return found


def read_whole(path: Path) -> dict[str, np.ndarray] | None:
    """The arrays of a shard file; None if it is missing or not what was written."""
    try:
        content = load_file(path)
        return content if checksum(content) == recorded_checksum(path) else None
    except (OSError, SafetensorError):
        return None


def recorded_checksum(path: Path) -> str | None:
    """The checksum that a shard was written with."""
    with safe_open(path, "numpy") as file:
        return (file.metadata() or {}).get("sha256")


def checksum(content: dict[str, np.ndarray]) -> str:
    """SHA-256 of named arrays, 16 hex digits."""
    digest = hashlib.sha256()
    for name in sorted(content):
        digest.update(f"{name} {content[name].dtype} {content[name].shape}".encode())
        digest.update(np.ascontiguousarray(content[name]).data)
    return digest.hexdigest()[:16]


def read_pieces(texts: pd.DataFrame | Path, size: int) -> Iterator[pd.DataFrame]:
    """text_id and text in frames of `size` rows, in row order; see `write_bank` for `texts`.

    Parts of a corpus are streamed: memory depends on `size` and their row groups only.
    """
    if isinstance(texts, pd.DataFrame):
        for start in range(0, len(texts), size):
            yield texts.iloc[start : start + size]
        return
    waiting = pa.table({"text_id": pa.array([], pa.string()), "text": pa.array([], pa.string())})
    for part in corpus_parts(texts):
        with pq.ParquetFile(part) as file:
            for batch in file.iter_batches(batch_size=size, columns=waiting.column_names):
                read = pa.Table.from_batches([batch]).cast(waiting.schema)
                waiting = pa.concat_tables([waiting, read])
                while len(waiting) >= size:
                    yield waiting.slice(0, size).to_pandas()
                    waiting = waiting.slice(size)
    if len(waiting):
        yield waiting.to_pandas()


def count_rows(texts: pd.DataFrame | Path) -> int:
    """Number of texts; of corpus parts it is read from their footers."""
    if isinstance(texts, pd.DataFrame):
        return len(texts)
    return sum(pq.read_metadata(part).num_rows for part in corpus_parts(texts))


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items; a thread prepares the next one while the caller works on this one."""
    end = object()
    with ThreadPoolExecutor(1, "ahead") as pool:
        waiting = pool.submit(next, items, end)
        while (item := waiting.result()) is not end:
            waiting = pool.submit(next, items, end)
            yield item


class Progress:
    """A bar that counts texts and moves by tokens, with texts/s, tokens/s and remaining time.

    A shard's longest texts come first: counted as texts, the remaining time would be far too long
    at its beginning. Use as a context manager.
    """

    def __init__(self, texts: int, title: str) -> None:
        self.bar = tqdm(total=texts, desc=title, unit="text", disable=not distributed.is_main())
        self.started = time.monotonic()
        self.texts, self.tokens, self.texts_per_token = 0.0, 0, 0.0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def skip(self, texts: int) -> None:
        """Texts that were there already; they do not count for the speed."""
        self.texts += texts
        self.bar.initial += texts
        self.bar.n += texts

    def begin(self, texts: int, tokens: int) -> None:
        """A shard of so many texts and tokens."""
        self.texts_per_token = texts / max(1, tokens)

    def advance(self, _: int, tokens: int) -> None:
        """A batch of so many tokens is done."""
        self.tokens += tokens
        self.texts += tokens * self.texts_per_token
        speed = self.tokens / (time.monotonic() - self.started)
        self.bar.set_postfix_str(f"{speed:,.0f} tokens/s", refresh=False)
        self.bar.update(round(self.texts) - self.bar.n)
