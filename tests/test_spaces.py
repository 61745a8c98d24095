from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from lib.evaluation import spaces

OPTIONS = {"dataset": "gold", "split": "test", "samples": 200, "seed": 0}


def space(count: int, seed: int, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    return np.eye(3, 6)[labels] * 2 + rng.normal(size=(count, 6)) * spread, labels


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_knn_is_that_of_a_loop():
    vectors, labels = space(80, seed=3, spread=2.0)
    found = spaces.knn_predict(vectors, labels)
    ties = 0
    for i in range(len(vectors)):
        alike = sorted(
            ((cosine(vectors[i], vectors[j]), labels[j]) for j in range(80) if j != i),
            reverse=True,
        )[: spaces.NEIGHBOURS]
        votes = [
            (sum(n == c for _, n in alike), sum(s for s, n in alike if n == c)) for c in range(3)
        ]
        ties += sorted(votes)[-1][0] == sorted(votes)[-2][0]
        assert found[i] == max(range(3), key=lambda c: votes[c])
    assert ties > 0


def test_fewer_texts_than_neighbours():
    vectors = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
    assert spaces.knn_predict(vectors, np.array([0, 0, 1])).tolist() == [0, 0, 0]


def test_silhouette_by_hand():
    """Cosine distances: 0 within a class, 1 to the other class; the last text is on its own."""
    vectors = np.array([[2.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 5.0], [0.0, 1.0]])
    labels = np.array([0, 0, 1, 1, 2])
    rows = spaces.compare_spaces({"base": vectors, "final": vectors}, labels, **OPTIONS)
    (found,) = (r["value"] for r in rows if r["name"] == "silhouette" and r["model"] == "base")
    # class 1 lies at distance 0 from the text of class 2: silhouette 0; a class of one has 0
    assert found == pytest.approx(2 / 5)


def test_a_tighter_space_is_better(monkeypatch):
    loose, labels = space(150, seed=0, spread=1.0)
    tight, _ = space(150, seed=0, spread=0.2)
    monkeypatch.setattr(spaces, "MAX_TEXTS", 100)
    rows = spaces.compare_spaces({"base": loose, "final": tight}, labels, **OPTIONS)
    values = {(row["name"], row["model"]): row["value"] for row in rows}
    for name in ("knn_macro_f1", "silhouette"):
        assert values[name, "final"] > values[name, "base"], name
    expected = f1_score(labels, spaces.knn_predict(loose, labels), average="macro")
    assert values["knn_macro_f1", "base"] == pytest.approx(expected)
    (difference,) = [r for r in rows if r["model"] == "final - base"]
    assert difference["low"] <= difference["value"] <= difference["high"]
    texts = {row["name"]: row["texts"] for row in rows}
    assert texts["silhouette"] == 100 and texts["knn_macro_f1"] == 150


def test_the_map_shows_a_sample_of_both_spaces(tmp_path, monkeypatch):
    vectors, _ = space(50, seed=0)
    halves = {"base": vectors.astype(np.float16), "final": -vectors.astype(np.float16)}
    np.savez(tmp_path / "vectors.npz", **halves)
    # what UMAP does is tested with it; here: which texts it is given, and where they go
    monkeypatch.setattr(spaces, "umap_points", lambda rows, seed: rows[:, :2] + seed)
    for seed in (1, 1, 2):
        spaces.project(tmp_path, predictions=tmp_path, points=20, seed=seed)
        frame = pd.read_parquet(tmp_path / "umap.parquet")
        rows = frame["row"].to_numpy()
        assert len(frame) == 20 and (np.diff(rows) > 0).all() and rows.max() < 50
        for model in halves:
            found = frame[[f"{model}_x", f"{model}_y"]] - seed
            np.testing.assert_allclose(found, halves[model][rows, :2], atol=1e-3)
    spaces.project(tmp_path, predictions=tmp_path, points=5000, seed=0)
    assert len(pd.read_parquet(tmp_path / "umap.parquet")) == 50
