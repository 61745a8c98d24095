from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib import space_quality
from lib.evaluation import macro_f1

ABOUT = {"dataset": "gold", "split": "test", "samples": 200, "seed": 0}


def space(count: int, seed: int, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    return np.eye(3, 6)[labels] * 2 + rng.normal(size=(count, 6)) * spread, labels


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("neighbours", [1, 4, 10])
def test_knn_is_that_of_a_loop(neighbours):
    vectors, labels = space(60, seed=neighbours)
    found = space_quality.knn_predict(vectors, labels, neighbours=neighbours)
    for i in range(len(vectors)):
        alike = sorted(
            ((cosine(vectors[i], vectors[j]), labels[j]) for j in range(60) if j != i),
            reverse=True,
        )[:neighbours]
        votes = [
            (sum(n == c for _, n in alike), sum(s for s, n in alike if n == c)) for c in range(3)
        ]
        assert found[i] == max(range(3), key=lambda c: votes[c])


def test_knn_from_train_to_test():
    vectors, labels = space(80, seed=1, spread=0.2)
    found = space_quality.knn_predict(vectors[:50], labels[:50], vectors[50:] * 7, neighbours=5)
    assert found.tolist() == labels[50:].tolist()
    itself = space_quality.knn_predict(vectors[:50], labels[:50], vectors[:50], neighbours=1)
    assert itself.tolist() == labels[:50].tolist()


def test_fewer_texts_than_neighbours():
    vectors = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
    assert space_quality.knn_predict(vectors, np.array([0, 0, 1])).tolist() == [0, 0, 0]


@given(st.integers(3, 25), st.integers(0, 100))
@settings(max_examples=40)
def test_alignment_and_uniformity_are_those_of_all_pairs(count, seed):
    vectors, labels = space(count, seed)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = [(i, j, ((unit[i] - unit[j]) ** 2).sum()) for i, j in combinations(range(count), 2)]
    same = [squared for i, j, squared in pairs if labels[i] == labels[j]]
    found = space_quality.alignment(vectors, labels)
    assert np.isnan(found) if not same else found == pytest.approx(np.mean(same))
    expected = np.log(np.mean([np.exp(-2 * squared) for *_, squared in pairs]))
    assert space_quality.uniformity(vectors) == pytest.approx(expected)
    assert space_quality.uniformity(vectors * 3) == pytest.approx(expected)  # length is no matter


def test_silhouette_by_hand():
    """Cosine distances: 0 within a class, 1 to the other class; the last text is on its own."""
    vectors = np.array([[2.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 5.0], [0.0, 1.0]])
    found = space_quality.silhouettes(vectors, np.array([0, 0, 1, 1, 2]))
    # class 1 lies at distance 0 from the text of class 2: silhouette 0; a class of one has 0
    np.testing.assert_allclose(found, [1, 0, 0], atol=1e-9)
    one_class = space_quality.silhouettes(vectors, np.zeros(5, dtype=int))
    assert np.isnan(one_class).all()


def test_centroid_distances_by_hand():
    vectors = np.array([[1.0, 0.0], [0.0, 3.0], [-1.0, 0.0], [-2.0, 0.0]])
    found = space_quality.centroid_distances(vectors, np.array([0, 1, 2, 2]))
    np.testing.assert_allclose(found, [[0, 1, 2], [1, 0, 1], [2, 1, 0]], atol=1e-12)
    missing = space_quality.centroid_distances(vectors, np.array([0, 0, 2, 2]))
    assert np.isnan(missing[1]).all() and missing[0, 2] == pytest.approx(1 + np.sqrt(0.5))


def test_a_tighter_space_is_better_by_every_measure():
    loose, labels = space(150, seed=0, spread=1.0)
    tight, _ = space(150, seed=0, spread=0.2)
    rows = space_quality.compare_spaces({"base": loose, "final": tight}, labels, **ABOUT)
    values = {(row["name"], row["model"]): row["value"] for row in rows}
    for name in ("knn_macro_f1", "silhouette_negative", "centroids_negative_positive"):
        assert values[name, "final"] > values[name, "base"], name
    assert values["alignment", "final"] < values["alignment", "base"]
    assert values["uniformity", "final"] > values["uniformity", "base"]  # what it costs
    predicted = space_quality.knn_predict(loose, labels)
    assert values["knn_macro_f1", "base"] == pytest.approx(macro_f1(labels, predicted))
    difference = next(r for r in rows if r["model"] == "final - base")
    assert difference["low"] < difference["value"] < difference["high"]
    shown = space_quality.table(rows)
    assert shown.loc["alignment", "final - base"] == ""
    assert shown.loc["knn_macro_f1", "final"].startswith(f"{values['knn_macro_f1', 'final']:.3f} [")
    assert len(shown) == 1 + 2 + 3 + 3


def test_a_missing_class_leaves_its_measures_out():
    vectors, labels = space(40, seed=0)
    labels[labels == 1] = 0
    rows = space_quality.compare_spaces({"base": vectors, "final": vectors}, labels, **ABOUT)
    names = {row["name"] for row in rows}
    assert "silhouette_neutral" not in names and "centroids_negative_positive" in names
    assert not {name for name in names if name.startswith("centroids") and "neutral" in name}
    assert all(np.isfinite(row["value"]) for row in rows)
    assert space_quality.compare_spaces({"base": vectors[:1]}, labels[:1], **ABOUT) == []


def test_large_sets_are_sampled(monkeypatch):
    vectors, labels = space(90, seed=0)
    monkeypatch.setattr(space_quality, "MAX_TEXTS", 40)
    rows = space_quality.compare_spaces({"base": vectors, "final": vectors}, labels, **ABOUT)
    texts = {row["name"]: row["texts"] for row in rows}
    assert texts["uniformity"] == texts["silhouette_neutral"] == 40
    assert texts["alignment"] == texts["knn_macro_f1"] == 90
