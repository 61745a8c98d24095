"""Quality of an embedding space: how well classes are told apart by distance alone.

All measures take pooled vectors, normalise them to length 1, and use the cosine.

- kNN macro-F1: each text gets the majority label of its nearest other texts. No classifier is
  trained, so the space alone is measured.
- Silhouette (Rousseeuw 1987): (b - a) / max(a, b) with a the mean distance to the text's own class
  and b to the nearest other class; 1 is far apart, 0 overlaps, below 0 is on the wrong side.
- Alignment and uniformity (Wang and Isola 2020, arXiv:2005.10242): mean squared distance of two
  texts of one class, and log of the mean of exp(-2 · squared distance) of any two texts. Lower is
  better for both; a space that collapses to a point is perfectly aligned and not uniform at all.
- Centroid distances: 1 - cosine of the classes' mean vectors.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import silhouette_samples
from sklearn.neighbors import NearestNeighbors

from lib import LABELS
from lib.evaluation import compare, evaluate

NEIGHBOURS = 10
MAX_TEXTS = 3000  # for measures of all pairs: their time and memory grow with the square


def normalised(vectors: np.ndarray) -> np.ndarray:
    """float64 [n, d] with rows of length 1; a row of zeros stays."""
    vectors = np.asarray(vectors, dtype=np.float64)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def knn_predict(
    vectors: np.ndarray,
    labels: np.ndarray,
    queries: np.ndarray | None = None,
    neighbours: int = NEIGHBOURS,
) -> np.ndarray:
    """Majority label of the nearest labelled vectors; ties go to the more similar side.

    Args:
        vectors: float [n, d]; labels: int [n], below 3.
        queries: float [m, d]; None: the vectors themselves, each without itself (leave one out).
        neighbours: k; at most as many as there are.
    Returns:
        int64 [m].
    """
    there_are = len(vectors) - (queries is None)
    index = NearestNeighbors(
        n_neighbors=min(neighbours, there_are), metric="cosine", algorithm="brute"
    ).fit(normalised(vectors))
    distances, places = index.kneighbors(None if queries is None else normalised(queries))
    of_class = np.asarray(labels)[places][:, :, None] == np.arange(len(LABELS))
    votes = of_class.sum(1)
    similarity = (of_class * (1 - distances)[:, :, None]).sum(1)
    # one vote outweighs any similarity: sums lie in [-k, k]
    return (votes * (2 * neighbours + 1) + similarity).argmax(1)


def alignment(vectors: np.ndarray, labels: np.ndarray) -> float:
    """Mean squared distance between two different texts of one class, over all such pairs.

    With vectors of length 1 the sum over pairs follows from the class's sum: no pair is formed.
    nan if no class has two texts.
    """
    vectors, total, pairs = normalised(vectors), 0.0, 0
    for label in np.unique(labels):
        part = vectors[labels == label]
        count = len(part) * (len(part) - 1)
        total += 2 * count - 2 * ((part.sum(0) ** 2).sum() - (part**2).sum())
        pairs += count
    return float(total / pairs) if pairs else float("nan")


def uniformity(vectors: np.ndarray) -> float:
    """log of the mean of exp(-2 · squared distance) over all pairs of different texts; n >= 2."""
    vectors = normalised(vectors)
    above = np.triu_indices(len(vectors), 1)
    squared = 2 - 2 * (vectors @ vectors.T)[above]
    return float(np.log(np.exp(-2 * squared).mean()))


def silhouettes(vectors: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mean silhouette of each class with the cosine distance: float64 [3].

    nan for a class without texts, and for all if there are not two classes.
    """
    found = np.full(len(LABELS), np.nan)
    present = np.unique(labels)
    if 2 <= len(present) < len(labels):
        values = silhouette_samples(normalised(vectors), labels, metric="cosine")
        found[present] = [values[labels == label].mean() for label in present]
    return found


def centroid_distances(vectors: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """1 - cosine between the classes' mean vectors: float64 [3, 3]; nan for classes without
    texts."""
    vectors = normalised(vectors)
    means = [
        vectors[labels == i].mean(0) if (labels == i).any() else np.full(vectors.shape[1], np.nan)
        for i in range(len(LABELS))
    ]
    unit = normalised(np.array(means))
    return 1 - unit @ unit.T


def compare_spaces(
    vectors: dict[str, np.ndarray],
    labels: np.ndarray,
    *,
    dataset: str,
    split: str,
    samples: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Rows of metrics.json for `base` and `final`: every measure of the module's docstring.

    kNN macro-F1 has a 95% interval and a paired difference; its bootstrap over texts keeps the
    neighbours as they are. Silhouette and uniformity are measured on at most MAX_TEXTS texts, the
    same for both models.

    Args:
        vectors: model -> float [n, d]; labels: int [n].
    """
    labels = np.asarray(labels)
    if len(labels) < 2:
        return []
    about = {"dataset": dataset, "split": split}
    bootstrap = {**about, "samples": samples, "seed": seed}
    count = min(MAX_TEXTS, len(labels))
    chosen = np.sort(np.random.default_rng(seed).choice(len(labels), count, replace=False))
    predicted = {model: knn_predict(space, labels) for model, space in vectors.items()}
    rows = [row for m, p in predicted.items() for row in evaluate(labels, p, model=m, **bootstrap)]
    rows += compare(labels, predicted["base"], predicted["final"], **bootstrap)
    rows = [row | {"name": "knn_macro_f1"} for row in rows if row["name"] == "macro_f1"]
    for model, space in vectors.items():
        values = {"alignment": (alignment(space, labels), len(labels))}
        values["uniformity"] = (uniformity(space[chosen]), count)
        for name, value in zip(LABELS, silhouettes(space[chosen], labels[chosen]), strict=True):
            values[f"silhouette_{name}"] = (value, count)
        distances = centroid_distances(space, labels)
        for i, j in combinations(range(len(LABELS)), 2):
            values[f"centroids_{LABELS[i]}_{LABELS[j]}"] = (distances[i, j], len(labels))
        rows += [
            {"name": name, "model": model, **about, "texts": texts, "value": float(value)}
            for name, (value, texts) in values.items()
            if np.isfinite(value)
        ]
    return rows


def table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """One line per measure, one column per model, with intervals where there are any."""
    cells: dict[str, dict[str, str]] = {}
    for row in rows:
        text = f"{row['value']:.3f}"
        if "low" in row:
            text += f" [{row['low']:.3f}, {row['high']:.3f}]"
        cells.setdefault(row["name"], {})[row["model"]] = text
    return pd.DataFrame.from_dict(cells, orient="index").fillna("")
