"""From token ids to probabilities and pooled vectors, in batches of similar length.

Texts are sorted by length and cut into batches of a fixed number of padded tokens: short texts
travel in large batches, and little is spent on padding.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from lib.encoder import Encoder


def pad(token_ids: list[np.ndarray], pad_id: int, device: torch.device) -> dict[str, Tensor]:
    """input_ids and attention_mask, int64 [n, longest], padded on the right."""
    longest = max(len(row) for row in token_ids)
    ids = np.full((len(token_ids), longest), pad_id, dtype=np.int64)
    mask = np.zeros_like(ids)
    for i, row in enumerate(token_ids):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return {
        "input_ids": torch.from_numpy(ids).to(device),
        "attention_mask": torch.from_numpy(mask).to(device),
    }


def token_budget_batches(lengths: np.ndarray, tokens_per_batch: int) -> Iterator[np.ndarray]:
    """Indices of texts, longest first, each batch with at most `tokens_per_batch` padded tokens.

    Every index comes exactly once; a text longer than the budget gets a batch of its own.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        count = max(1, tokens_per_batch // max(1, int(lengths[order[start]])))
        yield order[start : start + count]
        start += count


@torch.inference_mode()
def predict(
    encoder: Encoder,
    token_ids: list[np.ndarray],
    *,
    dtype: torch.dtype,
    device: torch.device,
    tokens_per_batch: int = 8192,
    progress: str | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and pooled vectors of texts, in one pass.

    Args:
        token_ids: as `Encoder.tokenize` gives them, in any order.
        dtype: of the matrix products (see `lib.encoder.compute_dtype`).
        progress: title of a progress bar; None for no bar.
    Returns:
        probabilities float32 [n, classes], pooled float32 [n, d], in the order of `token_ids`.
    """
    model = encoder.model.to(device).eval()
    count = len(token_ids)
    probabilities = np.empty((count, model.config.num_labels), dtype=np.float32)
    pooled = np.empty((count, model.encoder.config.hidden_size), dtype=np.float32)
    lengths = np.array([len(row) for row in token_ids])
    bar = tqdm(total=count, desc=progress, unit="text", disable=progress is None)
    for batch in token_budget_batches(lengths, tokens_per_batch):
        inputs = pad([token_ids[i] for i in batch], encoder.pad_id, device)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            output = model(**inputs)
        probabilities[batch] = output.logits.float().softmax(-1).cpu().numpy()
        pooled[batch] = output.pooled.float().cpu().numpy()
        bar.update(len(batch))
    bar.close()
    return probabilities, pooled
