"""What only a GPU shows: half precision, going on elsewhere, memory. Skipped without one."""

import numpy as np
import pytest
import torch
from transformers import ModernBertConfig, ModernBertModel

from conftest import SPECIAL, tiny_tokenizer
from lib.models.classifier import classify
from lib.models.encoder import hardware, new_classifier
from lib.models.inference import attend_fast, pad, predict
from lib.training import trainer
from lib.training.losses import SupCon
from lib.training.trainer import Texts, fit
from test_inference import cosines, random_texts
from test_trainer import interrupt, plan, toy, train, weights

pytestmark = pytest.mark.gpu
HALF = {"precision": "auto", "device": "cuda", "tokens_per_batch": 64}


@pytest.mark.parametrize("supcon", [False, True])
def test_training_in_half_precision_learns_and_goes_on_exactly(
    tiny_checkpoint, tmp_path, monkeypatch, supcon
):
    options = {"supcon": supcon, "steps": 30, "evaluations": 3, **HALF}
    whole, history = train(tiny_checkpoint, tmp_path / "whole", **options)
    assert history["validation_macro_f1"].max() > 0.9
    interrupt(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train(tiny_checkpoint, tmp_path / "parts", **options)
    monkeypatch.undo()
    resumed, again = train(tiny_checkpoint, tmp_path / "parts", **options)
    # sums on a GPU are in no fixed order, so the last bits may differ
    torch.testing.assert_close(weights(resumed), weights(whole), rtol=0, atol=2e-3)
    assert again["step"].tolist() == history["step"].tolist()


def test_a_state_of_a_gpu_is_gone_on_with_on_a_cpu(tiny_checkpoint, tmp_path, monkeypatch):
    interrupt(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train(tiny_checkpoint, tmp_path, supcon=True, steps=30, device="cuda")
    monkeypatch.undo()
    encoder, history = train(tiny_checkpoint, tmp_path, supcon=True, steps=30)
    assert history["step"].tolist() == [10, 20, 30]
    assert history["validation_macro_f1"].max() > 0.9
    assert next(encoder.model.parameters()).device.type == "cpu"


@pytest.mark.parametrize("name", ["tiny_checkpoint", "tiny_bert"])
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_embeddings_equal_the_cpus(name, pooling, request):
    encoder = new_classifier(request.getfixturevalue(name), pooling=pooling, max_tokens=512, seed=0)
    token_ids = encoder.tokenize([*random_texts(30, 20), *random_texts(4, 400)])
    sure, exact = predict(encoder, token_ids, **hardware("float32", "cpu"))
    for precision, close in (("float32", 0.99999), ("auto", 0.998)):
        probabilities, found = predict(encoder, token_ids, **hardware(precision, "cuda"))
        assert cosines(found, exact).min() > close
        np.testing.assert_allclose(probabilities, sure, atol=5 * (1 - close) ** 0.5)
        encoder.model.cpu()


def test_padding_beyond_the_local_window_changes_nothing(tiny_checkpoint):
    """Forward and backward."""
    encoder = new_classifier(tiny_checkpoint, pooling="mean", max_tokens=512, seed=0)
    words = " ".join(random_texts(8, 400))
    token_ids = [encoder.tokenize([words])[0][:count] for count in (400, 330)]
    assert encoder.model.config.local_attention < len(token_ids[1]) < len(token_ids[0])
    exact, expected = vectors_and_gradients(encoder, token_ids, **hardware("float32", "cpu"))
    found, gradients = vectors_and_gradients(encoder, token_ids, **hardware("auto", "cuda"))
    assert cosines(found, exact).min() > 0.998
    assert cosines(gradients, expected).min() > 0.99


def vectors_and_gradients(encoder, token_ids, dtype, device):
    """Pooled vectors [2, d], and the gradients of all weights together [1, weights]."""
    model = encoder.model.to(device).eval()
    model.zero_grad()
    attend_fast(model, dtype, device)
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        logits, pooled = classify(model, **pad(token_ids, encoder.pad_id, device), pooling="mean")
    logits.float().logsumexp(-1).sum().backward()
    gradients = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    return pooled.detach().cpu().numpy(), gradients[None].float().cpu().numpy()


def test_memory_is_the_budgets_whatever_the_batch(tmp_path):
    """mmBERT-small's shape, SupCon, one text of 8,192 tokens: 512 texts need hardly more than 64,
    and all of them together less than the mebibyte per token of mmBERT-base."""
    tokenizer = tiny_tokenizer()
    tokenizer.model_max_length = 8192
    config = ModernBertConfig(
        vocab_size=len(tokenizer),
        hidden_size=384,
        num_attention_heads=6,
        pad_token_id=SPECIAL["[PAD]"],
        cls_token_id=SPECIAL["[CLS]"],
        bos_token_id=SPECIAL["[CLS]"],
        sep_token_id=SPECIAL["[SEP]"],
        eos_token_id=SPECIAL["[SEP]"],
    )
    ModernBertModel(config).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    peaks = []
    for size in (64, 512):
        encoder = new_classifier(tmp_path / "model", pooling="cls", max_tokens=8192, seed=0)
        frame = toy(size, 1)
        frame["text"] = frame["text"] + " " + frame["text"].str.repeat(20)
        frame.loc[0, "text"] = "ужасно " * 8192
        texts = Texts.build(encoder, frame)
        assert texts.lengths.max() == 8192
        validation = Texts.build(encoder, toy(3, 2))
        supcon = SupCon(384, temperature=0.1, hard_mining=False, memory_size=0)
        options = plan(steps=2, evaluations=1, precision="auto", device="cuda", learning_rate=1e-5)
        torch.cuda.reset_peak_memory_stats()
        folder = tmp_path / f"{size}"
        fit(encoder, texts, validation, Whole(size), options, folder, supcon, lambda_metric=0.5)
        peaks.append(torch.cuda.max_memory_allocated())
    assert peaks[1] < 1.25 * peaks[0]
    assert peaks[1] < trainer.TRAINING_TOKENS_PER_BATCH * 2**20


class Whole:
    """All texts in every batch."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __getitem__(self, step: int) -> np.ndarray:
        return np.arange(self.size)


def test_float16_trains_with_a_scaler(tiny_checkpoint, tmp_path, monkeypatch):
    """As on a T4."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    assert plan(**HALF).on["dtype"] == torch.float16
    _, history = train(tiny_checkpoint, tmp_path, supcon=True, steps=40, evaluations=4, **HALF)
    assert history["validation_macro_f1"].max() > 0.9
    assert list(tmp_path.rglob("scaler.pt"))
