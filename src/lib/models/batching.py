"""Batches of texts of like length, in numpy alone: what predicts without torch starts at once."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

import numpy as np

Item = TypeVar("Item")
MAX_PADDING = 0.05  # share of a batch's tokens
CPU_TOKENS_PER_BATCH = 512  # what stays in a core's cache; 2048 is 5% slower
TRAINING_TOKENS_PER_BATCH = 16_384  # about 11 GiB of mmBERT-base's activations in bfloat16
PASSES = 2  # of 05 over all training texts, where its number of steps is not given


class Tokens(Sequence[np.ndarray]):
    """Token ids of n texts as one flat array: 4 bytes a token.

    ids: int32 [tokens]; offsets: int64 [n + 1], where each text begins, and the end; lengths:
    tokens per text, int64 [n].
    """

    def __init__(self, ids: np.ndarray, offsets: np.ndarray) -> None:
        self.ids, self.offsets, self.lengths = ids, offsets, np.diff(offsets)

    @classmethod
    def join(cls, texts: Iterable[Iterable[int]]) -> Tokens:
        """From the ids of each text; no copy of all of them is made."""
        ids, offsets = array("i"), array("q", [0])
        for text in texts:
            ids.extend(text)
            offsets.append(len(ids))
        return cls(np.asarray(ids), np.asarray(offsets))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: Any) -> Any:
        """The ids of a text, int32 [tokens]; of a slice a list of them."""
        rows = range(len(self))[row]
        if isinstance(rows, range):
            return [self[one] for one in rows]
        return self.ids[self.offsets[rows] : self.offsets[rows + 1]]


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of at most `size` items, in order."""
    waiting = iter(items)
    while piece := list(islice(waiting, size)):
        yield piece


def pad(
    token_ids: Sequence[Sequence[int]] | Sequence[np.ndarray], pad_id: int
) -> dict[str, np.ndarray]:
    """input_ids and attention_mask, int64 [n, longest], padded on the right."""
    lengths = np.array([len(row) for row in token_ids])
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids = np.full(mask.shape, pad_id, dtype=np.int64)
    ids[mask] = np.concatenate(token_ids)
    return {"input_ids": ids, "attention_mask": mask.astype(np.int64)}


def token_budget_batches(
    lengths: np.ndarray, tokens_per_batch: int, max_padding: float = 1.0
) -> Iterator[np.ndarray]:
    """Indices of texts, longest first, each batch with at most `tokens_per_batch` padded tokens.

    Every index comes exactly once; a text longer than the budget gets a batch of its own.

    Args:
        lengths: tokens per text, int [n].
        max_padding: a batch ends before its share of padding is larger than this.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        longest = max(1, int(lengths[order[start]]))
        batch = order[start : start + max(1, tokens_per_batch // longest)]
        # texts only get shorter, so the share of padding only grows
        filled = np.cumsum(lengths[batch]) / (longest * np.arange(1, len(batch) + 1))
        batch = batch[: max(1, np.count_nonzero(filled >= 1 - max_padding))]
        yield batch
        start += len(batch)
