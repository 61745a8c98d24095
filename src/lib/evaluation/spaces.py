"""Both models' embedding spaces: their maps, and how far distance alone tells the classes apart.

- kNN macro-F1: each text gets the majority label of its nearest other texts (cosine). No classifier
  is trained, so the space alone is measured.
- Silhouette (Rousseeuw 1987): mean of (b - a) / max(a, b) with a the mean cosine distance to the
  text's own class and b to the nearest other class; 1 is far apart, 0 overlaps.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import silhouette_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import normalize

from lib.clusters.map import umap_points
from lib.files import write_parquet
from lib.metrics import compare, evaluate

NEIGHBOURS = 10
MAX_TEXTS = 3000  # of the silhouette: its time and memory grow with the square


def project(folder: Path, *, predictions: Path, points: int, seed: int) -> None:
    """Write umap.parquet: row in the gold test table, and a UMAP <model>_x, _y for each model.

    Args:
        predictions: folder of `lib.evaluation.comparison.predict`.
        points: so many texts, drawn by `seed`; all if there are fewer.
    """
    vectors = read_vectors(predictions)
    count = len(vectors["base"])
    rows = np.random.default_rng(seed).permutation(count)[:points]
    frame = pd.DataFrame({"row": np.sort(rows)})
    for model, space in vectors.items():
        frame[f"{model}_x"], frame[f"{model}_y"] = umap_points(space[frame["row"]], seed).T
    write_parquet(folder / "umap.parquet", frame)


def read_vectors(predictions: Path) -> dict[str, np.ndarray]:
    """Model -> pooled vectors of the gold test texts, float32 [n, d]."""
    with np.load(predictions / "vectors.npz") as arrays:
        return {name: arrays[name].astype(np.float32) for name in arrays.files}


def knn_predict(vectors: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Majority label of each vector's NEIGHBOURS nearest other ones; ties go to the nearer side.

    Args:
        vectors: float [n, d], n >= 2; labels: int [n].
    Returns:
        int64 [n].
    """
    model = KNeighborsClassifier(
        min(NEIGHBOURS, len(vectors) - 1),
        metric="cosine",
        # a vote less a little for its distance, in all votes together less than one vote
        weights=lambda distances: 1 - distances / (4 * NEIGHBOURS),
    )
    return model.fit(normalize(vectors), labels).predict(None)


def compare_spaces(
    vectors: dict[str, np.ndarray], labels: np.ndarray, *, samples: int, seed: int, **about: str
) -> list[dict[str, Any]]:
    """Rows of metrics.json for `base` and `final`: knn_macro_f1 and silhouette.

    kNN macro-F1 has a 95% interval and a paired difference; its bootstrap over texts keeps the
    neighbours as they are. The silhouette takes at most MAX_TEXTS texts, the same for both.

    Args:
        vectors: model -> float [n, d]; labels: int [n], of two classes or more.
        about: dataset and split.
    """
    bootstrap: dict[str, Any] = {**about, "samples": samples, "seed": seed}
    predicted = {model: knn_predict(space, labels) for model, space in vectors.items()}
    rows = [row for m, p in predicted.items() for row in evaluate(labels, p, model=m, **bootstrap)]
    rows += compare(labels, predicted["base"], predicted["final"], **bootstrap)
    rows = [row | {"name": "knn_macro_f1"} for row in rows if row["name"] == "macro_f1"]
    count = min(len(labels), MAX_TEXTS)
    sample: dict[str, Any] = {"metric": "cosine", "sample_size": count, "random_state": seed}
    for model, space in vectors.items():
        value = float(silhouette_score(space, labels, **sample))
        row = {"name": "silhouette", "model": model, **about, "texts": count, "value": value}
        rows.append(row)
    return rows
