"""What one model says of gold and audit texts: for sweeps, whose points may have no final model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from lib import files
from lib.data import tables
from lib.models import encoder, inference

MOST_TEXTS = 500
"""Of each source and split, its first ones: a sweep has many models, and 06 measures all texts."""


def predict(
    folder: Path,
    *,
    gold: Path,
    corpus: Path,
    model: Path,
    splits: list[str],
    max_tokens: int,
    precision: str,
    device: str,
) -> None:
    """Write predictions.parquet: text_id, source, split, label, predicted, of `read`'s texts."""
    texts = read(gold, corpus, splits)
    classifier = encoder.load_classifier(model, max_tokens)
    token_ids = classifier.tokenize(texts["text"].tolist())
    found, _ = inference.predict(classifier, token_ids, **encoder.hardware(precision, device))
    frame = texts.drop(columns="text").assign(predicted=found.argmax(1))
    files.write_parquet(folder / "predictions.parquet", frame)


def read(gold: Path, corpus: Path, splits: list[str]) -> pd.DataFrame:
    """Labelled texts to measure on, at most MOST_TEXTS of each source and split.

    Args:
        gold, corpus: the tables of 01.
        splits: of gold; `audit` and `audit validation` for corpus texts with an audit label.
    Returns:
        text_id, text, source, split, label (int64).
    """
    texts = pd.read_parquet(gold)
    audit = tables.read_corpus(corpus, audited=True)
    audit["split"] = np.where(tables.audit_test(audit), "audit", "audit validation")
    texts = pd.concat([texts, audit.rename(columns={"audit_label": "label"})], ignore_index=True)
    texts = texts[texts["split"].isin(splits)].groupby(["source", "split"]).head(MOST_TEXTS)
    return texts[["text_id", "text", "source", "split", "label"]].astype({"label": "int64"})
