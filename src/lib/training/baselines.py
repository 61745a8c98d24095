"""The floor: what needs no encoder. A classifier has to beat it to be worth its size."""

from __future__ import annotations

from typing import Any

import pandas as pd
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline, make_union

from lib.metrics import evaluate


def floor(
    train: pd.DataFrame, test: pd.DataFrame, *, split: str, samples: int, seed: int
) -> list[dict[str, Any]]:
    """Rows of metrics.json: the majority class, and `tfidf`.

    Args:
        train, test: text and label; split: of the test texts.
        samples, seed: of the bootstrap.
    """
    models = {"majority class": DummyClassifier(), "TF-IDF": tfidf()}
    return [
        row
        for name, model in models.items()
        for row in evaluate(
            test["label"].to_numpy(),
            model.fit(train["text"], train["label"]).predict(test["text"]),
            dataset="gold",
            split=split,
            model=name,
            samples=samples,
            seed=seed,
        )
    ]


def tfidf() -> Pipeline:
    """Logistic regression on TF-IDF of words (1-2) and of characters within words (3-5)."""
    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    letters = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), min_df=3, sublinear_tf=True)
    regression = LogisticRegression(C=3, max_iter=1000, class_weight="balanced")
    return make_pipeline(make_union(words, letters), regression)
