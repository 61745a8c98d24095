from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from lib.metrics import macro_f1
from lib.models.temperature import (
    BIASES,
    BOUNDS,
    calibrate,
    decide,
    decision_bias,
    fit_temperature,
    with_temperature,
)

SMALL = {
    "vocab_size": 30,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
}


def classifier(sharpness: float) -> BertForSequenceClassification:
    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(**SMALL, num_labels=3)).eval()
    with torch.no_grad():
        model.classifier.weight.mul_(20 * sharpness)
        model.classifier.bias.copy_(torch.tensor([0.1, 0.4, -0.2]) * sharpness)
    return model


def predict(model: BertForSequenceClassification, texts: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return model(texts).logits.softmax(-1).numpy()


def drawn(probabilities: np.ndarray, seed: int = 0) -> np.ndarray:
    """Labels for which these probabilities are calibrated."""
    uniform = np.random.default_rng(seed).random((len(probabilities), 1))
    return (probabilities.cumsum(1) < uniform).sum(1).clip(max=2)


@pytest.mark.parametrize("sharpness", [0.7, 3.0])
def test_a_model_becomes_as_sure_as_it_is_right(sharpness):
    texts = torch.randint(0, 30, (4000, 6), generator=torch.manual_seed(1))
    honest = predict(classifier(1.0), texts)
    labels = drawn(honest)
    model = classifier(sharpness)
    before = predict(model, texts)
    temperature = calibrate(model.classifier, before, labels)
    after = predict(model, texts)
    assert temperature == pytest.approx(sharpness, rel=0.1)
    assert (after.argmax(1) == before.argmax(1)).all()
    assert after.max(1).mean() == pytest.approx((after.argmax(1) == labels).mean(), abs=0.02)
    np.testing.assert_allclose(after, with_temperature(before, temperature), atol=1e-5)
    assert fit_temperature(after, labels) == pytest.approx(1.0, abs=0.01)


@settings(max_examples=20)
@given(st.integers(1, 6), st.integers(0, 100))
def test_few_texts_cannot_ruin_a_model(count, seed):
    """Whatever the labels: the temperature stays within its bounds, the weights are numbers."""
    rng = np.random.default_rng(seed)
    model = classifier(1.0)
    labels = rng.integers(0, 3, count)
    probabilities = rng.dirichlet(np.ones(3) * 0.2, count).astype(np.float32)
    assert BOUNDS[0] <= calibrate(model.classifier, probabilities, labels) <= BOUNDS[1]
    assert torch.isfinite(model.classifier.weight).all()


def test_nothing_but_the_last_layer_changes():
    model = classifier(1.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    calibrate(model.classifier, np.array([[0.9, 0.05, 0.05]] * 4), np.array([0, 1, 2, 1]))
    changed = {name for name, value in model.state_dict().items() if (value != before[name]).any()}
    assert changed == {"classifier.weight", "classifier.bias"}


def test_the_decision_bias_helps_the_rare_class_and_is_put_into_the_layer():
    rng = np.random.default_rng(0)
    labels = rng.choice(3, 3000, p=[0.1, 0.7, 0.2])
    # calibrated probabilities: argmax hardly ever names the rare class
    logits = np.log([0.1, 0.7, 0.2]) + rng.normal(0, 1.0, (3000, 3)) + 1.2 * np.eye(3)[labels]
    probabilities = softmax(logits, axis=1)
    layer = nn.Linear(2, 3)
    before = layer.bias.detach().clone()
    added = decide(layer, probabilities, labels)
    assert added[0] > 0.3 and added[1] == 0.0
    assert torch.allclose(layer.bias.detach() - before, torch.tensor(added), atol=1e-6)
    plain, mended = probabilities.argmax(1), (np.log(probabilities) + added).argmax(1)
    assert macro_f1(labels, mended) > macro_f1(labels, plain) + 0.01
    logits, grid = np.log(probabilities), [np.array([a, 0, b]) for a in BIASES for b in BIASES]
    assert (
        macro_f1(labels, mended)
        > max(macro_f1(labels, (logits + bias).argmax(1)) for bias in grid) - 0.01
    )


def test_no_decision_bias_without_need():
    labels = np.arange(3).repeat(50)
    assert decision_bias(np.eye(3)[labels] * 0.97 + 0.01, labels).tolist() == [0.0, 0.0, 0.0]
