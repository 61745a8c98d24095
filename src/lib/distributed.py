"""Several processes on one job, on one or more machines, by Accelerate and torch.distributed.

    accelerate launch --cpu --num_processes 2 -m lib step 03_embed_corpus params/demo.yaml

Embedding: each process takes every n-th shard. Training: each takes every n-th text of a batch;
outputs are added up before the loss, which so sees the whole batch (a contrastive loss has to), and
gradients are averaged: the result is that of one process but for rounding and dropout. All
processes read and write the same folder. Not launched like this, there is one process, and nothing
here does anything.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

import torch
from accelerate import PartialState
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

Item = TypeVar("Item")


def index() -> int:
    """Number of this process, from 0."""
    return PartialState().process_index


def count() -> int:
    """Number of processes."""
    return PartialState().num_processes


def is_main() -> bool:
    """Whether this is the process that writes what all share."""
    return index() == 0


def wait_for_all() -> None:
    """Return when all processes have come here."""
    PartialState().wait_for_everyone()


@contextlib.contextmanager
def main_first() -> Iterator[None]:
    """The main process runs the block, then the others; all leave it together."""
    with PartialState().main_process_first():
        yield
    wait_for_all()


def own_share(items: Iterable[Item]) -> Iterator[Item]:
    """Every n-th item, beginning with this process's number: each item belongs to one process."""
    return islice(items, index(), None, count())


def add_up(values: Tensor) -> Tensor:
    """The sum over processes, on each of them; gradients are added up on the way back."""
    return values if count() == 1 else all_reduce(values)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace gradients by their mean over processes; a missing one counts as zero."""
    if count() == 1:
        return
    parameters = list(parameters)
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    together = torch.cat([gradient.flatten() for gradient in gradients])
    torch.distributed.all_reduce(together)
    parts = (together / count()).split([p.numel() for p in parameters])
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.grad = part.view_as(parameter)
