from __future__ import annotations

import argparse
import json
from pathlib import Path

import pandas as pd
import pytest

from lib.__main__ import main
from lib.bench import train
from lib.errors import UserError

TRAIN, VALIDATION, TEST = 120, 60, 50


def parse(*arguments: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    return parser.parse_args([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def arguments(tiny_checkpoint, tmp_path_factory) -> list[str]:
    """A directory with data and trimmed model, as the command prepares it."""
    folder = tmp_path_factory.mktemp("train")
    sizes = f"--train {TRAIN} --validation {VALIDATION} --test {TEST} --epochs 2 --evaluations 2"
    found = [*sizes.split(), "--base-model", tiny_checkpoint, "--directory", str(folder)]
    train.prepare(parse(*found))
    return found


def result(f1: list[float], seconds: list[float]) -> dict:
    rows = [
        {"step": i, "seconds": s, "macro_f1": f}
        for i, (f, s) in enumerate(zip(f1, seconds, strict=True))
    ]
    test = {"value": 0.7, "low": 0.6, "high": 0.8}
    whole = {"texts": 100, "tokens": 2000, "seconds": seconds[-1], "seconds_per_epoch": 5.0}
    return {"evaluations": rows, "test": test, "peak_gib": 1.0, **whole}


def test_time_to_the_target_by_hand():
    trainer = result([0.5, 0.7, 0.6], [10.0, 20.0, 30.0])
    ours = result([0.71, 0.8, 0.9], [4.0, 8.0, 12.0])
    slow = result([0.5, 0.6, 0.69], [1.0, 2.0, 3.0])
    lines = train.table({"trainer": trainer, "full": ours, "frozen": slow}).set_index("contestant")
    assert lines["s to 0.7000"].tolist() == ["20.0", "4.0", "not reached"]
    assert lines["times sooner"].tolist() == ["1.00", "5.00", "-"]
    assert lines["texts/s"].tolist() == ["3", "8", "33"]
    assert lines["best F1"].tolist() == ["0.7000", "0.9000", "0.6900"]
    lower = train.table({"trainer": trainer, "frozen": slow}, target=0.6)
    assert lower["s to 0.6000"].tolist() == ["20.0", "2.0"]
    alone = train.table({"full": ours})
    assert alone["s to target"].tolist() == ["not reached"]


def test_texts_are_prepared_without_leaks_and_once(arguments):
    options = parse(*arguments)
    gold = train.read_gold(options)
    sizes = gold["split"].value_counts()
    assert sizes["validation"] == VALIDATION and sizes["test"] == TEST
    assert abs(sizes["train"] - TRAIN) <= 3
    assert gold["text_id"].is_unique
    words = pd.read_parquet(options.directory / "train.parquet")["text"]
    assert set(words) == set(gold.loc[gold["split"] == "train", "text"])
    before = (options.directory / "trimmed" / "config.json").stat().st_mtime_ns
    assert train.prepare(options) == sizes.loc[["train", "validation", "test"]].to_dict()
    assert (options.directory / "trimmed" / "config.json").stat().st_mtime_ns == before
    with pytest.raises(UserError, match="was made with"):
        train.prepare(parse(*arguments, "--seed", 1))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["trainer", "trimmed-frozen"])
def test_a_contestant_is_timed_and_evaluated(arguments, name):
    options = parse(*arguments)
    train.contest(name, options)
    found = json.loads((options.directory / f"{name}.json").read_text(encoding="utf-8"))
    rows = found["evaluations"]
    train_texts = (train.read_gold(options)["split"] == "train").sum()
    steps = 2 * -(-train_texts // (8 if name == "trainer" else 32))
    assert [row["step"] for row in rows] == [round(steps * i / 4) for i in range(1, 5)]
    seconds = [row["seconds"] for row in rows]
    assert seconds == sorted(seconds) and seconds[0] > 0
    assert seconds[-1] == pytest.approx(found["seconds"])
    assert found["texts"] == 2 * train_texts
    assert all(0 <= row["macro_f1"] <= 1 for row in rows)
    assert found["test"]["texts"] == TEST
    assert 0 < found["peak_gib"] < 4
    assert not list(options.directory.glob("state-*"))


@pytest.mark.slow
def test_evaluation_is_not_timed(arguments, monkeypatch):
    import time

    from lib import training

    evaluate = training.evaluate

    def slow(*given):
        time.sleep(2)
        return evaluate(*given)

    monkeypatch.setattr(training, "evaluate", slow)
    options = parse(*arguments)
    train.contest("frozen", options)
    found = json.loads((options.directory / "frozen.json").read_text(encoding="utf-8"))
    assert found["seconds"] < 6  # four evaluations took 8


@pytest.mark.slow
def test_the_command_runs_what_is_missing(arguments, capfd):
    """In a process of its own; results that are there stay."""
    folder = Path(arguments[arguments.index("--directory") + 1])
    content = {"trainer": result([0.0], [10.0]), "frozen": result([0.1], [1.0])}
    for name, found in content.items():
        (folder / f"{name}.json").write_text(json.dumps(found), encoding="utf-8")
    assert main(["bench", "train", *arguments, "--only", "frozen", "trimmed"]) == 0
    printed = capfd.readouterr().out
    assert json.loads((folder / "frozen.json").read_text()) == content["frozen"]
    trimmed = json.loads((folder / "trimmed.json").read_text())
    assert trimmed["seconds"] > 0 and not (folder / "full.json").exists()
    lines = printed.splitlines()
    assert "s to 0.0000" in printed and any("10.00" in line for line in lines if "frozen" in line)
    assert "ours, trimmed vocabulary" in printed and "ours, all trained" not in printed
