"""Texts per second of the embedding step, against sentence-transformers and a pipeline.

    python tests/benchmarks/embed.py --data FOLDER --texts 5000

Same model, texts, cut-off and machine; time begins with strings and ends with vectors in memory.
Peers get texts sorted by length (sentence-transformers does so itself) and the best of several
batch sizes, found in a first round of their own. Contestants take turns, so that a machine that
gets slower during the run does not favour one of them.

How to read it: texts per second are medians over the rounds; `ours is faster by` is taken round by
round, with the lowest and the highest in brackets. The cosine says that all compute the same.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from common import read_texts
from sentence_transformers import SentenceTransformer
from transformers import pipeline

from lib.embeddings.pca import l2_normalise
from lib.embeddings.store import ahead
from lib.models import encoder, inference
from lib.models.batching import batched
from lib.runs.steps import machine

BATCH_SIZES = (4, 8, 16, 32, 64)
TRIAL_TEXTS = 400
SHARD = 20_000  # texts
Embed = Callable[[list[str]], np.ndarray]


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--data", type=Path, metavar="PATH", help="CSV file, or folder of them; default: the sample"
    )
    parser.add_argument("--texts", type=int, default=5000, help="a random sample of so many")
    parser.add_argument("--base-model", default="embedded:e5-small", help="hub id or directory")
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    texts = read_texts(options.data, options.texts, options.seed)
    print(f"{machine()}; {torch.get_num_threads()} threads; torch {torch.__version__}")
    print(f"{options.base_model}; {len(texts):,} texts, cut after {options.max_tokens} tokens")

    best = encoder.hardware("auto", "auto")["dtype"]
    names = list(dict.fromkeys([str(best).removeprefix("torch."), "float32"]))
    contestants = {f"ours, {name}": ours(options, name) for name in names}
    contestants |= peers(options, names, texts[:TRIAL_TEXTS])
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    vectors = {}
    for number in range(1, options.rounds + 1):
        for name, embed in contestants.items():
            started = time.perf_counter()
            vectors[name] = embed(texts)
            seconds[name].append(time.perf_counter() - started)
            print(f"round {number}: {name}: {seconds[name][-1]:.1f} s", flush=True)

    first, reference = next(iter(vectors)), l2_normalise(vectors["ours, float32"])
    print(f"\n{'':46}{'texts/s':>9}   {first} is faster by   lowest cosine to ours, float32")
    for name, values in seconds.items():
        ratios = [other / own for other, own in zip(values, seconds[first], strict=True)]
        ends = f"{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"
        cosine = (l2_normalise(vectors[name]) * reference).sum(1).min()
        speed = len(texts) / statistics.median(values)
        print(f"{name:46}{speed:9.0f}   {ends:>{len(first) + 13}}   {cosine:.5f}")


def ours(options: argparse.Namespace, precision: str) -> Embed:
    """What step 03 does: while a shard is embedded, the next one is tokenised."""
    model = encoder.new_classifier(
        options.base_model, pooling="mean", max_tokens=options.max_tokens, seed=options.seed
    )
    predictor = inference.Predictor(model, **encoder.hardware(precision, "auto"))

    def embed(texts: list[str]) -> np.ndarray:
        shards = ahead(model.tokenize(shard) for shard in batched(texts, SHARD))
        return np.concatenate([predictor(token_ids)[1] for token_ids in shards])

    embed(["прогрев"] * 100)
    return embed


def peers(options: argparse.Namespace, precisions: list[str], trial: list[str]) -> dict[str, Embed]:
    """sentence-transformers in each precision and the pipeline, at their best batch size."""
    path = encoder.resolve(options.base_model)
    found = {}
    for precision in reversed(precisions):  # float32, the default, first
        size, embed = sentence_transformer(path, options.max_tokens, precision, trial, BATCH_SIZES)
        found[f"sentence-transformers, {precision}, batch {size}"] = embed

    extract = pipeline("feature-extraction", model=path, tokenizer=path)
    cut = {"truncation": True, "max_length": options.max_tokens}
    tokenizer = extract.tokenizer

    def pipe(texts: list[str], size: int) -> np.ndarray:
        lengths = [len(ids) for ids in tokenizer(texts, **cut)["input_ids"]]
        order = np.argsort(lengths)
        outputs = extract(
            [texts[i] for i in order], batch_size=size, tokenize_kwargs=cut, return_tensors=True
        )
        vectors = np.empty((len(texts), extract.model.config.hidden_size), dtype=np.float32)
        for row, output in zip(order, outputs, strict=True):  # padding's vectors come, too
            vectors[row] = output[0][: lengths[row]].float().mean(0).cpu().numpy()
        return vectors

    size, embed = best_batch_size(pipe, trial, BATCH_SIZES)
    return found | {f"transformers pipeline, float32, batch {size}": embed}


def sentence_transformer(
    path: str, max_tokens: int, precision: str, trial: list[str], sizes: tuple[int, ...]
) -> tuple[int, Embed]:
    """sentence-transformers at its best batch size."""
    model = SentenceTransformer(path, model_kwargs={"dtype": getattr(torch, precision)})
    model.max_seq_length = max_tokens
    inference.attend_fast(model[0].auto_model, getattr(torch, precision), model.device)  # as ours

    def encode(texts: list[str], size: int) -> np.ndarray:
        vectors = model.encode(texts, batch_size=size, show_progress_bar=False)
        return np.asarray(vectors, dtype=np.float32)

    return best_batch_size(encode, trial, sizes)


def best_batch_size(
    embed: Callable[[list[str], int], np.ndarray], trial: list[str], sizes: tuple[int, ...]
) -> tuple[int, Embed]:
    """The fastest of the sizes on the trial texts, and the function with it."""
    seconds = {}
    embed(trial[:50], sizes[0])
    for size in sizes:
        started = time.perf_counter()
        with contextlib.suppress(torch.OutOfMemoryError):
            embed(trial, size)
            seconds[size] = time.perf_counter() - started
    best = min(seconds, key=seconds.__getitem__)
    return best, lambda texts: embed(texts, best)


if __name__ == "__main__":
    main()
