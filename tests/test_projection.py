from __future__ import annotations

import numpy as np
import pytest

from lib.projection import compiled_umap, read_map, umap_points, write_map


@pytest.mark.slow
def test_umap_separates_what_is_apart_and_repeats_itself():
    rng = np.random.default_rng(0)
    centres = np.repeat([[0.0] * 6, [20.0] * 6], 30, axis=0)
    vectors = (centres + rng.normal(size=(60, 6))).astype(np.float16)
    points = umap_points(vectors, neighbors=10, seed=0)
    assert points.shape == (60, 2) and np.isfinite(points).all()
    first, second = points[:30], points[30:]
    between = np.linalg.norm(first.mean(0) - second.mean(0))
    assert between > 2 * max(first.std(0).max(), second.std(0).max())
    assert (points == umap_points(vectors, neighbors=10, seed=0)).all()
    few = umap_points(vectors[:20], neighbors=50, seed=0)  # fewer texts than neighbours
    assert few.shape == (20, 2)
    twins = umap_points(np.repeat(vectors[:20], 5, axis=0), neighbors=10, seed=0)
    assert np.isfinite(twins).all()  # the nearest neighbour of each text need not be itself
    compiled = compiled_umap().umap_.smooth_knn_dist.stats
    assert compiled.cache_hits or compiled.cache_misses, "compiled again in every process"


def test_a_map_comes_back_as_written(tmp_path):
    rows = np.array([0, 3, 12])
    points = np.array([[0.5, 1], [2, 3], [-1, 4]], dtype=np.float32)
    write_map(tmp_path / "umap.parquet", rows, points)
    found_rows, found = read_map(tmp_path / "umap.parquet")
    assert found_rows.tolist() == rows.tolist()
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, points)
