from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.clusters.map import project, read_map, stratified_sample, umap_points


@pytest.mark.slow
def test_umap_separates_what_is_apart_and_repeats_itself(tmp_path):
    rng = np.random.default_rng(0)
    centres = np.repeat([[0.0] * 6, [20.0] * 6], 30, axis=0)
    vectors = (centres + rng.normal(size=(60, 6))).astype(np.float32)
    np.save(tmp_path / "reduced.npy", vectors)
    np.save(tmp_path / "assigned.npy", np.arange(60) % 3)
    paths = {"vectors": tmp_path / "reduced.npy", "assigned": tmp_path / "assigned.npy"}
    project(tmp_path, **paths, points=50, seed=0)
    rows, points = read_map(tmp_path / "umap.parquet")
    assert len(rows) == 50 and points.shape == (50, 2) and points.dtype == np.float32
    first, second = points[rows < 30], points[rows >= 30]
    between = np.linalg.norm(first.mean(0) - second.mean(0))
    assert between > 2 * max(first.std(0).max(), second.std(0).max())
    assert (points == umap_points(vectors[rows], seed=0)).all()
    assert umap_points(vectors[:10], seed=0).shape == (10, 2)  # fewer texts than neighbours
    twins = umap_points(np.repeat(vectors[:20], 5, axis=0), seed=0)
    assert np.isfinite(twins).all()  # the nearest neighbour of each text need not be itself


@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=12),
    count=st.integers(1, 400),
    seed=st.integers(0, 1000),
)
def test_a_stratified_sample_gives_every_cluster_its_share(sizes, count, seed):
    assigned = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    rows = stratified_sample(assigned, count, seed)
    assert len(rows) == min(count, len(assigned)) and (np.diff(rows) > 0).all()
    assert (rows == stratified_sample(assigned, count, seed)).all()
    drawn = np.bincount(assigned[rows], minlength=len(sizes))
    if count <= len(sizes):
        assert drawn.max() == 1
    elif count < len(assigned):
        assert (drawn >= 1).all()
        # the texts after the first are shared out in proportion, up to rounding
        expected = (count - len(sizes)) * np.array(sizes) / len(assigned)
        assert (np.abs(drawn - 1 - expected) <= 1 + len(sizes) * expected.max() / count + 1).all()


def test_the_seed_decides_which_texts_are_drawn():
    assigned = np.zeros(1000, dtype=int)
    first, other = stratified_sample(assigned, 100, 0), stratified_sample(assigned, 100, 1)
    assert (first != other).any() and len(np.unique(first)) == 100
