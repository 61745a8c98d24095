"""The linear probe is the regression that it is fitted as, folded into one layer."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from lib.embeddings import probe
from lib.errors import UserError
from lib.files import read_json
from lib.models.encoder import load_classifier, new_classifier, save_classifier
from lib.models.inference import predict
from test_trainer import toy

CPU = {"dtype": torch.float32, "device": torch.device("cpu")}


def fresh(checkpoint):
    return new_classifier(checkpoint, pooling="mean", max_tokens=32, seed=0)


def test_the_layer_is_scaling_and_regression(tiny_checkpoint):
    encoder, train, test = fresh(tiny_checkpoint), toy(90, 1), toy(30, 2)
    chosen = probe.fit_layer(encoder, train, seed=0, on=CPU)
    assert chosen["regularisation"] in probe.REGULARISATION and chosen["log_loss"] > 0
    vectors = [
        predict(encoder, encoder.tokenize(frame["text"].tolist()), **CPU)[1]
        for frame in (train, test)
    ]
    scaler = StandardScaler().fit(vectors[0])
    regression = LogisticRegression(
        C=chosen["regularisation"], class_weight="balanced", max_iter=1000
    ).fit(scaler.transform(vectors[0]), train["label"])
    expected = regression.predict_proba(scaler.transform(vectors[1]))
    found, _ = predict(encoder, encoder.tokenize(test["text"].tolist()), **CPU)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_the_part_is_a_calibrated_classifier(tiny_checkpoint, tmp_path):
    gold = pd.concat([toy(90, 1).assign(split="train"), toy(30, 2).assign(split="validation")])
    gold.to_parquet(tmp_path / "gold.parquet")
    save_classifier(fresh(tiny_checkpoint), tmp_path / "model")
    folder = tmp_path / "probe"
    folder.mkdir()
    probe.fit(
        folder,
        gold=tmp_path / "gold.parquet",
        model=tmp_path / "model",
        base_model=tiny_checkpoint,
        base_revision=None,
        max_tokens=32,
        precision="float32",
        device="cpu",
        seed=0,
    )
    found, base = load_classifier(folder, 32), load_classifier(tmp_path / "model", 32)
    assert found.pooling == "mean"
    for name, value in found.model.base_model.state_dict().items():
        assert torch.equal(value, base.model.base_model.state_dict()[name])
    assert 0.5 <= read_json(folder / "probe.json")["temperature"] <= 10
    rows = probe.compare(base, found, gold[gold["split"] == "validation"], seed=0, on=CPU)
    scores = {row["model"]: row["value"] for row in rows if row["name"] == "accuracy"}
    assert list(scores) == ["base", "probe", "mean"] and scores["probe"] > 0.8


def test_too_few_texts_of_a_class_are_named(tiny_checkpoint):
    train = pd.concat([toy(60, 1).query("label != 1"), toy(60, 1).query("label == 1")[:4]])
    with pytest.raises(UserError, match=r"linear_probe: 4 gold train texts are neutral"):
        probe.fit_layer(fresh(tiny_checkpoint), train, seed=0, on=CPU)
