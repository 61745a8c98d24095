from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.cluster import KMeans as ReferenceKMeans
from sklearn.datasets import make_blobs

from lib import LABELS
from lib.clustering import (
    KMeans,
    audit,
    check_kept,
    examples,
    fit_kmeans,
    kept_metrics,
    purity_table,
    reliable,
)
from lib.errors import UserError

DEFAULTS = {"iterations": 25, "restarts": 1, "sample": 10**6, "seed": 0}


def fit(vectors: np.ndarray, clusters: int, **changes) -> KMeans:
    return fit_kmeans(vectors.astype(np.float32), clusters, **(DEFAULTS | changes))


def random_predictions(rows: int, clusters: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet([0.5, 0.5, 0.5], size=rows).astype(np.float32)
    return rng.integers(0, clusters, rows), probabilities


@pytest.mark.parametrize("seed", [0, 1])
def test_inertia_is_that_of_scikit_learn(seed):
    vectors, _ = make_blobs(600, n_features=8, centers=12, cluster_std=4.0, random_state=seed)
    found = fit(vectors, 12, iterations=50, restarts=10, seed=seed)
    expected = ReferenceKMeans(12, n_init=10, random_state=seed).fit(vectors).inertia_ / 600
    assert expected * 0.98 <= found.inertia <= expected * 1.02
    assigned, _ = found.assign(vectors.astype(np.float32))
    assert found.inertia == pytest.approx(
        ((vectors - found.centroids[assigned]) ** 2).sum(1).mean(), rel=1e-3
    )


def test_more_lloyd_iterations_do_not_improve_it():
    vectors = np.random.default_rng(0).normal(size=(500, 6))
    found = fit(vectors, 10, iterations=100)
    further = ReferenceKMeans(10, init=found.centroids, n_init=1, max_iter=100).fit(vectors)
    assert further.inertia_ / 500 == pytest.approx(found.inertia, rel=1e-3)


def test_texts_go_to_the_nearest_centre():
    rng = np.random.default_rng(0)
    kmeans = KMeans(rng.normal(size=(7, 5)).astype(np.float32), 0.0)
    vectors = rng.normal(size=(50, 5)).astype(np.float32)
    distances = np.linalg.norm(vectors[:, None] - kmeans.centroids[None], axis=2)
    for chunk in (100_000, 8):
        assigned, distance = kmeans.assign(vectors, chunk=chunk)
        assert (assigned == distances.argmin(1)).all()
        np.testing.assert_allclose(distance, distances.min(1), rtol=1e-4)


def test_the_seed_decides():
    vectors = np.random.default_rng(0).normal(size=(300, 4))
    first, same, other = (fit(vectors, 15, seed=seed, sample=200) for seed in (3, 3, 4))
    assert (first.centroids == same.centroids).all() and first.inertia == same.inertia
    assert (first.centroids != other.centroids).any()


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 60), st.integers(1, 40), st.integers(0, 2**31 - 1), st.booleans())
def test_no_cluster_is_empty(distinct, copies, seed, sampled):
    """As long as there are as many different texts as clusters, down to one text per cluster."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(distinct, 3)).round(2) * 10
    points = np.unique(points, axis=0)
    clusters = int(rng.integers(2, len(points) + 1)) if len(points) > 2 else 2
    repeats = rng.integers(1, copies + 1, len(points))
    vectors = rng.permutation(np.repeat(points, repeats, axis=0))
    sample = max(clusters, len(vectors) // 2) if sampled else 10**6
    kmeans = fit(vectors, clusters, iterations=5, seed=seed, sample=sample)
    assigned, _ = kmeans.assign(vectors.astype(np.float32))
    assert (np.bincount(assigned, minlength=clusters) > 0).all()


def test_no_cluster_is_empty_with_one_text_over_and_over():
    points = np.random.default_rng(0).normal(size=(30, 4)) * np.arange(1, 31)[:, None]
    vectors = np.concatenate([np.zeros((1000, 4)), np.repeat(points, 20, axis=0)])
    kmeans = fit(vectors, 31)
    assigned, _ = kmeans.assign(vectors.astype(np.float32))
    assert len(np.unique(assigned)) == 31


def test_fewer_texts_than_clusters_is_an_error_with_the_numbers():
    with pytest.raises(UserError, match=r"clusters: 20 clusters .*corpus has 12 .*lower clusters"):
        fit(np.zeros((12, 3)), 20)
    with pytest.raises(UserError, match=r"kmeans_sample is 15"):
        fit(np.zeros((100, 3)), 20, sample=15)


def test_saved_and_loaded_again(tmp_path):
    kmeans = fit(np.random.default_rng(0).normal(size=(40, 4)), 5)
    kmeans.save(tmp_path / "kmeans.npz")
    loaded = KMeans.load(tmp_path / "kmeans.npz")
    assert (loaded.centroids == kmeans.centroids).all() and loaded.inertia == kmeans.inertia
    assert [p.name for p in tmp_path.iterdir()] == ["kmeans.npz"]


@given(
    hnp.arrays(np.int64, st.shared(st.integers(1, 50), key="n"), elements=st.integers(0, 5)),
    hnp.arrays(
        np.float64,
        st.tuples(st.shared(st.integers(1, 50), key="n"), st.just(3)),
        elements=st.floats(0.01, 1),
    ),
)
def test_purity_equals_a_count_by_hand(assigned, probabilities):
    table = purity_table(assigned, probabilities, 6)
    assert len(table) == 6 and table["size"].sum() == len(assigned)
    for cluster in range(6):
        rows = [probabilities[i] for i in range(len(assigned)) if assigned[i] == cluster]
        votes = [int(np.argmax(row)) for row in rows]
        line = table.loc[cluster]
        assert line["size"] == len(rows)
        assert [line[name] for name in LABELS] == [votes.count(i) for i in range(3)]
        if not rows:
            assert np.isnan(line["purity"])
            continue
        assert line["purity"] == max(votes.count(i) for i in range(3)) / len(rows)
        assert 1 / 3 <= line["purity"] <= 1
        assert votes.count(int(line["dominant"])) == max(votes.count(i) for i in range(3))
        assert line["mean_confidence"] == pytest.approx(np.mean([max(row) for row in rows]))


@pytest.mark.parametrize("require_dominant", [True, False])
@pytest.mark.parametrize("min_purity, min_confidence", [(0.4, 0.6), (0.5, 0.0), (0.0, 0.9)])
def test_reliable_equals_a_loop(require_dominant, min_purity, min_confidence):
    assigned, probabilities = random_predictions(300, 12, seed=0)
    table = purity_table(assigned, probabilities, 13)  # cluster 12 is empty: purity NaN
    kept = reliable(
        assigned,
        probabilities,
        table,
        min_purity=min_purity,
        min_confidence=min_confidence,
        require_dominant=require_dominant,
    )
    expected = []
    for cluster, row in zip(assigned, probabilities, strict=True):
        line = table.loc[cluster]
        good = line["purity"] >= min_purity and row.max() >= min_confidence
        expected.append(good and (not require_dominant or row.argmax() == line["dominant"]))
    assert kept.tolist() == expected
    assert 0 < kept.sum() < len(kept)


def test_values_exactly_at_the_thresholds_are_kept():
    probabilities = np.array(
        [[0.8, 0.1, 0.1], [0.9, 0.1, 0.0], [0.79, 0.2, 0.01], [0.0, 0.1, 0.9]], dtype=np.float32
    )
    assigned = np.zeros(4, dtype=int)  # one cluster, three of four negative
    table = purity_table(assigned, probabilities, 1)
    settings = {"min_confidence": 0.8, "require_dominant": True}
    kept = reliable(assigned, probabilities, table, min_purity=0.75, **settings)
    assert kept.tolist() == [True, True, False, False]
    assert not reliable(assigned, probabilities, table, min_purity=0.76, **settings).any()


def test_check_kept_names_the_class_that_is_gone():
    predicted = np.array([0, 0, 1, 2])
    check_kept(np.array([True, False, True, True]), predicted)
    with pytest.raises(UserError, match=r"class positive passed.*'negative': 2.*lower min_purity"):
        check_kept(np.array([True, True, True, False]), predicted)
    with pytest.raises(UserError, match="class negative, neutral, positive"):
        check_kept(np.zeros(4, dtype=bool), predicted)


def test_examples_are_the_texts_nearest_to_the_centre():
    frame = pd.DataFrame(
        {
            "text": ["далёкий", "близкий", "средний", "чужой", "очень " * 50],
            "cluster": [4, 4, 4, 2, 1],
            "distance": [0.9, 0.1, 0.5, 0.2, 0.3],
        }
    )
    table = pd.DataFrame(
        {
            "size": [0, 1, 1, 0, 3],
            "purity": [np.nan, 1.0, 1.0, np.nan, 2 / 3],
            "dominant": [0, 1, 2, 0, 0],
        }
    ).rename_axis("cluster")
    shown = examples(frame, table, [4, 1], count=2)
    assert shown["cluster"].tolist() == [4, 1]
    assert shown["dominant"].tolist() == ["negative", "neutral"]
    assert shown["size"].tolist() == [3, 1]
    assert shown["texts"][0] == "— близкий\n— средний"
    assert len(shown["texts"][1]) <= 165  # long texts are cut


def test_audit_equals_a_loop_and_feeds_the_metrics():
    rng = np.random.default_rng(0)
    predicted = rng.integers(0, 3, 200)
    known = pd.Series(rng.choice([0.0, 1.0, 2.0, np.nan], 200)).astype("Int64")
    kept = rng.random(200) < 0.4
    sources = pd.Series(rng.choice(["отзывы", "соцсети", "без меток"], 200))
    known[sources == "без меток"] = pd.NA
    kept[(sources == "соцсети").to_numpy()] = False
    table = audit(predicted, known, kept, sources)
    assert table["source"].tolist() == ["отзывы", "соцсети"]
    for row in table.itertuples(index=False):
        here = [i for i in range(200) if sources[i] == row.source and not pd.isna(known[i])]
        chosen = [i for i in here if kept[i]]
        assert (row.texts, row.kept) == (len(here), len(chosen))
        assert row.agreement == pytest.approx(np.mean([predicted[i] == known[i] for i in here]))
        if chosen:
            share = np.mean([predicted[i] == known[i] for i in chosen])
            assert row[4] == pytest.approx(share)
        else:
            assert row[4] is None or np.isnan(row[4])

    rows = kept_metrics(pd.DataFrame({"predicted": predicted, "kept": kept}), table)
    values = {(row["name"], row["dataset"]): row["value"] for row in rows}
    assert values["kept_share", "corpus"] == pytest.approx(kept.mean())
    assert sum(values[f"kept_{name}", "corpus"] for name in LABELS) == kept.sum()
    assert values["agreement_of_kept", "отзывы"] == pytest.approx(table["agreement of kept"][0])
    assert ("agreement", "соцсети") in values
    assert ("agreement_of_kept", "соцсети") not in values


def test_audit_without_any_audit_label_is_empty():
    nothing = pd.Series([pd.NA, pd.NA], dtype="Int64")
    table = audit(np.array([0, 1]), nothing, np.array([True, True]), pd.Series(["а", "б"]))
    assert table.empty and "agreement of kept" in table.columns
