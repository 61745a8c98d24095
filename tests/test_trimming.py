from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from transformers import AutoModel

from conftest import SENTENCES
from lib import trimming
from lib.__main__ import main
from lib.encoder import new_classifier
from lib.errors import UserError
from lib.inference import predict

CPU = {"dtype": torch.float32, "device": torch.device("cpu")}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.parquet"
    pd.DataFrame({"text": SENTENCES[:5]}).to_parquet(path)
    return path


def test_a_trimmed_checkpoint_is_a_base_model(tiny_checkpoint, corpus, tmp_path):
    out = tmp_path / "models" / "trimmed"
    done = trimming.trim(tiny_checkpoint, [corpus], out)
    assert done.coverage == 1
    assert done.after.tokens < done.before.tokens
    full, small = (
        new_classifier(str(path), pooling="mean", max_tokens=64, seed=0)
        for path in (tiny_checkpoint, out)
    )
    expected = predict(full, full.tokenize(SENTENCES[:5]), **CPU)
    found = predict(small, small.tokenize(SENTENCES[:5]), **CPU)
    for one, other in zip(expected, found, strict=True):
        assert abs(one - other).max() < 1e-5
    assert small.model.encoder.config.vocab_size == done.after.tokens == len(small.tokenizer)
    assert (small.model.classifier.weight == full.model.classifier.weight).all()
    assert [path.name for path in out.parent.iterdir()] == ["trimmed"]
    weights = (out / "model.safetensors").stat().st_size
    assert done.after.weight_bytes < weights < done.after.weight_bytes + 10_000


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


def test_sizes_are_counted_by_hand(tiny_checkpoint, corpus, tmp_path):
    done = trimming.trim(tiny_checkpoint, [corpus], tmp_path / "out", min_count=2)
    dropped = done.before.tokens - done.after.tokens
    assert done.before.parameters - done.after.parameters == dropped * 32
    assert done.before.weight_bytes == done.before.parameters * 4
    assert 0 < done.coverage < 1
    model = AutoModel.from_pretrained(tiny_checkpoint)
    assert done.before.parameters == sum(weights.numel() for weights in model.parameters())


def test_the_shape_of_mmbert_base():
    """By hand: per layer Wqkv 3d², Wo d², Wi 2df, out df, two norms (the first layer has one)."""
    d, f, layers, tokens = 768, 1152, 22, 256_000
    size = trimming.shape_size(trimming.MMBERT_BASE, tokens)
    per_layer = 4 * d * d + 3 * d * f + 2 * d
    # the embeddings have a norm in place of the first layer's; one more at the end
    assert size.parameters == tokens * d + d + layers * per_layer - d + d
    assert round(size.parameters / 1e6) == 307  # as published
    assert size.weight_bytes == 4 * size.parameters


def test_the_command_prints_sizes(tiny_checkpoint, corpus, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["trim", tiny_checkpoint, "--corpus", str(corpus), "--out", str(out)]
    assert main(command) == 0
    printed = capsys.readouterr().out
    tokens = json.loads((out / "config.json").read_text())["vocab_size"]
    assert f"→ {tokens}" in printed and f"256,000 → {tokens}" in printed
    assert "306.9 →" in printed
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
