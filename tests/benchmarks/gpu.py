"""Tokens per second of embedding and training at mmBERT-base's shape, on one GPU.

    python tests/benchmarks/gpu.py --data FOLDER

Random weights, the vocabulary of e5-small (as large as mmBERT's). Embedding: texts of one length,
and of all lengths in FOLDER; ours is step 03, the peer `SentenceTransformer.encode` at its best
batch size. Training: steps of 02 (64 texts) and of 05 (512 texts, SupCon); the peer is the plain
Trainer, cross-entropy alone, with as many texts in memory as fit. All in half precision, each in a
process of its own. `--tiny` tries the script without a GPU.

How to read it: `share` is that of the speed of one large matrix product, measured first. Only what
is needed counts: no padding, no second forward pass. GPU GiB is the peak of the process's tensors.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import embed
import numpy as np
import pandas as pd
import torch
import train
from common import alone, gpu_memory, read_texts
from torch.utils.benchmark import Timer
from transformers import AutoConfig, AutoTokenizer

from lib.models import encoder
from lib.runs import parameter_files, plan
from lib.runs.fingerprints import PROJECT
from lib.runs.steps import machine

sys.path.append(str(Path(__file__).parents[1]))
with mock.patch.dict(os.environ):  # tests set one thread
    from test_shapes import LONG, checkpoint

SIZES = (8, 32, 128, 512)  # of sentence-transformers' batches
# texts of the mix, tokens of texts of one length, texts of an epoch, texts of a batch
REAL = ("base", (32, 128, 512, LONG), 50_000, 4_000_000, 4096, {"02": 64, "05": 512})
TINY = ("narrow", (32, 128), 60, 400, 32, {"02": 8, "05": 16})


def main(arguments: list[str] | None = None) -> pd.DataFrame:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="of CSV; default: the sample")
    parser.add_argument("--tiny", action="store_true", help="a tiny model and few texts")
    options = parser.parse_args(arguments)
    if not options.tiny and not torch.cuda.is_available():
        parser.error("torch sees no GPU; --tiny tries the script without one")
    shape, lengths, count, tokens, epoch, batches = TINY if options.tiny else REAL
    name = None if options.tiny else encoder.resolve("embedded:e5-small")
    tokenizer = name and AutoTokenizer.from_pretrained(name)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="gpu-") as name:
        folder = Path(name)
        path, mix = checkpoint(folder, shape, tokenizer), read_texts(options.data, count, seed=0)
        peak = measure(matrix_product, 512 if options.tiny else 8192)
        about = f"{machine()}; torch {torch.__version__}"
        print(f"{about}; matrix products: {peak / 1e12:.3g} TFLOP/s", flush=True)

        def add(what: str, found: dict[str, Any]) -> None:
            share = found.pop("FLOP/s") / peak
            rows.append({"what": what, **found, "share": share})
            # at once, since a later one may fail
            print(text(pd.DataFrame(rows[-1:]), header=len(rows) == 1), flush=True)

        for length in [*lengths, None]:
            texts = of_length(path, mix, length, tokens) if length else mix
            for name in ("ours", "sentence-transformers"):
                add(f"embedding, {length or 'mix'}", measure(embedding, path, name, texts))
        gold = pd.DataFrame({"text": np.resize(mix, epoch + 40), "split": "train"})
        gold.loc[epoch:, "split"] = np.repeat(["validation", "test"], 20)
        gold.assign(label=gold.index % 3).to_parquet(folder / "gold.parquet")
        for step, batch in batches.items():
            for name in ("ours", "Trainer"):
                add(f"{step}, batch {batch}", training(step, name, folder, path, batch))
    table = pd.DataFrame(rows)
    print(f"\n{text(table)}")
    return table


def text(table: pd.DataFrame, header: bool = True) -> str:
    """A table with three digits of each number."""
    return table.to_string(index=False, header=header, float_format="%.3g")


def measure(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function; in a process of its own if there is a GPU, whose memory then is its own."""
    return alone(function, *arguments)[0] if torch.cuda.is_available() else function(*arguments)


def matrix_product(size: int) -> float:
    """FLOP/s of products of two matrices in half precision."""
    left, right = torch.randn(2, size, size, **encoder.hardware("auto", "auto"))
    return 2 * size**3 / Timer("a @ b", globals={"a": left, "b": right}).timeit(20).mean


def work_of(path: str, texts: list[str]) -> dict[str, float]:
    """Tokens of the texts, and FLOP of the matrix products of one forward pass."""
    ids = AutoTokenizer.from_pretrained(path)(texts, truncation=True, max_length=LONG)["input_ids"]
    lengths, config = np.array([len(row) for row in ids]), AutoConfig.from_pretrained(path)
    whole = -(-config.num_hidden_layers // config.global_attn_every_n_layers)
    local = config.num_hidden_layers - whole
    seen = whole * lengths + local * np.minimum(lengths, config.local_attention)  # by a token
    flops = lengths * (2.0 * plan.weights(config)[0] + 4.0 * config.hidden_size * seen)
    return {"tokens/s": lengths.sum(), "texts/s": len(texts), "FLOP/s": flops.sum()}


def of_length(path: str, texts: list[str], length: int, tokens: int) -> list[str]:
    """Texts of about so many tokens, `tokens` together."""
    tokenizer = AutoTokenizer.from_pretrained(path)
    known = np.concatenate(tokenizer(texts, add_special_tokens=False)["input_ids"])
    return tokenizer.batch_decode(np.resize(known, (max(1, tokens // length), length - 2)))


def embedding(path: str, name: str, texts: list[str]) -> dict[str, Any]:
    """Texts to vectors."""
    if name == "ours":
        options = argparse.Namespace(base_model=path, max_tokens=LONG, seed=0)
        seconds = timed(embed.ours(options, "auto"), texts)
    else:
        precision = str(encoder.hardware("auto", "auto")["dtype"]).removeprefix("torch.")
        trial, sizes = texts[:: max(1, len(texts) // 2000)], SIZES
        while True:
            size, run = embed.sentence_transformer(path, LONG, precision, trial, sizes)
            try:
                seconds = timed(run, texts)
                break
            except torch.OutOfMemoryError:  # some are longer than all of the trial
                sizes = tuple(smaller for smaller in sizes if smaller < size)
                if not sizes:
                    raise
        name += f", batch {size}"
    speeds = {key: n / seconds for key, n in work_of(path, texts).items()}
    return {"contestant": name, **speeds, "GPU GiB": gpu_memory()}


def timed(run: embed.Embed, texts: list[str]) -> float:
    """Seconds, after a small warm-up, from which on the peak of GPU memory counts."""
    run(texts[:: max(1, len(texts) // 50)])
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    run(texts)
    if on_gpu:
        torch.cuda.synchronize()
    return time.perf_counter() - started


def training(step: str, name: str, folder: Path, path: str, size: int) -> dict[str, Any]:
    """Two epochs, of which the second counts."""
    given = {"base_model": path, "batch_size": size, "epochs": 2, "evaluations_per_epoch": 1}
    overrides = [f"02.{key}={value}" for key, value in given.items()]
    params = parameter_files.load(PROJECT / "params" / "full.yaml", overrides)
    values, sizes = params.steps["02_base_classifier"].model_dump(), [()]
    function = train.ours if step == "02" else train.metric_learning
    if name != "ours":
        function, sizes = train.trainer, [(size // 2**i,) for i in range(size.bit_length())]
    for at_once in sizes:
        with contextlib.suppress(torch.OutOfMemoryError), tempfile.TemporaryDirectory() as work:
            found = measure(function, folder, Path(work), values, *at_once)
            break
    else:
        raise SystemExit(f"step {step}, {name}: the GPU's memory is too small even for one text")
    texts = pd.read_parquet(folder / "gold.parquet", filters=[("split", "==", "train")])["text"]
    speeds = {key: n / found["s of last epoch"] for key, n in work_of(path, [*texts]).items()}
    speeds["FLOP/s"] *= 3  # and twice as much on the way back
    name += "".join(f", {n} texts at once" for n in at_once)
    return {"contestant": name, **speeds, "GPU GiB": found.get("GPU GiB", np.nan)}


if __name__ == "__main__":
    main()
