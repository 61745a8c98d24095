"""What a run will need, before it starts: texts, tokens, disk, peak memory and time of each step.

Memory of a model is counted from its configuration. What autograd keeps of a layer is proportional
to its width and to that of its feed-forward part: KEPT and ATTENTION were counted on the graphs of
a BERT, mmBERT-base and mmBERT-small by `torch.autograd.graph.saved_tensors_hooks`. Constants of
other steps are those of notebooks/results/speed.md and of runs' manifests. The peak is right within
a factor of 1.5, so `check`, which every run makes, refuses only what is more than that too large.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from lib.errors import UserError
from lib.models.batching import CPU_TOKENS_PER_BATCH, PASSES, TRAINING_TOKENS_PER_BATCH
from lib.models.encoder import hardware
from lib.models.inference import GPU_TOKENS_PER_BATCH, MAX_WORKERS, has_flash_attention
from lib.parameters import STEPS
from lib.reports.page import duration
from lib.runs import known, steps
from lib.runs.parameter_files import RunParams

DATA, BASE, EMBED, CLUSTER, FINAL, EVALUATE = STEPS
GIB = 2**30
MARGIN = 1.5
KEPT = {2: (24, 5.5), 4: (40, 8)}
"""Bytes of a matrix product's values -> bytes per token that a layer keeps for each of its hidden
and feed-forward dimensions; twice the latter where that part is gated."""
ATTENTION = 12  # bytes per head and pair of tokens, where dropout makes a CPU keep them
ADAM = 16  # bytes per weight: itself, its gradient and two moments, float32
PROCESS = 0.7 * GIB  # a notebook's kernel with the libraries
PER_TEXT = {DATA: 600, CLUSTER: 480}  # bytes of memory: signatures; vectors and tables
START = 15  # seconds of any notebook
SECONDS = {DATA: 1.04e-4, EMBED: 2.1e-5, CLUSTER: 2.7e-8, "map": 1.2e-3}
"""Per text (03: PCA; 04: and cluster) and point of the map, on two cores of an EPYC."""


def weights(config: Any) -> tuple[int, int]:
    """Weights of all layers, and of the table of words."""
    hidden, inner = config.hidden_size, config.intermediate_size
    layer = hidden * (4 * hidden + (_gate(config) + 1) * inner)
    return config.num_hidden_layers * layer, config.vocab_size * hidden


def _gate(config: Any) -> int:
    return 2 if config.model_type == "modernbert" else 1  # its feed-forward part is gated


def memory(
    name: str, step: Any, config: Any, tokens: np.ndarray, length: float
) -> tuple[float, float]:
    """Bytes at the peak of a step that runs the model: of a GPU (0: none), and of the process.

    Args:
        tokens: of each text that the step reads; length: of those in the largest batch, on average.
    """
    on = hardware(step.precision, step.device)
    size, on_cpu = on["dtype"].itemsize, on["device"].type == "cpu"
    (layers, words), depth, hidden = weights(config), config.num_hidden_layers, config.hidden_size
    inner, budget = config.intermediate_size * _gate(config), getattr(step, "tokens_per_batch", 0)
    count, longest = len(tokens), tokens.max(initial=0)
    if name in (BASE, FINAL):
        at_once = min(budget or TRAINING_TOKENS_PER_BATCH, _batch(step) * length)
        at_once = max(at_once, longest)  # which then is alone
        kept = KEPT[size][0] * hidden + KEPT[size][1] * inner
        if on_cpu and getattr(config, "attention_probs_dropout_prob", 0):
            kept += ATTENTION * config.num_attention_heads * length
        # with checkpoints a layer keeps its input, and one at a time has the rest
        each = 4 * hidden * depth + kept if step.gradient_checkpointing else depth * kept
        # SDPA makes a bias of the mask of padding and window in each layer, and autograd keeps it
        masked = 0 if on_cpu or has_flash_attention(**on) else depth
        each += size * longest * (min(masked, 1) if step.gradient_checkpointing else masked)
        fixed = ADAM * layers + (4 if step.freeze_word_embeddings else ADAM) * words
    else:
        budget = budget or (CPU_TOKENS_PER_BATCH if on_cpu else GPU_TOKENS_PER_BATCH)
        workers = min(torch.get_num_threads(), MAX_WORKERS) if on_cpu else 1
        at_once = min(max(budget, longest) * workers, tokens.sum())
        each = size * ((depth + 5) * hidden + 2 * inner)  # all layers' outputs, and one's values
        fixed = size * (layers + words) * _models(name, step)
        if name == EMBED:  # tokens of two shards are there
            count = min(count, 2 * step.shard_size)
    vectors = 0 if name in (BASE, FINAL) else 6 * hidden
    per_text = 700 + 4 * tokens.mean() + vectors if count else 0
    # and a copy of the weights (loading, the best checkpoint), the vocabulary
    host = PROCESS + 4 * (layers + words) + 1024 * config.vocab_size + count * per_text
    device = fixed + at_once * each
    return (0, host + device) if on_cpu else (device, host)


def _batch(step: Any) -> int:
    return getattr(step, "batch_size", 0) or step.batch_groups * step.group_size


def _twice(step: Any, tokens: float) -> bool:
    """Whether batches of texts of so many tokens are computed twice (`lib.training.grad_cache`)."""
    budget = step.tokens_per_batch or TRAINING_TOKENS_PER_BATCH
    return max(step.lambda_metric) > 0 and _batch(step) * tokens > budget


def _models(name: str, step: Any) -> int:
    return 1 + (name == EVALUATE or step.linear_probe or step.cluster_space == "base_model")


def check(params: RunParams, chosen: list[str], run_dir: Path, force: bool = False) -> None:
    """Refuse what surely cannot fit: the least that a step needs is MARGIN times what there is.

    Raises:
        UserError: with the parameters to change.
    """
    names = [name for name in (BASE, EMBED, FINAL) if name in chosen]
    config = known.configuration(params) if names else None
    if config is None:
        return
    texts = known.read_texts(params, run_dir, known.FEW)
    for name in names:
        step: Any = params.steps[name]
        tokens = texts.tokens(name, step.max_tokens, 2 * known.CHARACTERS)
        mean = tokens.mean() if len(tokens) else 0.0
        # a longer text may never be drawn; the pieces of a batch may be half of it
        least = memory(name, step, config, np.minimum(tokens, mean), mean / 2)
        problem = _too_much(name, step, least, MARGIN)
        if texts.complete and name == EMBED and not problem:
            size = disk(name, step, config, texts) / MARGIN
            # what other runs have made is linked, and what is there may be this
            problem = _too_large(name, size, run_dir, run_dir.parent.rglob("*"))
        if problem and (force or not steps.is_current(name, run_dir, step)):
            raise UserError(problem)


def machine(step: Any) -> tuple[int, int]:
    """Bytes of memory: of the step's GPU (0: it uses none), and of the machine."""
    device = hardware(step.precision, step.device)["device"]
    gpu = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 0
    return gpu, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _too_much(name: str, step: Any, need: tuple[float, float], margin: float = 1.0) -> str:
    """What to change if the memory that a step needs is not there."""
    changes = ("tokens_per_batch", "max_tokens", "shard_size", "gradient_checkpointing")
    lower = [f"{name}.{each}" for each in changes[:3] if each in type(step).model_fields]
    more = f", set {changes[3]}: true" if getattr(step, changes[3], True) is False else ""
    for what, wanted, there in zip(("GPU memory", "memory"), need, machine(step), strict=True):
        if wanted > margin * there:
            return (
                f"{name} needs about {wanted / GIB:.1f} GiB of {what}, and there are "
                f"{there / GIB:.1f}: lower {' or '.join(lower)}{more}, or take a smaller base_model"
            )
    return ""


def _too_large(name: str, size: float, run_dir: Path, held: Iterable[Path] = ()) -> str:
    """What to change if there is no such space (bytes), even if the `held` files' were free."""
    folder = next(path for path in (run_dir, *run_dir.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    if size <= free or size <= free + sum(path.stat().st_size for path in held if path.is_file()):
        return ""
    return (
        f"{name} needs about {size / GIB:.1f} GiB of disk, and {folder} has {free / GIB:.1f} free: "
        f"lower {DATA}.max_corpus or {EMBED}.pca_dimensions, take a smaller base_model, or write "
        "to another disk (--outputs)"
    )


def disk(name: str, step: Any, config: Any, texts: known.Texts) -> float:
    """Bytes that a step writes, at its peak."""
    count = len(texts.corpus)
    if name == DATA:  # compressed, a character takes a byte; twice, and the signatures
        return 2 * (texts.gold.sum() + texts.corpus.sum()) + 380 * (count + len(texts.gold))
    if name == CLUSTER:
        return 60.0 * count
    layers, words = weights(config)
    if name == EMBED:
        probe = 4 * (layers + words) * (_models(name, step) - 1)
        return probe + count * (2 * config.hidden_size + 20 + 4 * step.pca_dimensions)
    if name == EVALUATE:
        return 4 * config.hidden_size * len(texts.gold)
    # models, and up to three checkpoints: the best, the last, and the one that is written
    models = 1 + len(getattr(step, "lambda_metric", ()))
    trained = layers + (0 if step.freeze_word_embeddings else words)
    return 4 * (layers + words) * models + 3 * 12 * trained


def describe(params: RunParams, chosen: list[str], run_dir: Path) -> str:
    """What each step needs, as a table, and below it what does not fit and what is not known.

    Raises:
        UserError: a file that cannot be read, or a device that is not there.
    """
    texts, config = known.read_texts(params, run_dir), known.configuration(params)
    notes = [f"not known: {each}" for each in texts.unknown]
    if texts.unknown:
        notes.append(f"so gold and corpus are taken to have {known.MANY:,} texts each")
    speed: dict[str, float] = {}
    if config is None:
        model = getattr(params.steps[BASE], "base_model", None)
        notes.append(
            "not known: memory, and time of steps with a model: no configuration of "
            f"{model!r} is on this machine, and no hub can be asked, or its architecture is not "
            "known (base_model)"
        )
    else:
        try:
            speed = known.measure(params, run_dir, texts.sample or known.STAND_IN)
        except torch.OutOfMemoryError:
            notes.append("not known: time of steps with a model: 20 steps filled the GPU's memory")
    rows, total = [], 0.0
    for name in (name for name in STEPS if name in chosen):
        step: Any = params.steps[name]
        count = _read(name, step, params.steps[BASE], texts)
        row = {"step": name, "texts": f"{count:,.0f}", "tokens": "-"}
        seconds = START + SECONDS.get(name, 0) * count * getattr(step, "clusters", 1)
        seconds += SECONDS["map"] * min(getattr(step, "umap_points", 0), count)
        need = 0.0, PROCESS + PER_TEXT.get(name, 0) * count
        if name not in PER_TEXT:
            tokens = texts.tokens(
                name, step.max_tokens, speed.get("characters_per_token", known.CHARACTERS)
            )
            mean = tokens.mean() if count else 0.0
            through = count * mean
            row["tokens"] = f"{through:,.0f}"
            if config is None:
                rows.append(row)
                continue
            # batches of 02 are sorted by length, those of 05 are not
            largest = np.sort(tokens)[-_batch(step) :] if name == BASE else tokens
            need = memory(name, step, config, tokens, largest.mean() if count else 0.0)
            problem = _too_much(name, step, need)
            notes += [f"DOES NOT FIT: {problem}"] if problem else []
            again = 4 / 3 if name == FINAL and _twice(step, mean) else 1  # a forward pass more
            kind = "training" if name in (BASE, FINAL) else "embedding"
            seconds += again * through / speed.get(kind, np.nan)
        size = disk(name, step, config, texts)
        total += size
        row |= {"disk GiB": f"{size / GIB:.2f}", "memory GiB": f"{need[1] / GIB:.1f}"}
        row |= {"GPU GiB": f"{need[0] / GIB:.1f}" if need[0] else "-"}
        row |= {} if np.isnan(seconds) else {"time": duration(seconds)}
        rows.append(row)
    problem = _too_large("the run", total, run_dir)
    notes += [f"DOES NOT FIT: {problem}"] if problem else []
    columns = ["step", "texts", "tokens", "disk GiB", "memory GiB", "GPU GiB", "time"]
    table = pd.DataFrame(rows, columns=columns).fillna("?")
    return "\n".join([table.to_string(index=False), f"on {steps.machine()}", *notes])


def _read(name: str, step: Any, base: Any, texts: known.Texts) -> float:
    """How many texts a step reads, repetitions included."""
    gold, corpus = len(texts.gold), len(texts.corpus)
    if name == FINAL:
        most = PASSES * (texts.train + corpus)
        drawn = step.steps * _batch(step) if step.steps else most
        return len(step.lambda_metric) * drawn
    return {
        DATA: gold + corpus,
        BASE: base.epochs * texts.train,
        EMBED: corpus * _models(name, step) if name == EMBED else 0,
        EVALUATE: 2 * (gold - texts.train + texts.audited),  # and some held-out ones
    }.get(name, corpus)
