"""Base against final on any labelled texts: predictions, tables, confusion counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from lib import LABELS
from lib.encoder import Encoder
from lib.evaluation import class_shares, compare, confusion, evaluate
from lib.inference import predict

MODELS = ("base", "final")


def audit_texts(corpus: pd.DataFrame) -> pd.DataFrame:
    """Corpus texts with a known sentiment label, as `label`."""
    known = corpus[corpus["audit_label"].notna()].reset_index(drop=True)
    return known.assign(label=known["audit_label"].astype("int64"))


def predict_both(
    models: dict[str, Encoder], frame: pd.DataFrame, hardware: dict[str, Any]
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Predictions of both models for every text.

    Args:
        models: `base` and `final`; frame: with a column `text`.
        hardware: as `lib.encoder.hardware` gives it.
    Returns:
        frame with <model>_p0..2 and <model>_predicted; pooled vectors float32 [n, d] per model.
    """
    frame, vectors = frame.copy(), {}
    for name, encoder in models.items():
        token_ids = encoder.tokenize(frame["text"].tolist())
        probabilities, vectors[name] = predict(encoder, token_ids, **hardware)
        for i in range(len(LABELS)):
            frame[f"{name}_p{i}"] = probabilities[:, i]
        frame[f"{name}_predicted"] = probabilities.argmax(1)
    return frame, vectors


def compare_models(
    frame: pd.DataFrame, *, dataset: str, split: str, samples: int, seed: int
) -> list[dict[str, Any]]:
    """Rows of metrics.json: all metrics of base, of final, and of their paired difference."""
    if frame.empty:
        return []
    about = {"dataset": dataset, "split": split, "samples": samples, "seed": seed}
    true = frame["label"].to_numpy()
    predicted = {name: frame[f"{name}_predicted"].to_numpy() for name in MODELS}
    rows = [row for name in MODELS for row in evaluate(true, predicted[name], model=name, **about)]
    return rows + compare(true, predicted["base"], predicted["final"], **about)


ALL_AUDIT = "all audit texts"


def compare_by_source(
    frame: pd.DataFrame, *, split: str, samples: int, seed: int
) -> list[dict[str, Any]]:
    """`compare_models` for each source alone."""
    return [
        row
        for source, part in frame.groupby("source")
        for row in compare_models(
            part, dataset=str(source), split=split, samples=samples, seed=seed
        )
    ]


def all_metrics_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """One line per metric, one column per model, with intervals."""
    table: dict[str, dict[str, str]] = {}
    for row in rows:
        text = f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
        table.setdefault(row["name"], {})[row["model"]] = text
    return pd.DataFrame.from_dict(table, orient="index")


def matrices(frame: pd.DataFrame) -> dict[str, np.ndarray]:
    """Confusion counts int64 [3, 3] per model."""
    return {name: confusion(frame["label"], frame[f"{name}_predicted"]) for name in MODELS}


def share_table(frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Class shares of the labels and of either model's predictions, per set of texts."""
    columns = {"labels": "label"} | {name: f"{name}_predicted" for name in MODELS}
    return class_shares(
        {
            f"{title}: {kind}": frame[column].to_numpy()
            for title, frame in frames.items()
            if len(frame)
            for kind, column in columns.items()
        }
    )
