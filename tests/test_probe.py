from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler

from lib import probe
from lib.embedding import read_bank, write_bank
from lib.encoder import Encoder, new_classifier
from lib.errors import UserError
from lib.inference import predict
from lib.probe import FOLDS, compare, fit_probe
from lib.schema import EmbedCorpusParams

ON = {"dtype": torch.float32, "device": torch.device("cpu")}
WORDS = (["плохо", "ужас", "хуже"], ["дом", "стол", "вода"], ["хорошо", "рад", "супер"])
SETTINGS = {"pooling": "mean", "max_tokens": 16, "seed": 0}
FILL = ["и", "я", "там", "сегодня", "был"]


def gold(count: int, seed: int) -> pd.DataFrame:
    """Texts whose class shows in one of their words."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    words = [[*rng.choice(FILL, 2), rng.choice(WORDS[k])] for k in labels]
    texts = [" ".join(rng.permutation(row)) for row in words]
    return pd.DataFrame({"text": texts, "label": labels})


@pytest.fixture
def pretrained(tiny_checkpoint: str) -> Encoder:
    return new_classifier(tiny_checkpoint, **SETTINGS)


def probabilities(encoder: Encoder, frame: pd.DataFrame) -> np.ndarray:
    return predict(encoder, encoder.tokenize(frame["text"].tolist()), **ON)[0]


def test_the_layer_is_the_regression_on_the_vectors_that_never_moved(pretrained):
    train, validation = gold(240, 0), gold(60, 1)
    before = {name: value.clone() for name, value in pretrained.model.state_dict().items()}
    strength = fit_probe(pretrained, train, validation, seed=0, **ON).regularisation
    after = pretrained.model.state_dict()
    changed = {name for name, value in after.items() if (value != before[name]).any()}
    assert changed == {"classifier.weight", "classifier.bias"}
    assert strength in probe.REGULARISATION

    ids = [pretrained.tokenize(frame["text"].tolist()) for frame in (train, validation)]
    (_, fitted), (_, asked) = (predict(pretrained, each, **ON) for each in ids)
    mean, deviation = fitted.mean(0), fitted.std(0)
    plain = LogisticRegression(C=strength, class_weight="balanced", max_iter=1000)
    plain.fit((fitted - mean) / deviation, train["label"])
    expected = plain.predict((asked - mean) / deviation)
    predicted = probabilities(pretrained, validation).argmax(1)
    assert (predicted == expected).mean() > 0.98  # the temperature moves no prediction
    assert (predicted == validation["label"]).mean() > 0.6  # of three classes, from random weights


def test_regularisation_is_what_scikit_learn_chooses(pretrained):
    train = gold(240, 0)
    chosen = fit_probe(pretrained, train, gold(60, 1), seed=0, **ON)
    _, vectors = predict(pretrained, pretrained.tokenize(train["text"].tolist()), **ON)
    search = LogisticRegressionCV(
        Cs=probe.REGULARISATION,
        cv=FOLDS,
        class_weight="balanced",
        scoring="neg_log_loss",
        max_iter=1000,
        l1_ratios=(0,),
        use_legacy_attributes=False,
    )
    search.fit(StandardScaler().fit_transform(vectors), train["label"])
    assert chosen.regularisation == search.C_
    assert chosen.log_loss == pytest.approx(-search.scores_.mean(0).max(), rel=1e-2)
    assert chosen.foreign_weight == 0


def test_foreign_gold_weighs_what_it_is_worth(tiny_checkpoint):
    """Sixty gold texts with a third of the labels by lot, and 900 as good or all by lot."""
    rng = np.random.default_rng(0)

    def noisy(frame, share):
        drawn = np.where(rng.random(len(frame)) < share, rng.integers(0, 3, len(frame)), -1)
        return frame.assign(label=np.where(drawn < 0, frame["label"], drawn))

    train, validation, others = noisy(gold(60, 0), 1 / 3), gold(300, 1), gold(900, 2)
    given = {"none": others.head(0), "as good": noisy(others, 1 / 3), "by lot": noisy(others, 1)}
    losses = {}
    for name, foreign in given.items():
        model = new_classifier(tiny_checkpoint, **SETTINGS)
        chosen = fit_probe(model, train, validation, foreign, seed=0, **ON)
        assert (chosen.foreign_weight > 0) == (name == "as good")
        losses[name] = log_loss(validation["label"], probabilities(model, validation))
    assert losses["as good"] < losses["none"] - 0.1
    assert losses["by lot"] == losses["none"]


def test_languages_are_standardised_apart(tiny_checkpoint, monkeypatch):
    """What all foreign vectors have in common says their language, and must not count."""
    train, foreign = gold(120, 0), gold(120, 2)
    vectors = {}

    def shifted(encoder, token_ids, **options):
        found = predict(encoder, token_ids, **options)
        vectors[len(vectors)] = found[1]
        return (found[0], found[1] + 100) if len(vectors) == 2 else found

    chosen = {}
    for name, read in {"shifted": shifted, "plain": predict}.items():
        monkeypatch.setattr(probe, "predict", read)
        model = new_classifier(tiny_checkpoint, **SETTINGS)
        chosen[name] = fit_probe(model, train, gold(40, 1), foreign, seed=0, **ON)
    assert len(vectors) >= 2
    assert chosen["shifted"].log_loss == pytest.approx(chosen["plain"].log_loss, abs=1e-3)


def test_a_class_with_too_few_texts_is_named(pretrained):
    train = gold(90, 0)
    few = pd.concat([train[train["label"] != 2], train[train["label"] == 2].head(FOLDS - 1)])
    with pytest.raises(UserError, match=r"4 gold train texts are positive.*linear_probe: false"):
        fit_probe(pretrained, few, gold(30, 1), seed=0, **ON)


def test_of_many_texts_a_seeded_part_is_enough(pretrained, tiny_checkpoint, monkeypatch):
    monkeypatch.setattr(probe, "MOST_TEXTS", 100)
    other = new_classifier(tiny_checkpoint, pooling="mean", max_tokens=16, seed=5)
    train, validation = gold(240, 0), gold(60, 1)
    for encoder in (pretrained, other):
        fit_probe(encoder, train, validation, seed=3, **ON)
    np.testing.assert_array_equal(
        probabilities(pretrained, validation), probabilities(other, validation)
    )


def test_the_bank_holds_the_mean_opinion_and_the_base_classifiers_vectors(
    pretrained, tiny_checkpoint, tmp_path
):
    base = new_classifier(tiny_checkpoint, pooling="mean", max_tokens=16, seed=9)
    with torch.no_grad():  # as if fine-tuned
        for parameter in base.model.encoder.layers.parameters():
            parameter.mul_(1.3)
    fit_probe(pretrained, gold(240, 0), gold(60, 1), seed=0, **ON)
    texts = gold(50, 2).assign(text_id=[f"{i:016x}" for i in range(50)])
    params = EmbedCorpusParams(shard_size=20, precision="float32")
    done = write_bank(base, texts, tmp_path, params, second_opinion=pretrained)
    assert done["texts"] == 50
    shards = list(read_bank(tmp_path))
    labelled = np.concatenate([shard.probabilities for shard in shards])
    opinions = [probabilities(encoder, texts) for encoder in (base, pretrained)]
    np.testing.assert_allclose(labelled, np.mean(opinions, axis=0), atol=1e-5)
    assert np.abs(labelled - opinions[0]).max() > 0.1  # the probe is heard
    np.testing.assert_allclose(
        np.concatenate([shard.embedding for shard in shards]).astype(np.float32),
        predict(base, base.tokenize(texts["text"].tolist()), **ON)[1],
        atol=2e-2,
    )


def test_the_three_opinions_on_validation(pretrained, tiny_checkpoint):
    base = new_classifier(tiny_checkpoint, pooling="mean", max_tokens=16, seed=9)
    validation = gold(60, 1)
    fit_probe(pretrained, gold(240, 0), validation, seed=0, **ON)
    rows = compare(base, pretrained, validation, seed=0, **ON)
    scores = {row["model"]: row["value"] for row in rows if row["name"] == "accuracy"}
    each = {"base": probabilities(base, validation), "probe": probabilities(pretrained, validation)}
    each["mean"] = each["base"] + each["probe"]
    labels = validation["label"].to_numpy()
    assert scores == {name: (p.argmax(1) == labels).mean() for name, p in each.items()}
