"""A step taken over by another run is whole, current, and independent of the run it came from."""

import os
import shutil

import pytest

from lib import artifacts, schema, sharing

SAMPLE = schema.GoldDataParams(sources=["sample"])
GOLD = "01_gold_data"


def complete(run_dir, p=SAMPLE, content="данные"):
    step = artifacts.open_step(GOLD, run_dir, p)
    step.path("gold.parquet").write_text(content, encoding="utf-8")
    step.path("corpus/part-0.parquet").write_text(content, encoding="utf-8")
    step.finish([{"name": "texts", "value": 1}])
    notebook = artifacts.executed_path(GOLD, run_dir)
    notebook.parent.mkdir(parents=True, exist_ok=True)
    notebook.write_text("{}")


@pytest.fixture
def runs(tmp_path):
    """A run with a complete step, and another without."""
    complete(tmp_path / "one")
    (tmp_path / "two").mkdir()
    return tmp_path / "one", tmp_path / "two"


def files(run_dir):
    return {
        str(path.relative_to(run_dir)): path.read_bytes()
        for path in sorted(run_dir.rglob("*"))
        if path.is_file()
    }


def test_a_shared_step_is_whole_and_current(runs):
    one, two = runs
    sharing.share(GOLD, one, two)
    assert files(two) == files(one)
    assert artifacts.is_current(GOLD, two, SAMPLE)
    assert not artifacts.is_current(GOLD, two, SAMPLE.model_copy(update={"seed": 1}))
    gold = [run / GOLD / "gold.parquet" for run in runs]
    assert os.path.samefile(*gold), "the same bytes are on disk twice"


def test_doing_a_shared_step_again_leaves_the_other_run_alone(runs):
    one, two = runs
    sharing.share(GOLD, one, two)
    before = files(one)
    complete(two, SAMPLE.model_copy(update={"seed": 1}), "другое")
    assert files(one) == before
    assert artifacts.is_current(GOLD, one, SAMPLE)
    artifacts.discard(GOLD, two)
    shutil.rmtree(two)
    assert files(one) == before


def test_a_folder_that_is_a_link_is_unlinked_and_its_target_kept(runs):
    """People link folders by hand to save a step."""
    one, two = runs
    before = files(one)
    (two / GOLD).symlink_to(one / GOLD, target_is_directory=True)
    assert artifacts.is_current(GOLD, two, SAMPLE)
    artifacts.open_step(GOLD, two, SAMPLE.model_copy(update={"seed": 1}))
    assert not (two / GOLD).is_symlink()
    assert files(one) == before
    shutil.rmtree(two / GOLD)
    (two / GOLD).symlink_to(one / GOLD, target_is_directory=True)
    artifacts.discard(GOLD, two)
    assert not (two / GOLD).exists() and files(one) == before


@pytest.mark.parametrize("killed_in", ["copytree", "copyfile", "rename"])
def test_a_kill_while_sharing_only_means_to_share_again(runs, monkeypatch, killed_in):
    one, two = runs
    complete(two, SAMPLE.model_copy(update={"seed": 1}), "старое")

    def killed(*arguments, **options):
        raise KeyboardInterrupt

    def without_cleaning_up(path, rmtree=shutil.rmtree, **options):
        if not path.name.startswith("."):
            rmtree(path, **options)

    with monkeypatch.context() as patch:
        if killed_in == "rename":
            patch.setattr("pathlib.Path.rename", killed)
        else:
            patch.setattr(shutil, killed_in, killed)
        patch.setattr(shutil, "rmtree", without_cleaning_up)
        with pytest.raises(KeyboardInterrupt):
            sharing.share(GOLD, one, two)
    is_current = artifacts.is_current(GOLD, two, SAMPLE)
    assert not (is_current and artifacts.executed_path(GOLD, two).exists())
    sharing.clean(two)
    sharing.share(GOLD, one, two)
    assert files(two) == files(one)


def test_only_a_whole_step_with_this_fingerprint_is_found(runs):
    one, two = runs
    fingerprint = artifacts.read_manifest(one, GOLD)["fingerprint"]
    assert sharing.find(GOLD, fingerprint, [two, one]) == one
    assert sharing.find(GOLD, "another", [two, one]) is None
    artifacts.executed_path(GOLD, one).rename(one / "notebook")
    assert sharing.find(GOLD, fingerprint, [one]) is None
    (one / "notebook").rename(artifacts.executed_path(GOLD, one))
    (one / GOLD / "corpus" / "part-0.parquet").unlink()
    assert sharing.find(GOLD, fingerprint, [one]) is None
    with pytest.raises(OSError, match="part-0"):
        sharing.share(GOLD, one, two)
    assert files(two) == {}


def test_a_step_can_be_shared_as_another_one(runs):
    one, two = runs
    sharing.share(GOLD, one, two, as_step="02_base_classifier")
    assert artifacts.read_manifest(two, "02_base_classifier")["step"] == GOLD
    assert artifacts.executed_path("02_base_classifier", two).exists()


def test_runs_and_the_points_of_sweeps_are_known(tmp_path):
    complete(tmp_path / "run")
    complete(tmp_path / "sweep" / "point")
    complete(tmp_path / "run" / "round_2")
    (tmp_path / "empty").mkdir()
    known = [tmp_path / "run", tmp_path / "run" / "round_2", tmp_path / "sweep" / "point"]
    assert sharing.known_runs(tmp_path) == known
    assert sharing.known_runs(tmp_path / "nowhere") == []


def test_where_hard_links_are_impossible_files_are_copied(runs, monkeypatch):
    def refused(*_):
        raise OSError("no hard links here")

    one, two = runs
    monkeypatch.setattr(os, "link", refused)
    sharing.share(GOLD, one, two)
    assert files(two) == files(one)
    assert not os.path.samefile(one / GOLD / "gold.parquet", two / GOLD / "gold.parquet")
