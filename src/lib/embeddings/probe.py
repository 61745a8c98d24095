"""A linear probe: a second opinion on the corpus, from the pretrained encoder.

A classifier that was fine-tuned on few texts repeats its own mistakes when it learns from its own
pseudo-labels, and neighbours in its own embedding space make the same ones. A logistic regression
on the vectors of the pretrained encoder, which never moved, sees the texts differently: it is
hardly better, but wrong elsewhere, so the mean of both is right more often than either. With
`linear_probe` 03 fits it and labels the corpus with that mean.

References: Alain and Bengio 2016, "Understanding intermediate layers using linear classifier
probes", arXiv:1610.01644; Blum and Mitchell 1998, "Combining labeled and unlabeled data with
co-training" (two views of one text); Lakshminarayanan et al. 2017, "Simple and scalable predictive
uncertainty estimation using deep ensembles", arXiv:1612.01474, section 2.4 (the mean).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lib import LABELS
from lib.errors import UserError
from lib.files import write_json
from lib.metrics import evaluate
from lib.models.encoder import (
    Encoder,
    hardware,
    load_classifier,
    new_classifier,
    save_classifier,
)
from lib.models.inference import predict
from lib.models.temperature import calibrate

MOST_TEXTS = 20_000  # more do not change some thousand weights, but take minutes
FOLDS = 5
REGULARISATION = np.logspace(-4, 0, 9)  # C of scikit-learn's LogisticRegression


def fit(
    folder: Path,
    *,
    gold: Path,
    model: Path,
    base_model: Path | str,
    base_revision: str | None,
    max_tokens: int,
    precision: str,
    device: str,
    seed: int,
) -> None:
    """Save the pretrained encoder with a linear probe, calibrated.

    Classes weigh the same, however many texts they have. What cross-validation chose is in
    probe.json.

    Args:
        gold: gold.parquet of 01; model: of 02, whose pooling it takes.
        seed: which texts, if there are more than MOST_TEXTS.
    Raises:
        UserError: a class has fewer train texts than there are folds.
    """
    pooling = load_classifier(model, max_tokens).pooling
    encoder = new_classifier(
        base_model, pooling=pooling, max_tokens=max_tokens, seed=seed, revision=base_revision
    )
    on = hardware(precision, device)
    frame = pd.read_parquet(gold)
    train, validation = (frame[frame["split"] == split] for split in ("train", "validation"))
    chosen = fit_layer(encoder, train, seed, on)
    token_ids = encoder.tokenize(validation["text"].tolist())
    probabilities, _ = predict(encoder, token_ids, **on)
    labels = validation["label"].to_numpy()
    chosen["temperature"] = calibrate(encoder.last_layer, probabilities, labels)
    save_classifier(encoder, folder)
    write_json(folder / "probe.json", chosen)


def fit_layer(
    encoder: Encoder, train: pd.DataFrame, seed: int, on: dict[str, Any]
) -> dict[str, float]:
    """Give an encoder a linear probe, in place.

    Args:
        train: text and label; on: as `lib.models.encoder.hardware` gives it.
    Returns:
        The regularisation C that was chosen, and its log loss on texts that it had not seen.
    """
    counts = train["label"].value_counts().reindex(range(len(LABELS)), fill_value=0)
    if counts.min() < FOLDS:
        raise UserError(
            f"linear_probe: {counts.min()} gold train texts are {LABELS[int(counts.argmin())]}, "
            f"and cross-validation needs {FOLDS}; set linear_probe: false in 03_embed_corpus"
        )
    if len(train) > MOST_TEXTS:
        train = train.sample(MOST_TEXTS, random_state=seed)
    token_ids = encoder.tokenize(train["text"].tolist())
    _, pooled = predict(encoder, token_ids, progress="linear probe", **on)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000)),
        {"logisticregression__C": REGULARISATION},
        scoring="neg_log_loss",
        cv=StratifiedKFold(FOLDS),
    ).fit(pooled, train["label"])
    scaler, regression = search.best_estimator_
    weight = regression.coef_ / scaler.scale_  # scaling and regression are one affine map
    bias = regression.intercept_ - weight @ scaler.mean_
    encoder.probe = torch.nn.Linear(encoder.hidden_size, len(LABELS))
    with torch.no_grad():
        encoder.probe.weight.copy_(torch.from_numpy(weight))
        encoder.probe.bias.copy_(torch.from_numpy(bias))
    return {"regularisation": float(regression.C), "log_loss": float(-search.best_score_)}


def compare(
    base: Encoder, probe: Encoder, validation: pd.DataFrame, *, seed: int, on: dict[str, Any]
) -> list[dict[str, Any]]:
    """Rows of metrics.json of `base`, `probe` and the `mean` of both on gold validation.

    Args:
        validation: text and label; on: as `lib.models.encoder.hardware` gives it.
    """
    texts = validation["text"].tolist()
    found = {
        name: predict(model, model.tokenize(texts), **on)[0]
        for name, model in {"base": base, "probe": probe}.items()
    }
    found["mean"] = (found["base"] + found["probe"]) / 2
    about: dict[str, Any] = {"dataset": "gold", "split": "validation", "seed": seed}
    return [
        row
        for name, probabilities in found.items()
        for row in evaluate(
            validation["label"], probabilities.argmax(1), model=name, samples=2000, **about
        )
    ]
