from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import make_blobs

from lib.clusters import counts, kmeans
from lib.clusters.filter import passes
from lib.clusters.purity import purity_table

FILTER = {"min_purity": 0.8, "min_confidence": 0.5}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Six far blobs of one class each: vectors, probabilities, folders of finished K-Means."""
    vectors, blob = make_blobs(300, centers=np.eye(6) * 20, cluster_std=0.3, random_state=0)
    probabilities = np.full((300, 3), 0.1, dtype=np.float32)
    probabilities[np.arange(300), blob % 3] = 0.8
    folder = tmp_path_factory.mktemp("kmeans")
    np.save(folder / "reduced.npy", vectors.astype(np.float32))
    options = {"vectors": folder / "reduced.npy", "restarts": 3, "sample": 10**6, "seed": 0}
    folders = {count: folder / str(count) for count in (2, 4, 6, 12)}
    for count, part in folders.items():
        part.mkdir()
        kmeans.cluster(part, clusters=count, **options)
    about = {"predicted": probabilities.argmax(1), "confidence": probabilities.max(1)}
    return folders, vectors.astype(np.float32), probabilities, pd.DataFrame(about)


def test_each_row_is_that_of_its_clusters(world):
    folders, vectors, probabilities, texts = world
    table = counts.compare(folders, texts, probabilities, **FILTER)
    assert table["clusters"].tolist() == [2, 4, 6, 12]
    for row in table.itertuples():
        assigned = np.load(folders[row.clusters] / "assigned.npy")
        purity = purity_table(assigned, probabilities, row.clusters)
        centres = np.stack([vectors[assigned == c].mean(0) for c in range(row.clusters)])
        inertia = ((vectors - centres[assigned]) ** 2).sum(1).mean()
        assert row.inertia == pytest.approx(inertia, rel=1e-3)
        assert row.mean_purity == pytest.approx(purity["purity"].to_numpy()[assigned].mean())
        bound = purity["purity_lower_bound"].to_numpy()[assigned].mean()
        assert row.mean_purity_lower_bound == pytest.approx(bound)
        assert row.kept_share == passes(texts.assign(cluster=assigned), purity, **FILTER).mean()


def test_the_true_number_is_pure(world):
    folders, _, probabilities, texts = world
    table = counts.compare(folders, texts, probabilities, **FILTER)
    assert (table["inertia"].diff().dropna() < 0).all()
    best = table.set_index("clusters").loc[6, ["mean_purity", "kept_share"]]
    assert best.min() == pytest.approx(1)
