"""Base against final on any labelled texts: predictions, tables, confusion counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib import LABELS
from lib.data.tables import labelled_texts
from lib.files import atomic, write_parquet
from lib.metrics import (
    METRICS,
    K,
    class_shares,
    compare,
    confusion,
    evaluate,
    paired_confusion,
    resample,
    with_interval,
    with_quantiles,
)
from lib.models.encoder import Encoder, hardware, load_classifier
from lib.models.inference import predict as predict_texts

MODELS = ("base", "final")
TABLES = ("test", "validation", "audit", "audit validation", "heldout")
ALL_AUDIT, DOMAINS = "all audit texts", "mean over other domains"
WHOLE_SETS = ("gold", ALL_AUDIT, DOMAINS)
LEAST_TEXTS = 50  # of a source, to count in the mean over domains
MOST_TEXTS = 2500  # of each source and split, for one of many models
COLUMNS = ["text_id", "text", "source", "label"]


def predict(
    folder: Path,
    *,
    gold: Path,
    corpus: Path,
    heldout: Path,
    base: Path,
    final: Path,
    max_tokens: int,
    precision: str,
    device: str,
) -> None:
    """Write what both models say of labelled texts.

    One file for each of TABLES: gold test and validation texts, corpus texts with an audit label
    that no training text was (`audit`) or may have been (`audit validation`), and pseudo-labelled
    texts held out of training. Columns: COLUMNS, <model>_p0..2 (float32) and <model>_predicted.
    vectors.npz holds the pooled vectors of the gold test texts, float16 [n, d] for each model. A
    file that an interrupted call has left is kept.
    """
    texts = labelled_texts(gold, corpus)
    frames = {name: texts[texts["split"] == name] for name in TABLES}
    frames["heldout"] = pd.read_parquet(heldout)
    models = load_both(base, final, max_tokens)
    for name, frame in frames.items():
        path = folder / f"{name}.parquet"
        if path.exists():
            continue
        given = frame["text"].tolist()
        found, vectors = predict_both(models, given, hardware(precision, device), title=name)
        if name == "test":
            with atomic(folder / "vectors.npz") as temporary:
                half = {model: space.astype(np.float16) for model, space in vectors.items()}
                np.savez(temporary, allow_pickle=False, **half)
        write_parquet(path, pd.concat([frame[COLUMNS].reset_index(drop=True), found], axis=1))


def predict_one(
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
    """Write predictions.parquet: text_id, source, split, label, predicted, of `some_texts`.

    For sweeps, which have many models.
    """
    texts = some_texts(gold, corpus, splits)
    encoder = load_classifier(model, max_tokens)
    token_ids = encoder.tokenize(texts["text"].tolist())
    found, _ = predict_texts(encoder, token_ids, **hardware(precision, device))
    frame = texts.drop(columns="text").assign(predicted=found.argmax(1))
    write_parquet(folder / "predictions.parquet", frame)


def some_texts(gold: Path, corpus: Path, splits: list[str]) -> pd.DataFrame:
    """`lib.data.tables.labelled_texts` of these splits, at most MOST_TEXTS of each source.

    Those with the lowest ids, which are hashes: a file may be sorted by label.
    """
    texts = labelled_texts(gold, corpus)
    ordered = texts[texts["split"].isin(splits)].sort_values("text_id", kind="stable")
    return ordered.groupby(["source", "split"]).head(MOST_TEXTS).sort_index()


def load_both(base: Path, final: Path, max_tokens: int) -> dict[str, Encoder]:
    """Both models, by MODELS."""
    return {"base": load_classifier(base, max_tokens), "final": load_classifier(final, max_tokens)}


def predict_both(
    models: dict[str, Encoder], texts: list[str], on: dict[str, Any], *, title: str
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Predictions of both models for every text.

    Args:
        on: as `lib.models.encoder.hardware` gives it; title: of the progress bars.
    Returns:
        A row per text: <model>_p0..2 and <model>_predicted; pooled vectors float32 [n, d] by model.
    """
    columns: dict[str, np.ndarray] = {}
    vectors = {}
    for name, encoder in models.items():
        token_ids, progress = encoder.tokenize(texts), f"{title}, {name}"
        found, vectors[name] = predict_texts(encoder, token_ids, progress=progress, **on)
        columns |= {f"{name}_p{i}": found[:, i] for i in range(len(LABELS))}
        columns[f"{name}_predicted"] = found.argmax(1)
    return pd.DataFrame(columns), vectors


def read(folder: Path) -> dict[str, pd.DataFrame]:
    """The tables that `predict` wrote, by name."""
    return {name: pd.read_parquet(folder / f"{name}.parquet") for name in TABLES}


def compare_models(frame: pd.DataFrame, **about: Any) -> list[dict[str, Any]]:
    """Rows of metrics.json: all metrics of base, of final, and of their paired difference.

    Args:
        about: dataset, split, samples and seed as in `lib.metrics.evaluate`.
    """
    if frame.empty:
        return []
    true = frame["label"].to_numpy()
    base, final = (frame[f"{name}_predicted"].to_numpy() for name in MODELS)
    return [
        *evaluate(true, base, model="base", **about),
        *evaluate(true, final, model="final", **about),
        *compare(true, base, final, **about),
    ]


def compare_by_source(frame: pd.DataFrame, **about: Any) -> list[dict[str, Any]]:
    """`compare_models` for each source alone, which is the data set."""
    rows = []
    for name, part in frame.groupby("source"):
        rows += compare_models(part, dataset=as_dataset(str(name)), **about)
    return rows


def as_dataset(source: str) -> str:
    """A source's name; one that is called as a whole set is (`gold`) gets `(source)` behind it."""
    return f"{source} (source)" if source in WHOLE_SETS else source


def mean_over_sources(
    frame: pd.DataFrame, *, split: str, samples: int, seed: int
) -> list[dict[str, Any]]:
    """Rows of metrics.json: macro-F1's mean over the sources with LEAST_TEXTS and more.

    Of base, of final, and of their paired difference; texts are resampled within each source. No
    rows if no source has so many.
    """
    parts = [part for _, part in frame.groupby("source") if len(part) >= LEAST_TEXTS]
    if not parts:
        return []
    each = []
    for i, part in enumerate(parts):
        predicted = (part[f"{name}_predicted"] for name in MODELS)
        counts = paired_confusion(part["label"], *predicted).ravel()
        each.append(np.vstack([counts, resample(counts, samples, [seed, i])]))
    cubes = np.reshape(
        each, (len(each), -1, K, K, K)
    )  # [sources, 1 + resamples, true, base, final]
    macro_f1 = METRICS["macro_f1"]
    found = {"base": macro_f1(cubes.sum(-1)).mean(0), "final": macro_f1(cubes.sum(-2)).mean(0)}
    found["final - base"] = found["final"] - found["base"]
    about = {"dataset": DOMAINS, "split": split, "texts": sum(map(len, parts))}
    return [
        with_quantiles("macro_f1", {"model": model, **about}, values[0], values[1:])
        for model, values in found.items()
    ]


def in_words(rows: list[dict[str, Any]], *, dataset: str, split: str) -> str:
    """Macro-F1 of base, final and their paired difference on one set of texts, as one line."""
    wanted = {"name": "macro_f1", "dataset": dataset, "split": split}
    found = [row for row in rows if wanted.items() <= row.items()]
    if not found:
        return f"{dataset}, {split}: no texts"
    values = [f"{r['model']} {with_interval(r['value'], r['low'], r['high'])}" for r in found]
    return f"Macro-F1, {dataset}, {split}, {found[0]['texts']:,} texts: {', '.join(values)}"


def matrices(frame: pd.DataFrame) -> dict[str, np.ndarray]:
    """Confusion counts int64 [3, 3] per model."""
    true = frame["label"].to_numpy()
    return {name: confusion(true, frame[f"{name}_predicted"].to_numpy()) for name in MODELS}


def share_table(frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Class shares of the labels and of either model's predictions, per set of texts."""
    columns = {"labels": "label"} | {name: f"{name}_predicted" for name in MODELS}
    named = {
        f"{title}: {kind}": frame[column].to_numpy()
        for title, frame in frames.items()
        if len(frame)
        for kind, column in columns.items()
    }
    return class_shares(named)
