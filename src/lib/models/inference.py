"""From token ids to probabilities and pooled vectors, in batches of similar length.

Texts are sorted by length and cut into batches of at most so many tokens, of which at most one in
twenty is padding. On a CPU each core works on batches of its own: 1.25x as fast as all cores on
one batch, since layers of small matrices leave no time to wait for each other. Weights are cast
once, not at each call. Measured by tests/benchmarks/embed.py.
"""

from __future__ import annotations

import contextlib
import copy
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from lib.errors import UserError
from lib.models import batching
from lib.models.batching import CPU_TOKENS_PER_BATCH, MAX_PADDING, batched, token_budget_batches
from lib.models.classifier import classify, keep_head_float32
from lib.models.encoder import Encoder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)
GPU_TOKENS_PER_BATCH = 32_768
MAX_WORKERS = 16  # beyond, the interpreter's lock would be the limit: workers get several cores


def pad(token_ids: list[np.ndarray], pad_id: int, device: torch.device) -> dict[str, Tensor]:
    """`lib.models.batching.pad` as tensors on a device."""
    arrays = batching.pad(token_ids, pad_id)
    return {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}


class Predictor:
    """A classifier made ready for many texts.

    Args:
        dtype: of the encoder's weights and activations (`lib.models.encoder.compute_dtype`), and
            of the mean that ModernBERT classifies from; the pooled vector and the head are float32.
        tokens_per_batch: with padding; None: a value that suits the device. It is halved when the
            GPU's memory is full.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        dtype: torch.dtype,
        device: torch.device,
        tokens_per_batch: int | None = None,
    ) -> None:
        self.model = cast(encoder.model.to(device).eval(), dtype)  # type: ignore[arg-type]
        attend_fast(self.model, dtype, device)
        self.probe = None if encoder.probe is None else encoder.probe.to(device)
        self.pad_id, self.pooling = encoder.pad_id, encoder.pooling
        self.dtype, self.device = dtype, device
        self.shape = encoder.last_layer.out_features, encoder.hidden_size
        self.tokens_per_batch = tokens_per_batch or suitable_tokens(device)
        on_cpu = device.type == "cpu"
        self.workers = min(torch.get_num_threads(), MAX_WORKERS) if on_cpu else 1

    def __call__(
        self, token_ids: Sequence[np.ndarray], on_batch: Callable[[int], object] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities and pooled vectors of texts, in one pass.

        Args:
            token_ids: as `Encoder.tokenize` gives them, in any order.
            on_batch: called after each batch with its number of tokens.
        Returns:
            probabilities float32 [n, classes], pooled float32 [n, d], in the order of `token_ids`.
        Raises:
            UserError: a logit is infinite or NaN.
            torch.OutOfMemoryError: a text alone is too long for the GPU's memory.
        """
        count = len(token_ids)
        classes, width = self.shape
        probabilities = np.empty((count, classes), dtype=np.float32)
        pooled = np.empty((count, width), dtype=np.float32)
        lengths = np.array([len(row) for row in token_ids], dtype=np.int64)
        batches = list(token_budget_batches(lengths, self.tokens_per_batch, MAX_PADDING))
        rows = ([token_ids[i] for i in batch] for batch in batches)
        for batch, result in zip(batches, self._run_all(rows), strict=True):
            probabilities[batch], pooled[batch] = result
            if on_batch:
                on_batch(int(lengths[batch].sum()))
        return probabilities, pooled

    def _run_all(self, batches: Iterator[list[np.ndarray]]) -> Iterator[tuple]:
        if self.workers == 1:
            yield from map(self._run, batches)
            return
        cores = torch.get_num_threads()
        per_worker = cores // self.workers
        pool = ThreadPoolExecutor(self.workers, "predict", torch.set_num_threads, (per_worker,))
        try:
            yield from pool.map(self._run, batches)
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(cores)  # the workers' setting is in part one of the process

    def _run(self, rows: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """A batch, the longest text first; in parts if the budget is smaller by now."""
        longest = max(1, len(rows[0]))
        fitting = max(1, self.tokens_per_batch // longest)
        if len(rows) > fitting:
            parts = zip(*map(self._run, batched(rows, fitting)), strict=True)
            probabilities, pooled = map(np.concatenate, parts)
            return probabilities, pooled
        try:
            return self._forward(rows)
        except torch.OutOfMemoryError:
            if len(rows) == 1:
                raise
        self.tokens_per_batch = len(rows) * longest // 2
        log.warning("GPU memory is full: going on with %d tokens at a time", self.tokens_per_batch)
        return self._run(rows)

    @torch.inference_mode()
    def _forward(self, rows: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        inputs = pad(rows, self.pad_id, self.device)
        logits, pooled = classify(self.model, **inputs, pooling=self.pooling)
        if self.probe is not None:
            logits = self.probe(pooled)
        logits = logits.float().cpu()
        if not logits.isfinite().all():
            dtype = str(self.dtype).removeprefix("torch.")
            found = f"in {dtype} the model gives infinite or NaN logits"
            raise UserError(
                f"{found}: its weights are damaged, or learning_rate was too high"
                if self.dtype == torch.float32
                else f"precision: {found}; take float32"
            )
        return logits.softmax(-1).numpy(), pooled.cpu().numpy()


def suitable_tokens(device: torch.device) -> int:
    """Of a batch: what is fast on a device."""
    return CPU_TOKENS_PER_BATCH if device.type == "cpu" else GPU_TOKENS_PER_BATCH


def predict(
    encoder: Encoder,
    token_ids: Sequence[np.ndarray],
    *,
    dtype: torch.dtype,
    device: torch.device,
    tokens_per_batch: int | None = None,
    progress: str | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and pooled vectors of texts; see `Predictor`.

    Args:
        tokens_per_batch: at most, with padding; fewer where that suits the device.
        progress: title of a progress bar; None for no bar.
    """
    most = suitable_tokens(device)
    tokens = min(tokens_per_batch or most, most)
    predictor = Predictor(encoder, dtype=dtype, device=device, tokens_per_batch=tokens)
    # the longest texts come first: tokens tell the remaining time, texts would not
    total = sum(map(len, token_ids))
    hidden = progress is None
    with tqdm(total=total, desc=progress, unit="tok", unit_scale=True, disable=hidden) as bar:
        return predictor(token_ids, bar.update)


def cast(model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """The model itself if it has this dtype, else a copy with the encoder's weights cast.

    Buffers stay float32: rotary frequencies in bfloat16 would confuse far positions.
    """
    if all(parameter.dtype == dtype for parameter in model.base_model.parameters()):
        return model
    model = copy.deepcopy(model)
    for parameter in model.base_model.parameters():
        parameter.data = parameter.data.to(dtype)
    keep_head_float32(model)
    return model


def has_flash_attention(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether the package `flash_attn` or `kernels` (which asks the hub) is there, and the GPU is
    one that they know (Ampere and newer)."""
    return (
        device.type == "cuda"
        and dtype != torch.float32
        and any(map(find_spec, ("flash_attn", "kernels")))
        and torch.cuda.get_device_capability(device) >= (8, 0)
    )


def attend_fast(model: PreTrainedModel, dtype: torch.dtype, device: torch.device) -> None:
    """Flash attention, which skips padding and what is outside a local layer's window, in place.

    Where it is not to be had, transformers' default stays, which is PyTorch's SDPA.
    """
    if has_flash_attention(dtype, device):
        # whatever is wrong with a package that need not be there, SDPA gives the same
        with contextlib.suppress(Exception):
            model.set_attn_implementation("flash_attention_2")
