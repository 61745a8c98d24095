from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertConfig, BertForSequenceClassification

from lib.models.temperature import BOUNDS, calibrate, fit_temperature, with_temperature

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
