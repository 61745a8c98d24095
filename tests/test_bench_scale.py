from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib.__main__ import main
from lib.bench.scale import STAGES, run_stages, write_simulated_bank
from lib.bench.simulation import Mixture
from lib.embedding import read_bank
from lib.kmeans import KMeans
from lib.pca import PCA

OPTIONS = {"pca": 8, "clusters": 20, "seed": 0}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_simulated_bank(tmp_path / "bank", 1200, 24, seed=0, components=30, shard_size=500)
    return tmp_path


def test_the_mixture_has_clusters_and_comes_back_with_its_seed():
    mixture = Mixture(dimensions=16, components=5, seed=3)
    vectors, drawn = next(mixture.chunks(2000))
    assert vectors.shape == (2000, 16) and vectors.dtype == np.float32
    for component in range(5):
        mean = vectors[drawn == component].mean(0)
        np.testing.assert_allclose(mean, mixture.centres[component], atol=0.4)
    parts = list(Mixture(16, 5, seed=3).chunks(4500, chunk=2000))
    assert [len(part) for part, _ in parts] == [2000, 2000, 500]
    assert (parts[0][0] == vectors).all() and (parts[1][0] != vectors).any()


def test_the_bank_is_read_as_that_of_step_03(folder):
    shards = list(read_bank(folder / "bank"))
    assert [len(shard.text_id) for shard in shards] == [500, 500, 200]
    probabilities = np.concatenate([shard.probabilities for shard in shards])
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    assert shards[0].embedding.dtype == np.float16 and probabilities.dtype == np.float32


def test_every_stage_leaves_its_file_and_figures(folder):
    done = run_stages(folder, **OPTIONS)
    assert list(done) == list(STAGES) and json.loads((folder / "done.json").read_text()) == done
    reduced = np.load(folder / "reduced.npy")
    vectors = np.concatenate([shard.embedding for shard in read_bank(folder / "bank")])
    expected = PCA.load(folder / "pca.npz").transform(vectors)
    np.testing.assert_allclose(reduced, expected, atol=1e-5)
    assigned = np.load(folder / "clusters.npy")
    centroids = np.stack([reduced[assigned == cluster].mean(0) for cluster in range(20)])
    again, _ = KMeans(centroids, 0.0).assign(reduced)
    assert (again == assigned).mean() > 0.9
    table = pd.read_parquet(folder / "purity.parquet")
    assert table["size"].sum() == 1200 and done["cluster"]["empty"] == 0
    assert np.load(folder / "kept.npy").mean() == done["filter"]["kept_share"] > 0


def test_a_finished_stage_is_not_run_again(folder):
    first = run_stages(folder, **OPTIONS)
    content = json.loads((folder / "done.json").read_text())
    del content["filter"]
    (folder / "done.json").write_text(json.dumps(content))
    (folder / "bank" / "shard-00000.safetensors").touch()
    pca_time = (folder / "pca.npz").stat().st_mtime_ns
    second = run_stages(folder, **OPTIONS)
    assert (folder / "pca.npz").stat().st_mtime_ns == pca_time
    assert second["cluster"] == first["cluster"]
    assert second["filter"]["kept_share"] == first["filter"]["kept_share"]


@pytest.mark.slow
def test_a_killed_run_goes_on(folder):
    """Killed as soon as its first stage is done; the second run ends with the same figures."""
    arguments = ["--work", str(folder), "--pca", "8", "--clusters", "20"]
    command = [sys.executable, "-m", "lib", "bench", "scale", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (folder / "done.json").exists() and time.monotonic() < deadline:
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = json.loads((folder / "done.json").read_text())
    assert "pca" in before and process.returncode == -signal.SIGKILL
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    after = json.loads((folder / "done.json").read_text())
    assert list(after) == list(STAGES) and after["pca"] == before["pca"]
    (folder / "done.json").unlink()
    whole = run_stages(folder, **OPTIONS)
    for stage in STAGES:
        figures = {k: v for k, v in whole[stage].items() if k not in ("seconds", "peak_gib")}
        assert figures == {k: after[stage][k] for k in figures}


def test_the_command_prints_a_row(capfd):
    arguments = ["--points", "600", "--dim", "24", "--pca", "8", "--clusters", "20"]
    assert main(["bench", "scale", *arguments]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[-2].split()[0] == "points" and "peak" in lines[-2]
    values = lines[-1].split()
    assert values[0] == "600" and 0 < float(values[-3]) < 4  # GiB
