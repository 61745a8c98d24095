from __future__ import annotations

import numpy as np
import pytest
import torch

from conftest import SENTENCES
from lib.bench import embed
from lib.encoder import new_classifier
from lib.errors import UserError
from lib.inference import predict


def test_texts_are_a_seeded_sample(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\nодин,\nдва,\n,\n", encoding="utf-8")
    (tmp_path / "b.csv").write_text("text\nтри\n", encoding="utf-8")
    assert sorted(embed.read_texts(tmp_path, 10, 0)) == ["два", "один", "три"]
    assert embed.read_texts(tmp_path, 2, 0) == embed.read_texts(tmp_path, 2, 0)
    assert len(embed.read_texts(None, 50, 0)) == 50
    with pytest.raises(UserError, match="no CSV file"):
        embed.read_texts(tmp_path / "absent.csv", 2, 0)
    (tmp_path / "b.csv").write_text("label\nтри\n", encoding="utf-8")
    with pytest.raises(UserError, match="column `text`"):
        embed.read_texts(tmp_path, 2, 0)


def test_the_best_batch_size_is_the_fastest():
    slow = torch.ones(600, 600)

    def work(texts, size):
        for _ in range(1 if size == 8 else 200):
            slow @ slow
        return size

    size, function = embed.best_batch_size(work, ["а"] * 3, (4, 8, 16))
    assert size == 8 and function(["а"]) == 8


def test_operations_by_hand(tiny_checkpoint):
    encoder = new_classifier(tiny_checkpoint, pooling="mean", max_tokens=64, seed=0)
    lengths = np.array([len(row) for row in encoder.tokenize(SENTENCES)])
    # two layers: query-key-value, output, gated feed-forward of 48; then scores and weighted sums
    weights = 2 * (32 * 96 + 32 * 32 + 32 * 96 + 48 * 32)
    expected = 2 * weights * lengths.sum() + 2 * 4 * 32 * (lengths**2).sum()
    assert embed.matmul_flop(encoder, SENTENCES) == expected


def test_ours_gives_the_vectors_of_the_step(tiny_checkpoint):
    encoder = new_classifier(tiny_checkpoint, pooling="mean", max_tokens=64, seed=0)
    on = {"dtype": torch.float32, "device": torch.device("cpu")}
    found = embed.ours(encoder, *on.values())(SENTENCES)
    expected = predict(encoder, encoder.tokenize(SENTENCES), **on)[1]
    np.testing.assert_array_equal(found, expected)
