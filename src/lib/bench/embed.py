"""Benchmark `embed`: texts per second of this project and of what one would take instead.

Same model, texts, cut-off and machine. Contestants take turns, so that a machine that gets slower
during the run does not favour one of them; figures are medians over the rounds, with the range.
Peers get the best of several batch sizes, found in a first round of their own. Each one's time
begins with strings and ends with vectors in memory.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from lib.errors import UserError

BATCH_SIZES = (4, 8, 16, 32, 64)
TRIAL_TEXTS = 400


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command line."""
    parser.add_argument(
        "--data", type=Path, metavar="PATH", help="CSV file, or folder of them; default: the sample"
    )
    parser.add_argument("--texts", type=int, default=5000, help="a random sample of so many")
    parser.add_argument("--base-model", default="embedded:e5-small", help="hub id or directory")
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)


def run(options: argparse.Namespace) -> int:
    """Measure and print; returns the exit status."""
    import torch

    from lib.artifacts import machine
    from lib.encoder import choose_device, compute_dtype, new_classifier

    device = choose_device("auto")
    dtypes = list(dict.fromkeys([compute_dtype("auto", device), torch.float32]))
    texts = read_texts(options.data, options.texts, options.seed)
    encoder = new_classifier(
        options.base_model, pooling="mean", max_tokens=options.max_tokens, seed=options.seed
    )
    tokens = sum(map(len, encoder.tokenize(texts)))
    print(f"{machine()}; {device}; {torch.get_num_threads()} threads; torch {torch.__version__}")
    print(f"{options.base_model}; {len(texts):,} texts, {tokens:,} tokens")

    contestants = {f"ours, {short(dtype)}": ours(encoder, dtype, device) for dtype in dtypes}
    contestants |= peers(options, encoder, dtypes, texts[:TRIAL_TEXTS])
    peaks: dict[torch.dtype, list[float]] = {dtype: [] for dtype in dtypes}
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    vectors = {}
    for number in range(1, options.rounds + 1):
        for dtype in dtypes:
            peaks[dtype].append(matmul_peak(dtype, device))
        for name, embed in contestants.items():
            started = time.perf_counter()
            vectors[name] = embed(texts)
            seconds[name].append(time.perf_counter() - started)
            print(f"round {number}: {name}: {seconds[name][-1]:.1f} s", flush=True)

    print_speeds(seconds, len(texts), tokens)
    best_peak = {dtype: max(values) for dtype, values in peaks.items()}
    print_peak_shares(contestants, seconds, encoder, texts, best_peak)
    print_agreement(vectors)
    return 0


def read_texts(data: Path | None, count: int, seed: int) -> list[str]:
    """A random sample of the column `text`.

    Raises:
        UserError: no CSV file, or one without that column.
    """
    import pandas as pd

    from lib.sources import SAMPLE_DIR

    data = data or SAMPLE_DIR / "corpus.csv"
    files = sorted(data.glob("*.csv")) if data.is_dir() else [data]
    if not files or not all(file.exists() for file in files):
        raise UserError(f"--data {data}: no CSV file there")
    try:
        frames = [pd.read_csv(file, usecols=["text"], dtype=str) for file in files]
    except ValueError as error:
        raise UserError(f"--data {data}: not CSV with a column `text` ({error})") from error
    texts = pd.concat(frames)["text"].dropna()
    return texts.sample(min(count, len(texts)), random_state=seed).tolist()


def ours(encoder, dtype, device) -> Callable:
    """What step 03 does for a shard; its `predictor` knows the padding."""
    from lib.inference import Predictor

    predictor = Predictor(encoder, dtype=dtype, device=device)

    def embed(texts: list[str]):
        return predictor(encoder.tokenize(texts))[1]

    embed.predictor = predictor
    embed(["прогрев"] * 100)
    return embed


def peers(options: argparse.Namespace, encoder, dtypes, trial: list[str]) -> dict[str, Callable]:
    """sentence-transformers in each dtype and the transformers pipeline, at their best batch size.

    Raises:
        UserError: sentence-transformers is not installed.
    """
    import numpy as np
    import torch
    from transformers import pipeline

    from lib.encoder import resolve

    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise UserError('peers are missing: pip install -e ".[bench]"') from error
    path = resolve(options.base_model)
    found = {}
    for dtype in reversed(dtypes):  # float32, the default, first
        model = SentenceTransformer(path, model_kwargs={"dtype": dtype})
        model.max_seq_length = options.max_tokens

        def encode(texts, size, model=model):
            return model.encode(texts, batch_size=size, show_progress_bar=False)

        size, embed = best_batch_size(encode, trial)
        found[f"sentence-transformers, {short(dtype)}, batch {size}"] = embed

    extract = pipeline("feature-extraction", model=path, tokenizer=encoder.tokenizer)
    cut = {"truncation": True, "max_length": options.max_tokens}

    def pipe(texts, size):
        outputs = extract(texts, batch_size=size, tokenize_kwargs=cut, return_tensors=True)
        with torch.inference_mode():
            return np.stack([output[0].float().mean(0).cpu().numpy() for output in outputs])

    size, embed = best_batch_size(pipe, trial, (1, 4, 8))
    found[f"transformers pipeline, float32, batch {size}"] = embed
    return found


def best_batch_size(
    embed: Callable, trial: list[str], sizes: tuple[int, ...] = BATCH_SIZES
) -> tuple[int, Callable]:
    """The fastest batch size on the trial texts, and the function with it."""
    seconds = {}
    embed(trial[:50], sizes[0])
    for size in sizes:
        started = time.perf_counter()
        embed(trial, size)
        seconds[size] = time.perf_counter() - started
    best = min(seconds, key=seconds.get)
    return best, lambda texts: embed(texts, best)


def matmul_peak(dtype, device) -> float:
    """FLOP/s of a square matrix product, 2048 wide, the best of ten."""
    import torch

    one, other = (torch.randn(2048, 2048, dtype=dtype, device=device) for _ in range(2))
    best = float("inf")
    for _ in range(10):
        started = time.perf_counter()
        (one @ other)[0, 0].item()
        best = min(best, time.perf_counter() - started)
    return 2 * 2048**3 / best


def matmul_flop(encoder, texts: list[str]) -> float:
    """Floating-point operations of the matrix products that the texts need, without padding.

    Every layer is counted with full attention.
    """
    import numpy as np
    from torch import nn

    config = encoder.model.encoder.config
    lengths = np.array([len(row) for row in encoder.tokenize(texts)], dtype=float)
    layers = [m for m in encoder.model.encoder.modules() if isinstance(m, nn.Linear)]
    weights = sum(layer.weight.numel() for layer in layers)
    attention = 4 * config.num_hidden_layers * config.hidden_size * (lengths**2).sum()
    return 2 * weights * lengths.sum() + attention


def print_speeds(seconds: dict[str, list[float]], texts: int, tokens: int) -> None:
    """One line per contestant; ratios are taken round by round."""
    first = next(iter(seconds))
    print(f"\n{'':46}{'texts/s':>9}{'tokens/s':>10}   {first} is faster by")
    for name, values in seconds.items():
        middle = statistics.median(values)
        ratios = [other / own for other, own in zip(values, seconds[first], strict=True)]
        print(
            f"{name:46}{texts / middle:9.0f}{tokens / middle:10,.0f}   "
            f"{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"
        )


def print_peak_shares(contestants, seconds, encoder, texts, peaks) -> None:
    """Padding, and what is reached of the speed that the processor has for matrix products."""
    flop = matmul_flop(encoder, texts)
    for dtype, peak in peaks.items():
        name = f"ours, {short(dtype)}"
        reached = flop / statistics.median(seconds[name])
        padding = contestants[name].predictor.padding_share
        print(
            f"{name}: padding {padding:.1%} of the tokens; {reached / 1e9:.0f} GFLOP/s, "
            f"{reached / peak:.0%} of a 2048 x 2048 product in {short(dtype)} "
            f"({peak / 1e9:.0f} GFLOP/s)"
        )


def print_agreement(vectors) -> None:
    """Lowest cosine between a contestant's vectors and those of float32 sentence-transformers."""
    from lib.pca import l2_normalise

    (reference,) = (v for n, v in vectors.items() if n.startswith("sentence-transformers, float32"))
    for name, found in vectors.items():
        if "pipeline" in name:
            continue  # it gives padding's vectors too and does not say which they are
        cosine = (l2_normalise(found) * l2_normalise(reference)).sum(1).min()
        print(f"{name}: lowest cosine to float32 sentence-transformers {cosine:.5f}")


def short(dtype) -> str:
    """`float32` for torch.float32."""
    return str(dtype).removeprefix("torch.")
