"""`python -m lib trim`: a base model with fewer tokens that reads the corpus as before."""

import re
from pathlib import Path

import pandas as pd
import pytest
import torch

from conftest import SENTENCES
from lib.__main__ import main
from lib.errors import UserError
from lib.models import trimming
from lib.models.encoder import new_classifier
from lib.models.inference import predict

CPU = {"dtype": torch.float32, "device": torch.device("cpu")}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.parquet"
    pd.DataFrame({"text": SENTENCES[:5]}).to_parquet(path)
    return path


def test_a_trimmed_checkpoint_is_a_base_model(tiny_checkpoint, corpus, tmp_path):
    out = tmp_path / "models" / "trimmed"
    done = trimming.trim(tiny_checkpoint, [corpus], out)
    full, small = (
        new_classifier(path, pooling="mean", max_tokens=64, seed=0)
        for path in (tiny_checkpoint, out)
    )
    expected = predict(full, full.tokenize(SENTENCES[:5]), **CPU)
    found = predict(small, small.tokenize(SENTENCES[:5]), **CPU)
    for one, other in zip(expected, found, strict=True):
        assert abs(one - other).max() < 1e-5
    tokens = [len(encoder.tokenizer) for encoder in (full, small)]
    assert re.findall(r"([\d,]+) tokens,", done) == [str(n) for n in tokens]
    assert tokens[1] < tokens[0] and "100.00% of the corpus's tokens" in done
    assert small.model.encoder.config.vocab_size == tokens[1]
    assert [path.name for path in out.parent.iterdir()] == ["trimmed"]
    assert (out / "model.safetensors").stat().st_mode & 0o777 == 0o644
    assert str(Path(tiny_checkpoint).parent) not in (out / "config.json").read_text()


def test_the_same_trimming_twice_gives_the_same_bytes(tiny_checkpoint, corpus, tmp_path):
    outs = [tmp_path / "first", tmp_path / "second"]
    for out in outs:
        trimming.trim(tiny_checkpoint, [corpus], out, min_count=2)
    names = sorted(path.name for path in outs[0].iterdir())
    assert names == sorted(path.name for path in outs[1].iterdir())
    for name in names:
        assert (outs[0] / name).read_bytes() == (outs[1] / name).read_bytes(), name


def test_a_part_of_a_corpus_may_be_empty(tiny_checkpoint, corpus, tmp_path):
    empty = tmp_path / "part-00000.parquet"
    pd.DataFrame({"text": pd.Series([], dtype=str)}).to_parquet(empty)
    done = trimming.trim(tiny_checkpoint, [empty, corpus], tmp_path / "out")
    assert done == trimming.trim(tiny_checkpoint, [corpus], tmp_path / "other")
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"no parquet")
    with pytest.raises(UserError, match=r"broken\.parquet"):
        trimming.trim(tiny_checkpoint, [broken], tmp_path / "third")


def test_the_command_prints_sizes(tiny_checkpoint, corpus, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["trim", tiny_checkpoint, "--corpus", str(corpus), "--out", str(out)]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "before: " in printed and "after:  " in printed and "million parameters" in printed
    assert main(command) == 2
    assert f"--out: {out} is there already" in capsys.readouterr().err


def test_bad_input_is_named(tiny_checkpoint, corpus, tmp_path):
    out, bad = tmp_path / "out", tmp_path / "bad.csv"
    bad.write_text("message\nпривет\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"bad.csv: no column 'text'"):
        trimming.trim(tiny_checkpoint, [corpus, bad], out)
    with pytest.raises(UserError, match=r"--corpus: .*missing.parquet is not a csv, .* file"):
        trimming.trim(tiny_checkpoint, [tmp_path / "missing.parquet"], out)
    with pytest.raises(UserError, match=r"cannot load the base model .*; give the directory"):
        trimming.trim(str(tmp_path), [corpus], out)
    with pytest.raises(UserError, match="max_size: 5 is less than"):
        trimming.trim(tiny_checkpoint, [corpus], out, max_size=5)
    pd.DataFrame({"text": ["привет", None]}).to_parquet(corpus)
    with pytest.raises(UserError, match=r"corpus.parquet, row 2, column text: expected a text"):
        trimming.trim(tiny_checkpoint, [corpus], out)
    assert not out.exists()
