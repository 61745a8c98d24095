"""Training by the Trainer: the best checkpoint, two rates, and going on as if nothing had been."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from lib.files import lengths
from lib.models import inference
from lib.models.encoder import load_classifier, new_classifier
from lib.models.inference import predict
from lib.training import base, trainer
from lib.training.batches import LengthBatches
from lib.training.losses import SupCon
from lib.training.trainer import LossModel, Plan, Texts, fit

CPU = {"dtype": torch.float32, "device": torch.device("cpu")}
WORDS = (
    ["ужасно", "плохо", "кошмар", "отвратительный", "сломалось"],
    ["обычный", "магазин", "адрес", "работу", "сайте"],
    ["прекрасно", "отличный", "спасибо", "доволен", "смеялись"],
)


def toy(count: int, seed: int) -> pd.DataFrame:
    """Texts whose words give their class away."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % 3)
    texts = [" ".join(rng.choice(WORDS[label], rng.integers(2, 5))) for label in labels]
    return pd.DataFrame({"text": texts, "label": labels})


def plan(**changes) -> Plan:
    options = {"steps": 12, "evaluations": 3, "learning_rate": 2e-3, "head_learning_rate": 1e-2}
    options |= {"freeze_word_embeddings": False, "seed": 0, "precision": "float32", "device": "cpu"}
    return Plan(**(options | changes))


def train(checkpoint, folder, *, supcon=False, lambda_metric=0.5, dropout=0.1, **changes):
    """Train a tiny ModernBERT; the encoder and its history."""
    encoder = new_classifier(checkpoint, pooling="mean", max_tokens=32, seed=0)
    for module in encoder.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = dropout
    texts, validation = (Texts.build(encoder, toy(60, seed)) for seed in (1, 2))
    batches = LengthBatches(texts.lengths, 12, seed=0)
    options = {}
    if supcon:
        torch.manual_seed(0)
        supcon = SupCon(encoder.hidden_size, temperature=0.1, hard_mining=False, memory_size=24)
        options = {"supcon": supcon, "lambda_metric": lambda_metric}
    history = fit(encoder, texts, validation, batches, plan(**changes), folder, **options)
    return encoder, history


def weights(encoder) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in encoder.model.parameters()])


def test_it_learns_and_keeps_the_best_checkpoint(tiny_checkpoint, tmp_path):
    encoder, history = train(tiny_checkpoint, tmp_path, steps=30, evaluations=6)
    assert history["step"].tolist() == [5, 10, 15, 20, 25, 30]
    best = history[history["best"]].iloc[0]
    assert best["validation_macro_f1"] == history["validation_macro_f1"].max() > 0.9
    frame = toy(60, 2)
    found, _ = predict(encoder, encoder.tokenize(frame["text"].tolist()), **CPU)
    loss = -np.log(found[np.arange(60), frame["label"]]).mean()
    assert loss == pytest.approx(best["validation_loss"], rel=1e-4)
    assert (history["train_class_loss"] > 0).all() and history["train_class_loss"].iloc[-1] < 0.5


def interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second evaluation ends the run."""
    calls, evaluate = [], trainer.evaluate

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return evaluate(*arguments)

    monkeypatch.setattr(trainer, "evaluate", interrupted)


@pytest.mark.parametrize("supcon", [False, True])
def test_an_interrupted_run_ends_with_the_same_weights(
    tiny_checkpoint, tmp_path, monkeypatch, capsys, supcon
):
    """Dropout, the projection and the memory included, wherever its folder is by then."""
    whole, history = train(tiny_checkpoint, tmp_path / "whole", supcon=supcon)
    interrupt(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train(tiny_checkpoint, tmp_path / "parts", supcon=supcon)
    (tmp_path / "parts").rename(tmp_path / "moved")
    resumed, again = train(tiny_checkpoint, tmp_path / "moved", supcon=supcon)
    assert "going on from step 4 of 12" in capsys.readouterr().out
    assert torch.equal(weights(resumed), weights(whole))
    pd.testing.assert_frame_equal(again, history)
    (tmp_path / "moved").rename(tmp_path / "done")
    finished, again = train(tiny_checkpoint, tmp_path / "done", supcon=supcon)
    assert torch.equal(weights(finished), weights(whole))
    pd.testing.assert_frame_equal(again, history)


@pytest.mark.parametrize("file", ["optimizer.pt", "trainer_state.json", trainer.WHOLE])
def test_half_a_checkpoint_is_left_out(tiny_checkpoint, tmp_path, monkeypatch, capsys, file):
    """As a kill leaves it while it is written; the one before it is still there."""
    whole, history = train(tiny_checkpoint, tmp_path / "whole")
    assert history["validation_macro_f1"].is_monotonic_increasing  # so each was the best
    write = trainer.write_json

    def killed(path, value):
        if path.parent.name == "checkpoint-8":
            raise KeyboardInterrupt
        write(path, value)

    monkeypatch.setattr(trainer, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        train(tiny_checkpoint, tmp_path / "parts")
    monkeypatch.undo()
    last = tmp_path / "parts" / "checkpoint-8"
    if file != trainer.WHOLE:
        write(last / trainer.WHOLE, lengths(last))
        (last / file).write_bytes((last / file).read_bytes()[:20])
    resumed, again = train(tiny_checkpoint, tmp_path / "parts")
    said = capsys.readouterr().out
    assert "training goes on without checkpoint-8" in said and "going on from step 4 of 12" in said
    assert torch.equal(weights(resumed), weights(whole))
    pd.testing.assert_frame_equal(again, history)


def test_a_state_in_float16_is_gone_on_with_where_there_is_no_scaler(
    tiny_checkpoint, tmp_path, monkeypatch
):
    whole, _ = train(tiny_checkpoint, tmp_path / "whole")
    interrupt(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train(tiny_checkpoint, tmp_path / "parts")
    state = tmp_path / "parts" / "checkpoint-4"
    torch.save(torch.amp.GradScaler("cpu", init_scale=8.0).state_dict(), state / "scaler.pt")
    resumed, _ = train(tiny_checkpoint, tmp_path / "parts")
    assert torch.equal(weights(resumed), weights(whole))


def test_frozen_words_stay_and_are_not_in_checkpoints(tiny_checkpoint, tmp_path):
    fresh = new_classifier(tiny_checkpoint, pooling="mean", max_tokens=32, seed=0)
    encoder, _ = train(tiny_checkpoint, tmp_path, freeze_word_embeddings=True)
    before, after = (e.model.get_input_embeddings().weight for e in (fresh, encoder))
    assert torch.equal(before, after)
    assert not torch.equal(weights(fresh), weights(encoder))
    from safetensors import safe_open

    (path, *_) = sorted(tmp_path.rglob("model.safetensors"))
    with safe_open(path, "pt") as file:
        assert not [name for name in file.keys() if "embeddings.tok" in name]  # noqa: SIM118


@pytest.mark.parametrize("supcon", [False, True])
def test_training_in_bfloat16_computes_in_it_and_learns(
    tiny_checkpoint, tmp_path, monkeypatch, supcon
):
    classify, found = trainer.classify, []

    def watched(*given, **named):
        logits, pooled = classify(*given, **named)
        found.append(logits.dtype)
        return logits, pooled

    monkeypatch.setattr(trainer, "classify", watched)
    options = {"supcon": supcon, "steps": 30, "precision": "bfloat16"}
    encoder, history = train(tiny_checkpoint, tmp_path, **options)
    assert {*found} == {torch.bfloat16} and weights(encoder).dtype == torch.float32
    assert history["validation_macro_f1"].max() > 0.9


def test_a_batch_without_weight_changes_no_weights_to_nan(tiny_checkpoint, tmp_path):
    encoder = new_classifier(tiny_checkpoint, pooling="mean", max_tokens=32, seed=0)
    texts = Texts.build(encoder, toy(12, 1), weights=np.zeros(12))
    batches = LengthBatches(texts.lengths, 12, seed=0)
    fit(encoder, texts, texts, batches, plan(steps=2, evaluations=1), tmp_path)
    assert weights(encoder).isfinite().all()


def test_lambda_0_measures_supcon_and_trains_as_without(tiny_checkpoint, tmp_path):
    plain, _ = train(tiny_checkpoint, tmp_path / "a")
    measured, history = train(tiny_checkpoint, tmp_path / "b", supcon=True, lambda_metric=0.0)
    assert (history["train_metric_loss"] > 0).all()
    assert torch.allclose(weights(plain), weights(measured), atol=1e-6)
    trained, _ = train(tiny_checkpoint, tmp_path / "c", supcon=True)
    assert not torch.allclose(weights(plain), weights(trained), atol=1e-4)


def test_new_layers_have_their_own_rate_and_norms_no_decay(tiny_checkpoint, tmp_path):
    encoder = new_classifier(tiny_checkpoint, pooling="mean", max_tokens=32, seed=0)
    texts = Texts.build(encoder, toy(12, 0))
    batches = LengthBatches(texts.lengths, 4, seed=0)
    model = LossModel(encoder)
    made = trainer.ClassifierTrainer(model, encoder, texts, texts, batches, plan(), tmp_path)
    groups = made.create_optimizer().param_groups
    for name, parameter in model.named_parameters():
        (group,) = [g for g in groups if any(parameter is p for p in g["params"])]
        assert group["lr"] == (1e-2 if name.startswith("classifier.classifier") else 2e-3), name
        assert group["weight_decay"] == (0.01 if parameter.ndim > 1 else 0.0), name


@pytest.fixture(scope="module")
def gold(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("gold") / "gold.parquet"
    splits = [toy(60, 1).assign(split="train"), toy(30, 2).assign(split="validation")]
    pd.concat(splits).assign(text_id=range(90)).to_parquet(path)
    return path


def base_options(rate=2e-3, **changes):
    training = {"learning_rate": rate, "head_learning_rate": 5 * rate, "seed": 0}
    training |= {"freeze_word_embeddings": False, "precision": "float32", "device": "cpu"}
    options = {"base_revision": None, "start_model": None, "pooling": "mean", "max_tokens": 32}
    options |= {"epochs": 2, "batch_size": 12, "evaluations_per_epoch": 2, "calibrate": True}
    options["decision_bias"] = False
    return options | {"training": training} | changes


def predicted_tokens(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Tokens, with padding, of each batch that is predicted from now on."""
    found, classify = [], inference.classify

    def watched(model, input_ids, **more):
        found.append(input_ids.numel())
        return classify(model, input_ids, **more)

    monkeypatch.setattr(inference, "classify", watched)
    return found


def test_step_02_leaves_a_calibrated_model(tiny_checkpoint, gold, tmp_path, monkeypatch):
    options, tokens = base_options(), predicted_tokens(monkeypatch)
    options["training"]["tokens_per_batch"] = 100  # whatever runs
    base.train(tmp_path, gold=gold, base_model=tiny_checkpoint, **options)
    assert 50 < max(tokens) <= 100
    history = pd.read_csv(tmp_path / "history.csv")
    assert len(history) == 4 and history["step"].iloc[-1] == 10
    assert not (tmp_path / "checkpoints").exists()
    encoder = load_classifier(tmp_path, 32)
    frame = pd.read_parquet(gold, filters=[("split", "==", "validation")])
    found, _ = predict(encoder, encoder.tokenize(frame["text"].tolist()), **CPU)
    loss = -np.log(found[np.arange(30), frame["label"]]).mean()
    assert loss <= history[history["best"]]["validation_loss"].iloc[0] + 1e-6


def test_a_second_round_starts_from_a_model(tiny_checkpoint, gold, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    base.train(first, gold=gold, base_model=tiny_checkpoint, **base_options(epochs=4))
    options = base_options(rate=1e-9, epochs=1, calibrate=False)
    base.train(second, gold=gold, base_model="nowhere", **options | {"start_model": first})
    one, two = (load_classifier(folder, 32) for folder in (first, second))
    assert torch.allclose(weights(one), weights(two), atol=1e-6)


@pytest.mark.slow
def test_two_processes_give_the_gradients_of_one(tiny_checkpoint, tmp_path):
    """The loss sees the whole batch: after some steps the weights are the same but for rounding."""
    import jobs  # which imports this module

    one, two = tmp_path / "one.pt", tmp_path / "two.pt"
    jobs.main(tiny_checkpoint, one)
    shutil.rmtree(tmp_path / "checkpoints", ignore_errors=True)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    command += [jobs.__file__, tiny_checkpoint, str(two)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = dict(torch.load(path) for path in (one, two))
    assert torch.allclose(found[1], found[2], atol=1e-5)
    assert (found[1] - found[2]).abs().max() < 0.01 * found[1].std()
