"""A linear probe: a second opinion on the corpus, from the pretrained encoder.

A classifier that was fine-tuned on few texts repeats its own mistakes when it learns from its own
pseudo-labels, and neighbours in its own embedding space make the same ones. A logistic regression
on the vectors of the pretrained encoder, which never moved, sees the texts differently: it is
hardly better, but wrong elsewhere, so the mean of both is right more often than either. With
`linear_probe` 03 fits it and labels the corpus with that mean.

A multilingual encoder lets the probe learn from labelled texts in other languages, too (foreign
gold, see `lib.foreign`). Vectors are standardised for each language by itself, since their means
say which language it is. How much foreign texts weigh, cross-validation on gold decides; it may be
nothing.

References: Alain and Bengio 2016, "Understanding intermediate layers using linear classifier
probes", arXiv:1610.01644; Blum and Mitchell 1998, "Combining labeled and unlabeled data with
co-training" (two views of one text); Lakshminarayanan et al. 2017, "Simple and scalable predictive
uncertainty estimation using deep ensembles", arXiv:1612.01474, section 2.4 (the mean); Libovický,
Rosa, Fraser 2020, "On the Language Neutrality of Pre-trained Multilingual Representations",
Findings of EMNLP (centring each language).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from lib import LABELS
from lib.encoder import Encoder
from lib.errors import UserError
from lib.evaluation import evaluate
from lib.inference import predict
from lib.temperature import calibrate_classifier

MOST_TEXTS = 20_000  # more do not change some thousand weights, but take minutes
FOLDS = 5
REGULARISATION = np.logspace(-4, 0, 9)  # C; it and the weight are chosen by cross-validation
FOREIGN_WEIGHTS = (0.0, 1.0, 3.0)  # of all foreign texts together, against all of gold


@dataclass(frozen=True)
class ProbeFit:
    """What cross-validation chose: C of scikit-learn's LogisticRegression, and a FOREIGN_WEIGHT.

    `log_loss` is that of gold texts that the regression had not seen.
    """

    regularisation: float
    foreign_weight: float
    log_loss: float


def fit_probe(
    pretrained: Encoder,
    train: pd.DataFrame,
    validation: pd.DataFrame,
    foreign: pd.DataFrame | None = None,
    *,
    seed: int,
    dtype: torch.dtype,
    device: torch.device,
) -> ProbeFit:
    """Make the classification layer of a pretrained encoder a linear probe, in place.

    The encoder is not trained. Classes weigh the same, however many texts they have. The layer is
    calibrated (see `lib.temperature`), so that its opinion has the weight that it earns.

    Args:
        pretrained: as `lib.encoder.new_classifier` gives it.
        train: text, label of gold texts; validation: the same, for the temperature.
        foreign: text, label of texts in other languages; None or no rows: gold alone.
        seed: which texts, if there are more than MOST_TEXTS.
    Raises:
        UserError: a class has fewer train texts than there are folds.
    """
    counts = train["label"].value_counts().reindex(range(len(LABELS)), fill_value=0)
    if counts.min() < FOLDS:
        raise UserError(
            f"linear_probe: {counts.min()} gold train texts are {LABELS[counts.idxmin()]}, and "
            f"cross-validation needs {FOLDS}; set linear_probe: false in 03_embed_corpus"
        )
    scaler, on = StandardScaler(), {"dtype": dtype, "device": device}
    gold = _standardised(pretrained, train, scaler, seed, on)
    others = None
    if foreign is not None and len(foreign):
        others = _standardised(pretrained, foreign, StandardScaler(), seed, on)
    chosen = _choose(gold, others)
    regression = _regression(gold, others, chosen.foreign_weight, chosen.regularisation)
    _set_layer(pretrained.model.classifier, scaler, regression)
    token_ids = pretrained.tokenize(validation["text"].tolist())
    probabilities, _ = predict(pretrained, token_ids, dtype=dtype, device=device)
    calibrate_classifier(pretrained.model, probabilities, validation["label"].to_numpy())
    return chosen


def compare(
    base: Encoder,
    probe: Encoder,
    validation: pd.DataFrame,
    *,
    seed: int,
    dtype: torch.dtype,
    device: torch.device,
) -> list[dict[str, Any]]:
    """Metric rows (see `lib.evaluation.evaluate`) of `base`, `probe` and the `mean` of both.

    Args:
        validation: text, label of gold texts.
    """
    texts = validation["text"].tolist()
    found = {
        name: predict(model, model.tokenize(texts), dtype=dtype, device=device)[0]
        for name, model in {"base": base, "probe": probe}.items()
    }
    found["mean"] = (found["base"] + found["probe"]) / 2
    about = {"dataset": "gold", "split": "validation", "samples": 2000, "seed": seed}
    return [
        row
        for name, probabilities in found.items()
        for row in evaluate(validation["label"], probabilities.argmax(1), model=name, **about)
    ]


Labelled = tuple[np.ndarray, np.ndarray]
"""Vectors float [n, d] and their labels int [n]."""


def _standardised(
    encoder: Encoder, texts: pd.DataFrame, scaler: StandardScaler, seed: int, on: dict[str, Any]
) -> Labelled:
    if len(texts) > MOST_TEXTS:
        texts = texts.sample(MOST_TEXTS, random_state=seed)
    token_ids = encoder.tokenize(texts["text"].tolist())
    _, pooled = predict(encoder, token_ids, progress="linear probe", **on)
    return scaler.fit_transform(pooled), texts["label"].to_numpy()


def _choose(gold: Labelled, foreign: Labelled | None) -> ProbeFit:
    """Cross-validation on gold; foreign texts only ever help to train."""
    vectors, labels = gold
    folds = list(StratifiedKFold(FOLDS).split(vectors, labels))
    weights = FOREIGN_WEIGHTS if foreign else FOREIGN_WEIGHTS[:1]
    found = []
    for weight, strength in tqdm(list(product(weights, REGULARISATION)), desc="cross-validation"):
        losses = []
        for train, heldout in folds:
            fitted = _regression((vectors[train], labels[train]), foreign, weight, strength)
            probabilities = fitted.predict_proba(vectors[heldout])
            losses.append(log_loss(labels[heldout], probabilities, labels=fitted.classes_))
        found.append(ProbeFit(float(strength), weight, float(np.mean(losses))))
    return min(found, key=lambda fit: fit.log_loss)


def _regression(
    gold: Labelled, foreign: Labelled | None, foreign_weight: float, regularisation: float
) -> LogisticRegression:
    """Classes weigh the same; all weights add up to the number of gold texts, so that C means the
    same with and without foreign ones."""
    vectors, labels, count = *gold, len(gold[1])
    weights = np.ones(count)
    if foreign and foreign_weight:
        vectors, labels = np.concatenate([vectors, foreign[0]]), np.append(labels, foreign[1])
        share = foreign_weight * count / len(foreign[1])
        weights = np.append(weights, np.full(len(foreign[1]), share))
    weights *= (count / len(LABELS) / np.bincount(labels, weights))[labels]
    regression = LogisticRegression(C=regularisation, max_iter=1000)
    return regression.fit(vectors, labels, sample_weight=weights)


def _set_layer(
    layer: torch.nn.Linear, scaler: StandardScaler, regression: LogisticRegression
) -> None:
    """The layer becomes scaling and regression in one: both are affine."""
    weight = regression.coef_ / scaler.scale_
    bias = regression.intercept_ - weight @ scaler.mean_
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
        layer.bias.copy_(torch.from_numpy(bias))
