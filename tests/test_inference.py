from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from conftest import SENTENCES
from lib.encoder import new_classifier
from lib.inference import pad, predict, token_budget_batches

ON = {"dtype": torch.float32, "device": torch.device("cpu")}


@given(
    hnp.arrays(np.int64, st.integers(0, 80), elements=st.integers(1, 300)), st.integers(64, 2000)
)
def test_batches_cover_every_text_once_within_the_budget(lengths, budget):
    batches = list(token_budget_batches(lengths, budget))
    indices = np.concatenate(batches) if batches else np.array([], dtype=int)
    assert sorted(indices.tolist()) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) * lengths[batch].max() <= budget or len(batch) == 1
    assert (np.diff(lengths[indices]) <= 0).all()  # longest first: memory runs out at once


@given(st.integers(1, 40), st.integers(1, 64))
def test_batches_of_equal_lengths_are_full(count, length):
    sizes = [len(batch) for batch in token_budget_batches(np.full(count, length), 128)]
    assert all(size == 128 // length for size in sizes[:-1])


def test_pad_by_hand():
    rows = [np.array([2, 7, 3], dtype=np.int32), np.array([2, 3], dtype=np.int32)]
    inputs = pad(rows, 9, torch.device("cpu"))
    assert inputs["input_ids"].tolist() == [[2, 7, 3], [2, 3, 9]]
    assert inputs["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_batched_equals_one_at_a_time(tiny_checkpoint, pooling):
    encoder = new_classifier(tiny_checkpoint, pooling=pooling, max_tokens=200, seed=0)
    rng = np.random.default_rng(0)
    words = " ".join(SENTENCES).split()
    texts = [" ".join(rng.choice(words, size)) for size in rng.integers(1, 60, 24)]
    token_ids = encoder.tokenize(texts)
    assert len({len(row) for row in token_ids}) > 10  # padding and local attention both matter
    probabilities, pooled = predict(encoder, token_ids, tokens_per_batch=700, **ON)
    for i, row in enumerate(token_ids):
        alone, vector = predict(encoder, [row], **ON)
        np.testing.assert_allclose(probabilities[i], alone[0], atol=1e-5)
        np.testing.assert_allclose(pooled[i], vector[0], atol=1e-5)
    order = rng.permutation(len(texts))
    shuffled, _ = predict(encoder, [token_ids[i] for i in order], tokens_per_batch=300, **ON)
    np.testing.assert_allclose(shuffled, probabilities[order], atol=1e-5)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_pooled_vector_and_probabilities_by_hand(tiny_checkpoint, pooling):
    encoder = new_classifier(tiny_checkpoint, pooling=pooling, max_tokens=64, seed=0)
    token_ids = encoder.tokenize(SENTENCES)
    probabilities, pooled = predict(encoder, token_ids, **ON)
    weight = encoder.model.classifier.weight.detach().numpy()
    for i, row in enumerate(token_ids):
        with torch.no_grad():
            hidden = encoder.model.encoder(torch.from_numpy(row[None].astype(np.int64)))
        states = hidden.last_hidden_state[0].numpy()
        expected = states[0] if pooling == "cls" else states.mean(0)
        np.testing.assert_allclose(pooled[i], expected, atol=1e-5)
        logits = weight @ expected  # a fresh layer's bias is zero
        np.testing.assert_allclose(
            probabilities[i], np.exp(logits) / np.exp(logits).sum(), atol=1e-5
        )


def test_no_texts_give_empty_arrays(tiny_checkpoint):
    encoder = new_classifier(tiny_checkpoint, pooling="mean", max_tokens=64, seed=0)
    probabilities, pooled = predict(encoder, encoder.tokenize([]), **ON)
    assert probabilities.shape == (0, 3) and pooled.shape == (0, 32)


def test_predicting_turns_dropout_off(tiny_checkpoint):
    encoder = new_classifier(tiny_checkpoint, pooling="mean", max_tokens=64, seed=0, dropout=0.9)
    encoder.model.train()
    token_ids = encoder.tokenize(SENTENCES)
    first, second = (predict(encoder, token_ids, **ON)[0] for _ in range(2))
    assert (first == second).all()
