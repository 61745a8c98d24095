"""A model on several cores: each works on texts of its own, forwards and backwards.

Layers of small matrices leave no time for cores to wait for each other, so on a CPU every core
gets a copy of the model that shares its weights but has gradients of its own. The loss needs the
whole batch at once (a contrastive loss has to), so the graph is cut at the pooled vectors: forwards
on all cores, the loss on all vectors, then backwards on all cores from the vectors' gradients.
Texts are dealt out by length and gradients added in a fixed order: the same run twice gives the
same weights. Dropout inside the encoder is off: cores would share its random numbers in no fixed
order. On a GPU, and with one core, there is one copy.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lib.inference import MAX_WORKERS, pad, token_budget_batches
from lib.model import PooledClassifier

CPU_CHUNK_TOKENS = 512  # padded tokens at a time: what stays in a core's cache


class Replicas:
    """Copies of a model that is being trained; use as a context manager.

    Args:
        model: its weights are those of all copies.
        pad_id: token id of padding.
        dtype: of matrix products, by autocast.
    """

    def __init__(
        self, model: PooledClassifier, pad_id: int, *, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.pad_id, self.dtype, self.device = pad_id, dtype, device
        self.cores = torch.get_num_threads()
        workers = min(self.cores, MAX_WORKERS) if device.type == "cpu" else 1
        self.model = model
        self.copies = [without_dropout(share_weights(model)) for _ in range(workers)]
        for replica in self.copies:  # a dense gradient of the whole table per chunk costs more
            replica.get_input_embeddings().sparse = True
        self.pool: ThreadPoolExecutor | None = None
        self.vectors: list[Tensor] = []

    def __enter__(self) -> Replicas:
        if len(self.copies) > 1:
            self.pool = ThreadPoolExecutor(len(self.copies), "train")
        return self

    def __exit__(self, *_: object) -> None:
        if self.pool:
            self.pool.shutdown(cancel_futures=True)
            torch.set_num_threads(self.cores)  # the workers' setting is in part one of the process

    def forward(self, token_ids: list[np.ndarray]) -> tuple[Tensor, np.ndarray]:
        """Pooled vectors of a batch's texts, a leaf that gathers their gradients.

        Returns:
            float32 [n, d], and the texts' positions in `token_ids`, int64 [n].
        """
        lengths = np.array([len(row) for row in token_ids], dtype=np.int64)
        order = np.argsort(-lengths, kind="stable")
        whole = int(lengths.max(initial=0)) * len(lengths)
        budget = CPU_CHUNK_TOKENS if self.device.type == "cpu" else whole
        parts = []
        for number in range(len(self.copies)):
            own = order[number :: len(self.copies)]
            parts.append([own[rows] for rows in token_budget_batches(lengths[own], budget)])
        self.vectors = list(self._map(lambda i: self._pooled(i, parts[i], token_ids), len(parts)))
        rows = np.concatenate([order[:0], *(chunk for part in parts for chunk in part)])
        return torch.cat([v.detach() for v in self.vectors]).requires_grad_(), rows

    def backward(self, gradient: Tensor) -> None:
        """From the gradient of `forward`'s vectors to the gradients of the model's weights."""
        gradients = gradient.split([len(vectors) for vectors in self.vectors])
        for _ in self._map(lambda i: self._back(i, gradients[i]), len(self.vectors)):
            pass
        self.vectors = []
        for replica in self.copies:
            for mine, theirs in zip(self.model.parameters(), replica.parameters(), strict=True):
                if theirs.grad is None:
                    continue
                if mine.grad is None:
                    mine.grad = theirs.grad.to_dense()
                else:
                    mine.grad += theirs.grad
                theirs.grad = None

    def _pooled(self, number: int, chunks: list[np.ndarray], token_ids: list[np.ndarray]) -> Tensor:
        model = self.copies[number].train()
        found = [torch.zeros((0, model.encoder.config.hidden_size), device=self.device)]
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            for chunk in chunks:
                rows = [token_ids[i] for i in chunk]
                found.append(model.embed(**pad(rows, self.pad_id, self.device)).float())
        return torch.cat(found)

    def _back(self, number: int, gradient: Tensor) -> None:
        if self.vectors[number].requires_grad:
            self.vectors[number].backward(gradient)

    def _map(self, job: Callable[[int], Any], count: int) -> Iterator:
        if not self.pool:
            return map(job, range(count))

        def on_own_cores(number: int) -> Any:
            # each time, since whoever sets it elsewhere sets it in part for all threads
            torch.set_num_threads(self.cores // len(self.copies))
            return job(number)

        return self.pool.map(on_own_cores, range(count))


def without_dropout(model: PooledClassifier) -> PooledClassifier:
    """The model itself, its encoder without dropout also while it is trained."""
    for module in model.encoder.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):  # ModernBERT
            module.attention_dropout = 0.0
    return model


def share_weights(model: nn.Module) -> nn.Module:
    """A copy whose parameters and buffers have the same memory, but gradients of their own."""
    shared = {id(p): nn.Parameter(p.data, p.requires_grad) for p in model.parameters()}
    return copy.deepcopy(model, shared | {id(b): b for b in model.buffers()})
