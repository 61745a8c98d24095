from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from conftest import SENTENCES
from lib.errors import UserError
from lib.models import embedded, inference
from lib.models.encoder import Encoder, new_classifier
from lib.models.inference import Predictor, cast, pad, predict, token_budget_batches

ON = {"dtype": torch.float32, "device": torch.device("cpu")}


def fresh(checkpoint: str | Path, pooling: str = "mean", max_tokens: int = 1024) -> Encoder:
    return new_classifier(checkpoint, pooling=pooling, max_tokens=max_tokens, seed=0)


def random_texts(count: int, longest: int) -> list[str]:
    rng = np.random.default_rng(0)
    words = " ".join(SENTENCES).split()
    return [" ".join(rng.choice(words, size)) for size in rng.integers(1, longest, count)]


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)


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


@given(
    hnp.arrays(np.int64, st.integers(1, 80), elements=st.integers(1, 300)),
    st.integers(64, 2000),
    st.sampled_from([0.0, 0.05, 0.2]),
)
def test_padding_stays_within_its_limit(lengths, budget, limit):
    batches = list(token_budget_batches(lengths, budget, limit))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    for batch in batches:
        assert 1 - lengths[batch].mean() / lengths[batch].max() <= limit + 1e-9
    for batch, following in itertools.pairwise(batches):  # none ends too early
        more = lengths[[*batch, following[0]]]
        over_budget = len(more) * more.max() > budget
        assert over_budget or 1 - more.mean() / more.max() > limit - 1e-9


def test_pad_by_hand():
    rows = [np.array([2, 7, 3], dtype=np.int32), np.array([2, 3], dtype=np.int32)]
    inputs = pad(rows, 9, torch.device("cpu"))
    assert inputs["input_ids"].tolist() == [[2, 7, 3], [2, 3, 9]]
    assert inputs["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_every_text_gets_what_it_gets_alone(tiny_checkpoint, pooling):
    """Pooled vector and probabilities by hand, whatever the batches and the order."""
    encoder = fresh(tiny_checkpoint, pooling)
    token_ids = encoder.tokenize([*random_texts(24, 60), *SENTENCES])
    assert len({len(row) for row in token_ids}) > 10  # padding and local attention both matter
    order = np.random.default_rng(1).permutation(len(token_ids))
    shuffled = [token_ids[i] for i in order]
    for texts, budget in ((token_ids, 700), (shuffled, 300)):
        probabilities, pooled = predict(encoder, texts, tokens_per_batch=budget, **ON)
        for i, row in enumerate(texts):
            ids = torch.from_numpy(row[None].astype(np.int64))
            with torch.no_grad():
                states = encoder.model.base_model(ids).last_hidden_state[0].numpy()
                expected = encoder.model(ids).logits.softmax(-1)[0].numpy()
            np.testing.assert_allclose(probabilities[i], expected, atol=1e-5)
            expected = states[0] if pooling == "cls" else states.mean(0)
            np.testing.assert_allclose(pooled[i], expected, atol=1e-5)


def test_no_texts_give_empty_arrays(tiny_checkpoint):
    encoder = fresh(tiny_checkpoint)
    probabilities, pooled = predict(encoder, encoder.tokenize([]), **ON)
    assert probabilities.shape == (0, 3) and pooled.shape == (0, 32)


def test_predicting_turns_dropout_off(tiny_checkpoint):
    encoder = fresh(tiny_checkpoint)
    encoder.model.drop.p = 0.9
    encoder.model.train()
    token_ids = encoder.tokenize(SENTENCES)
    first, second = (predict(encoder, token_ids, **ON)[0] for _ in range(2))
    assert (first == second).all()


def test_progress_counts_tokens(tiny_checkpoint):
    encoder = fresh(tiny_checkpoint)
    token_ids = encoder.tokenize(random_texts(300, 40))
    seen: list[int] = []
    Predictor(encoder, **ON)(token_ids, seen.append)
    assert sum(seen) == sum(map(len, token_ids))


def test_several_cores_give_the_same_bytes_and_keep_the_setting(tiny_checkpoint):
    encoder = fresh(tiny_checkpoint)
    token_ids = encoder.tokenize(random_texts(60, 40))
    expected = predict(encoder, token_ids, **ON)
    torch.set_num_threads(3)
    predictor = Predictor(encoder, **ON)
    assert predictor.workers == 3
    for one, other in zip(predictor(token_ids), expected, strict=True):
        assert (one == other).all()
    assert torch.get_num_threads() == 3


def test_an_error_in_a_worker_is_raised(tiny_checkpoint):
    encoder = fresh(tiny_checkpoint)
    token_ids = [*encoder.tokenize(random_texts(60, 40))]
    token_ids[7] = np.array([10**6], dtype=np.int32)  # no such token
    torch.set_num_threads(2)
    with pytest.raises(IndexError):
        predict(encoder, token_ids, **ON)
    assert torch.get_num_threads() == 2


def test_full_memory_makes_batches_smaller(tiny_checkpoint, caplog):
    encoder = fresh(tiny_checkpoint)
    token_ids = encoder.tokenize(random_texts(60, 40))
    expected = predict(encoder, token_ids, **ON)
    fitting = int(token_ids.lengths.max())

    def full(_, __, given):
        if given["input_ids"].numel() > fitting:
            raise torch.OutOfMemoryError

    encoder.model.register_forward_pre_hook(full, with_kwargs=True)
    predictor = Predictor(encoder, **ON)
    for one, other in zip(predictor(token_ids), expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    said = len(caplog.messages)
    assert predictor.tokens_per_batch <= 2 * fitting and 1 <= said <= 4
    predictor(token_ids)
    assert len(caplog.messages) == said  # it is known by now
    fitting -= 1
    with pytest.raises(torch.OutOfMemoryError):
        predictor(token_ids)


def test_flash_attention_needs_half_precision_a_package_and_an_ampere_gpu(monkeypatch):
    for package, capability, dtype, expected in (
        ("flash_attn", (8, 0), torch.bfloat16, True),
        ("kernels", (9, 0), torch.float16, True),
        ("flash_attn", (7, 5), torch.float16, False),  # a T4
        ("flash_attn", (9, 0), torch.float32, False),
        ("none", (9, 0), torch.bfloat16, False),
    ):
        monkeypatch.setattr(inference, "find_spec", lambda name, found=package: name == found)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, c=capability: c)
        assert inference.has_flash_attention(dtype, torch.device("cuda")) is expected
    assert not inference.has_flash_attention(torch.bfloat16, torch.device("cpu"))


def test_logits_that_are_no_numbers_are_refused(tiny_checkpoint):
    encoder = fresh(tiny_checkpoint)
    token_ids = encoder.tokenize(SENTENCES)
    encoder.model.model.layers[0].mlp.Wo.weight.data.mul_(1e6)  # more than float16 can hold
    assert np.isfinite(predict(encoder, token_ids, **ON)[0]).all()
    with pytest.raises(UserError, match=r"precision: in float16 .* take float32"):
        predict(encoder, token_ids, **(ON | {"dtype": torch.float16}))
    encoder.last_layer.bias.data[0] = torch.nan
    with pytest.raises(UserError, match=r"in float32 .* learning_rate"):
        predict(encoder, token_ids, **ON)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_bfloat16_is_close_to_float32_also_at_far_positions(tiny_checkpoint, pooling):
    encoder = fresh(tiny_checkpoint, pooling)
    token_ids = encoder.tokenize([*random_texts(30, 20), *random_texts(4, 400)])
    before = {name: value.clone() for name, value in encoder.model.state_dict().items()}
    _, exact = predict(encoder, token_ids, **ON)
    _, found = predict(encoder, token_ids, **(ON | {"dtype": torch.bfloat16}))
    assert found.dtype == np.float32 and not (found == exact).all()
    assert cosines(found, exact).min() > 0.999
    after = encoder.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_casting_leaves_buffers_and_the_head(tiny_checkpoint):
    encoder = fresh(tiny_checkpoint)
    assert cast(encoder.model, torch.float32) is encoder.model
    half = cast(encoder.model, torch.bfloat16)
    assert {p.dtype for p in half.base_model.parameters()} == {torch.bfloat16}
    assert {b.dtype for b in half.base_model.buffers() if b.is_floating_point()} == {torch.float32}
    assert half.classifier.weight.dtype == torch.float32


@pytest.mark.slow
def test_the_embedded_model_equals_one_text_at_a_time(embedded_cache):
    encoder = fresh(embedded.checkpoint(embedded_cache), max_tokens=256)
    texts = [*SENTENCES, " ".join(SENTENCES), "да", "", "Очень " * 60]
    token_ids = encoder.tokenize(texts)
    probabilities, pooled = predict(encoder, token_ids, **ON)
    for i, text in enumerate(texts):
        inputs = encoder.tokenizer(text, return_tensors="pt", truncation=True, max_length=256)
        with torch.no_grad():
            output = encoder.model(**inputs, output_hidden_states=True)
        states = output.hidden_states[-1][0].numpy()
        np.testing.assert_allclose(pooled[i], states.mean(0), atol=1e-5)
        expected = output.logits.softmax(-1)[0].numpy()
        np.testing.assert_allclose(probabilities[i], expected, atol=1e-5)
    _, half = predict(encoder, token_ids, **(ON | {"dtype": torch.bfloat16}))
    assert cosines(half, pooled).min() > 0.999
