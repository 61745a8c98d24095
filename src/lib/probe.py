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

from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegressionCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lib import LABELS
from lib.encoder import Encoder
from lib.errors import UserError
from lib.evaluation import evaluate
from lib.inference import predict
from lib.temperature import calibrate_classifier

MOST_TEXTS = 20_000  # more do not change some thousand weights, but take minutes
FOLDS = 5
REGULARISATION = np.logspace(-4, 0, 9)  # C, chosen by cross-validation on gold train texts


def fit_probe(
    pretrained: Encoder,
    train: pd.DataFrame,
    validation: pd.DataFrame,
    *,
    seed: int,
    dtype: torch.dtype,
    device: torch.device,
) -> float:
    """Make the classification layer of a pretrained encoder a linear probe, in place.

    The encoder is not trained. Classes weigh the same, however many texts they have. The layer is
    calibrated (see `lib.temperature`), so that its opinion has the weight that it earns.

    Args:
        pretrained: as `lib.encoder.new_classifier` gives it.
        train: text, label of gold texts; validation: the same, for the temperature.
        seed: which texts, if there are more than MOST_TEXTS.
    Returns:
        The inverse strength of the regularisation, C.
    Raises:
        UserError: a class has fewer train texts than there are folds.
    """
    counts = train["label"].value_counts().reindex(range(len(LABELS)), fill_value=0)
    if counts.min() < FOLDS:
        raise UserError(
            f"linear_probe: {counts.min()} gold train texts are {LABELS[counts.idxmin()]}, and "
            f"cross-validation needs {FOLDS}; set linear_probe: false in 03_embed_corpus"
        )
    if len(train) > MOST_TEXTS:
        train = train.sample(MOST_TEXTS, random_state=seed)
    token_ids = pretrained.tokenize(train["text"].tolist())
    _, pooled = predict(pretrained, token_ids, dtype=dtype, device=device, progress="linear probe")
    regression = LogisticRegressionCV(
        Cs=REGULARISATION,
        cv=FOLDS,
        class_weight="balanced",
        scoring="neg_log_loss",
        max_iter=1000,
        l1_ratios=(0,),
        use_legacy_attributes=False,
    )
    fitted = make_pipeline(StandardScaler(), regression).fit(pooled, train["label"].to_numpy())
    _set_layer(pretrained.model.classifier, *fitted)
    token_ids = pretrained.tokenize(validation["text"].tolist())
    probabilities, _ = predict(pretrained, token_ids, dtype=dtype, device=device)
    calibrate_classifier(pretrained.model, probabilities, validation["label"].to_numpy())
    return float(regression.C_)


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


def _set_layer(
    layer: torch.nn.Linear, scaler: StandardScaler, regression: LogisticRegressionCV
) -> None:
    """The layer becomes scaling and regression in one: both are affine."""
    weight = regression.coef_ / scaler.scale_
    bias = regression.intercept_ - weight @ scaler.mean_
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
        layer.bias.copy_(torch.from_numpy(bias))
