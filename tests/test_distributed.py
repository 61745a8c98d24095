"""Two local processes under `accelerate launch`, against one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import jobs
from conftest import SENTENCES
from lib import code, distributed, headless, params, runner
from lib.artifacts import read_json, read_metrics
from lib.encoder import load_classifier, new_classifier, save_classifier
from lib.errors import UserError
from lib.inference import predict

ON = {"dtype": torch.float32, "device": torch.device("cpu")}


def launch(*job: str | Path) -> subprocess.CompletedProcess:
    """Run a script or `-m module` with its arguments in two processes."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu"]
    command += ["--num_processes", "2", "--num_machines", "1", "--main_process_port", "0"]
    command += ["--mixed_precision", "no", "--dynamo_backend", "no"]
    return subprocess.run(
        [*command, *map(str, job)],
        capture_output=True,
        text=True,
        timeout=180,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def run_job(job: str, *paths: Path) -> None:
    done = launch(jobs.__file__, job, *paths)
    assert done.returncode == 0, done.stderr


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint) -> Path:
    return Path(tiny_checkpoint)


@pytest.fixture(scope="module")
def base(tiny_checkpoint, tmp_path_factory) -> Path:
    """A saved classifier, as 02 leaves it."""
    directory = tmp_path_factory.mktemp("base") / "model"
    save_classifier(
        new_classifier(tiny_checkpoint, pooling="mean", max_tokens=64, seed=0), directory
    )
    return directory


def test_one_process_is_the_whole_job():
    assert (distributed.index(), distributed.count(), distributed.is_main()) == (0, 1, True)
    assert list(distributed.own_share("абв")) == ["а", "б", "в"]
    value = torch.ones(2, requires_grad=True)
    assert distributed.add_up(value) is value
    value.grad = torch.tensor([1.0, 2.0])
    distributed.average_gradients([value])
    assert value.grad.tolist() == [1.0, 2.0]


@pytest.mark.slow
def test_two_processes_write_the_bank_of_one_and_a_death_costs_one_shard(checkpoint, tmp_path):
    jobs.embed(checkpoint, tmp_path / "one")
    died = launch(jobs.__file__, "embed_and_die", checkpoint, tmp_path / "two")
    assert died.returncode != 0
    left = contents(tmp_path / "two")
    left = {name: content for name, content in left.items() if name.startswith("shard-")}
    assert "shard-00001.safetensors" in left  # what the dead process had finished
    assert "shard-00003.safetensors" not in left
    times = {name: (tmp_path / "two" / name).stat().st_mtime_ns for name in left}
    for stray in (tmp_path / "two").glob(".*"):
        stray.unlink()  # as `open_step` does
    run_job("embed", checkpoint, tmp_path / "two")
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    assert times == {name: (tmp_path / "two" / name).stat().st_mtime_ns for name in left}


@pytest.mark.slow
def test_two_processes_train_the_model_of_one(base, tmp_path):
    jobs.train(base, tmp_path / "one")
    run_job("train", base, tmp_path / "two")
    one, two = (pd.read_csv(tmp_path / name / "history.csv") for name in ("one", "two"))
    assert one["train_metric_loss"].iloc[0] > 0.1
    pd.testing.assert_frame_equal(one, two, rtol=1e-3, atol=1e-4)
    few = [pd.read_csv(tmp_path / name / "one_text.csv") for name in ("one", "two")]
    pd.testing.assert_frame_equal(*few, rtol=1e-4, atol=1e-5)
    assert sorted(contents(tmp_path / "two" / "model")) == sorted(
        contents(tmp_path / "one" / "model")
    )
    found = []
    for path in (base, tmp_path / "one" / "model", tmp_path / "two" / "model"):
        encoder = load_classifier(path, 64)
        found.append(predict(encoder, encoder.tokenize(SENTENCES), **ON)[0])
    before, one, two = found
    np.testing.assert_allclose(two, one, atol=2e-3)
    assert np.abs(one - before).max() > 0.02  # it did learn


def test_steps_with_a_long_part():
    for name in ("02_base_classifier", "03_embed_corpus", "05_metric_learning"):
        source = "".join(headless.long_part(name)[-1]["source"])
        assert "fit(" in source or "write_bank(" in source or "train_candidate(" in source
    with pytest.raises(UserError, match="04_cluster_purity has no part for several processes"):
        headless.long_part("04_cluster_purity")


@pytest.mark.slow
def test_the_notebooks_find_the_work_of_two_processes_done(tiny_checkpoint, tmp_path):
    """02 and 03 of the command line, then the same steps by Papermill."""
    changes = [f"base_model={tiny_checkpoint}", "run=two", "epochs=1", "evaluations_per_epoch=2"]
    changes += ["device=cpu", "precision=float32", "pca_dimensions=8", "max_tokens=64"]
    demo = code.PROJECT / "params" / "demo.yaml"
    loaded = params.load(demo, changes)
    options = ["--outputs", tmp_path, *(word for change in changes for word in ("-p", change))]
    assert runner.run(loaded, outputs=tmp_path, only="01") == 0
    for step in ("02_base_classifier", "03_embed_corpus"):
        done = launch("-m", "lib", "step", step, demo, *options)
        assert done.returncode == 0, done.stderr
        folder = tmp_path / "two" / step
        assert not (folder / "manifest.json").exists()
        work = sorted(folder.rglob("*.pt")) or sorted(folder.rglob("*.safetensors"))
        before = {path.name: path.stat().st_mtime_ns for path in work}
        assert len(before) >= 2
        if step.startswith("03"):
            assert runner.run(loaded, outputs=tmp_path, only=step) == 0
            assert before == {path.name: path.stat().st_mtime_ns for path in work}
            assert read_json(folder / "bank" / "index.json")["rows"] > 100
        else:
            assert runner.run(loaded, outputs=tmp_path, only=step) == 0
        assert read_metrics(tmp_path / "two", step)
