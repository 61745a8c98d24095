from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import make_blobs
from sklearn.metrics import silhouette_score

from lib.cluster_count import compare_cluster_counts
from lib.kmeans import fit_kmeans
from lib.purity import purity_table
from lib.reliability import reliable

KMEANS = {"iterations": 50, "restarts": 3, "sample": 10**6, "seed": 0}
FILTER = {"min_purity": 0.8, "min_confidence": 0.5, "require_dominant": True}


@pytest.fixture(scope="module")
def blobs() -> tuple[np.ndarray, np.ndarray]:
    """Six far blobs of one class each: vectors and confident probabilities."""
    vectors, blob = make_blobs(300, centers=np.eye(6) * 20, cluster_std=0.3, random_state=0)
    probabilities = np.full((300, 3), 0.1, dtype=np.float32)
    probabilities[np.arange(300), blob % 3] = 0.8
    return vectors.astype(np.float32), probabilities


def test_each_row_is_that_of_one_fit(blobs):
    vectors, probabilities = blobs
    table = compare_cluster_counts(vectors, probabilities, [3, 6], filter_options=FILTER, **KMEANS)
    assert table["clusters"].tolist() == [3, 6]
    for row in table.itertuples():
        kmeans, assigned, _ = fit_kmeans(vectors, row.clusters, **KMEANS)
        purity = purity_table(assigned, probabilities, row.clusters)
        assert row.inertia == kmeans.inertia
        assert row.silhouette == pytest.approx(silhouette_score(vectors, assigned))
        assert row.mean_purity == pytest.approx(purity["purity"].to_numpy()[assigned].mean())
        bound = purity["purity_lower_bound"].to_numpy()[assigned].mean()
        assert row.mean_purity_lower_bound == pytest.approx(bound)
        assert row.kept_share == reliable(assigned, probabilities, purity, **FILTER).mean()


def test_the_silhouette_finds_the_true_number(blobs):
    table = compare_cluster_counts(*blobs, [2, 4, 6, 12], filter_options=FILTER, **KMEANS)
    assert table.loc[table["silhouette"].idxmax(), "clusters"] == 6
    assert (table["inertia"].diff().dropna() < 0).all()
    assert table.set_index("clusters").loc[6, ["mean_purity", "kept_share"]].min() == pytest.approx(
        1
    )


def test_nothing_to_compare_is_an_empty_table(blobs):
    assert compare_cluster_counts(*blobs, [], filter_options=FILTER, **KMEANS).empty
