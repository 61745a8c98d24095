"""What test_distributed.py runs in several processes: `accelerate launch jobs.py JOB PATH…`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from conftest import SENTENCES
from lib import distributed, embedding
from lib.batches import Texts
from lib.class_batches import ClassClusterBatches
from lib.encoder import load_classifier, new_classifier
from lib.metric_learning import train_candidate
from lib.schema import BaseClassifierParams, EmbedCorpusParams, MetricLearningParams
from lib.training import fit

ON = {"max_tokens": 64, "precision": "float32", "device": "cpu"}
LABELS = np.array([0, 0, 1, 1, 2, 2, 1])  # of SENTENCES


def corpus() -> pd.DataFrame:
    """Ninety texts of different lengths."""
    rng = np.random.default_rng(0)
    words = " ".join(SENTENCES).split()
    texts = [" ".join(rng.choice(words, rng.integers(1, 12))) for _ in range(90)]
    return pd.DataFrame({"text_id": [f"{i:016x}" for i in range(90)], "text": texts})


def embed(checkpoint: Path, bank: Path) -> None:
    """Write a bank of nine shards."""
    encoder = new_classifier(str(checkpoint), pooling="mean", max_tokens=64, seed=0)
    embedding.write_bank(encoder, corpus(), bank, EmbedCorpusParams(shard_size=10, **ON))


def embed_and_die(checkpoint: Path, bank: Path) -> None:
    """The same, but the second process dies before its second shard is written."""
    write_shard = embedding.write_shard

    def mortal(path: Path, *content: np.ndarray) -> None:
        if path.name == "shard-00003.safetensors":
            os._exit(9)
        write_shard(path, *content)

    embedding.write_shard = mortal
    embed(checkpoint, bank)


def train(base: Path, directory: Path) -> None:
    """Train one candidate of the combined loss, without dropout; then on a single text."""
    encoder = load_classifier(base, 64)
    texts = Texts.build(encoder, pd.DataFrame({"text": SENTENCES, "label": LABELS}))
    same = {"clusters": np.zeros(7, dtype=int), "is_gold": np.ones(7, dtype=bool)}
    mix = {"gold_share": 1.0, "class_mix": "equal", "seed": 0}
    batches = ClassClusterBatches(LABELS, **same, groups=3, group_size=3, **mix)
    params = MetricLearningParams(
        steps=12,
        evaluations=3,
        dropout=0.0,
        learning_rate=2e-3,
        head_learning_rate=1e-2,
        projection_dimensions=8,
        **ON,
    )
    train_candidate(0.5, texts, texts, batches, params=params, base_dir=base, directory=directory)
    train_one_text(base, directory)


def train_one_text(base: Path, directory: Path) -> None:
    """One step on one text: the second process has none."""
    encoder = load_classifier(base, 64)
    encoder.model.dropout.p = 0.0
    texts = Texts.build(encoder, pd.DataFrame({"text": SENTENCES, "label": LABELS}))
    params = BaseClassifierParams(learning_rate=1e-3, **ON)
    where = {"steps": 1, "evaluate_at": [1], "state_dir": directory / "state"}
    history = fit(encoder, texts, texts, [np.array([4])], params=params, **where)
    if distributed.is_main():
        history.to_csv(directory / "one_text.csv", index=False)


if __name__ == "__main__":
    torch.set_num_threads(1)
    globals()[sys.argv[1]](*map(Path, sys.argv[2:]))
