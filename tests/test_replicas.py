from __future__ import annotations

import numpy as np
import pytest
import torch

from conftest import SENTENCES
from lib.encoder import Encoder, new_classifier
from lib.replicas import Replicas, share_weights

CPU = {"dtype": torch.float32, "device": torch.device("cpu")}


@pytest.fixture
def encoder(tiny_checkpoint) -> Encoder:
    return new_classifier(tiny_checkpoint, pooling="mean", max_tokens=64, seed=0)


@pytest.fixture
def two_threads():
    """As on a machine with two cores."""
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def gradients_of(encoder: Encoder, token_ids: list, repeats: int = 1) -> tuple[list, list]:
    """Pooled vectors in the order of the texts, and the gradients of a loss on them."""
    encoder.model.zero_grad()
    with Replicas(encoder.model, encoder.pad_id, **CPU) as replicas:
        for _ in range(repeats):
            pooled, rows = replicas.forward(token_ids)
            weights = torch.arange(len(rows), dtype=torch.float32)[rows] + 1
            (weights[:, None] * pooled.sin()).sum().backward()
            replicas.backward(pooled.grad)
    found = torch.empty_like(pooled)
    found[rows] = pooled.detach()
    return found, [p.grad for p in encoder.model.encoder.parameters()]


def one_by_one(encoder: Encoder, token_ids: list) -> tuple[torch.Tensor, list]:
    encoder.model.zero_grad()
    encoder.model.eval()
    vectors = []
    for row in token_ids:
        ids = torch.from_numpy(row.astype(np.int64))[None]
        vectors.append(encoder.model(ids).pooled[0])
    pooled = torch.stack(vectors)
    weights = torch.arange(len(vectors), dtype=torch.float32) + 1
    (weights[:, None] * pooled.sin()).sum().backward()
    return pooled.detach(), [p.grad.clone() for p in encoder.model.encoder.parameters()]


@pytest.mark.parametrize("count", [1, 2, 7, 40])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_vectors_and_gradients_are_those_of_one_text_at_a_time(encoder, count, threads):
    texts = (SENTENCES * 6)[:count]
    token_ids = encoder.tokenize([f"{text} {'и ' * i}" for i, text in enumerate(texts)])
    expected, expected_gradients = one_by_one(encoder, token_ids)
    torch.set_num_threads(threads)
    pooled, gradients = gradients_of(encoder, token_ids)
    assert torch.get_num_threads() == threads
    torch.set_num_threads(1)
    torch.testing.assert_close(pooled, expected, rtol=1e-4, atol=1e-5)
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-3, atol=1e-4)


def test_the_same_twice_and_added_over_calls(encoder, two_threads):
    token_ids = encoder.tokenize(SENTENCES)
    _, once = gradients_of(encoder, token_ids)
    once = [g.clone() for g in once]
    _, again = gradients_of(encoder, token_ids)
    assert all((a == b).all() for a, b in zip(once, again, strict=True))
    _, twice = gradients_of(encoder, token_ids, repeats=2)
    for gradient, single in zip(twice, once, strict=True):
        torch.testing.assert_close(gradient, 2 * single, rtol=1e-4, atol=1e-5)


def test_word_embeddings_get_a_dense_gradient_in_the_rows_of_the_texts(encoder, two_threads):
    token_ids = encoder.tokenize(SENTENCES)
    gradients_of(encoder, token_ids, repeats=2)
    table = encoder.model.get_input_embeddings()
    assert not table.sparse and table.weight.grad.layout == torch.strided
    used = sorted({int(i) for row in token_ids for i in row})
    assert table.weight.grad.abs().sum(1).nonzero().flatten().tolist() == used


def test_frozen_weights_get_no_gradient(encoder, two_threads):
    table = encoder.model.get_input_embeddings()
    table.requires_grad_(False)
    gradients_of(encoder, encoder.tokenize(SENTENCES))
    assert table.weight.grad is None


def test_no_texts(encoder, two_threads):
    with Replicas(encoder.model, encoder.pad_id, **CPU) as replicas:
        pooled, rows = replicas.forward([])
        assert pooled.shape == (0, 32) and len(rows) == 0
        pooled.sum().backward()
        replicas.backward(pooled.grad)


def test_copies_share_memory_but_not_gradients(encoder):
    other = share_weights(encoder.model)
    with torch.no_grad():
        for parameter in encoder.model.parameters():
            parameter.add_(1.0)
    pairs = list(zip(encoder.model.parameters(), other.parameters(), strict=True))
    assert all((a == b).all() and a is not b for a, b in pairs)
    other(torch.tensor([[2, 7, 3]])).pooled.sum().backward()
    assert all(p.grad is None for p in encoder.model.parameters())
