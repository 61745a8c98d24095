from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from conftest import SENTENCES
from lib.embedding import read_bank, write_bank
from lib.encoder import Encoder, new_classifier
from lib.errors import UserError
from lib.inference import predict
from lib.params import EmbedCorpusParams

PARAMS = EmbedCorpusParams(
    shard_size=20, tokens_per_batch=256, max_tokens=64, precision="float32", device="cpu"
)


@pytest.fixture(scope="module")
def encoder(tiny_checkpoint: str) -> Encoder:
    return new_classifier(tiny_checkpoint, pooling="mean", max_tokens=64, seed=0)


@pytest.fixture(scope="module")
def texts() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    words = " ".join(SENTENCES).split()
    return pd.DataFrame(
        {
            "text_id": [f"{i:016x}" for i in rng.integers(0, 2**64, 90, dtype=np.uint64)],
            "text": [" ".join(rng.choice(words, rng.integers(1, 12))) for _ in range(90)],
        }
    )


@pytest.fixture(scope="module")
def written(encoder: Encoder, texts: pd.DataFrame, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("bank")
    write_bank(encoder, texts, directory, PARAMS)
    return directory


@pytest.fixture
def bank(written: Path, tmp_path: Path) -> Path:
    """A bank of five shards that a test may damage."""
    return Path(shutil.copytree(written, tmp_path / "bank"))


def all_vectors(directory: Path) -> np.ndarray:
    return np.concatenate([shard.embedding for shard in read_bank(directory)])


def test_bank_holds_every_text_in_row_order(bank, encoder, texts):
    shards = list(read_bank(bank))
    assert [len(shard.text_id) for shard in shards] == [20, 20, 20, 20, 10]
    assert np.concatenate([s.text_id for s in shards]).tolist() == texts["text_id"].tolist()
    one_by_one = [
        predict(encoder, encoder.tokenize([t]), dtype=torch.float32, device=torch.device("cpu"))
        for t in texts["text"]
    ]
    probabilities = np.concatenate([p for p, _ in one_by_one])
    pooled = np.concatenate([v for _, v in one_by_one])
    stored = np.concatenate([s.probabilities for s in shards])
    assert stored.dtype == np.float32 and shards[0].embedding.dtype == np.float16
    np.testing.assert_allclose(stored, probabilities, atol=1e-5)
    np.testing.assert_allclose(all_vectors(bank), pooled, atol=2e-3, rtol=2e-3)
    assert np.ptp(pooled, axis=0).min() > 0.1  # the texts do differ


def test_a_run_goes_on_with_the_missing_shard(bank, encoder, texts):
    before = {path.name: path.read_bytes() for path in bank.iterdir()}
    times = {path.name: path.stat().st_mtime_ns for path in bank.glob("*.safetensors")}
    (bank / "shard-00001.safetensors").unlink()
    (bank / "index.json").unlink()
    write_bank(encoder, texts, bank, PARAMS)
    assert {path.name: path.read_bytes() for path in bank.iterdir()} == before
    for path in bank.glob("*.safetensors"):
        assert (path.stat().st_mtime_ns == times[path.name]) == (path.stem != "shard-00001")


def test_a_run_that_breaks_leaves_whole_shards_only(tmp_path, written, encoder, texts):
    broken = texts.copy()
    broken.loc[45, "text_id"] = "не число"  # in the third shard
    with pytest.raises(ValueError, match="не число"):
        write_bank(encoder, broken, tmp_path, PARAMS)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "shard-00000.safetensors",
        "shard-00001.safetensors",
    ]
    write_bank(encoder, texts, tmp_path, PARAMS)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {
        p.name: p.read_bytes() for p in written.iterdir()
    }


@pytest.mark.parametrize("damage", ["cut", "one byte", "gone"])
def test_a_damaged_shard_is_an_error(bank, damage):
    shard = bank / "shard-00002.safetensors"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    if damage == "gone":
        shard.unlink()
    else:
        shard.write_bytes(content[:-10] if damage == "cut" else content)
    with pytest.raises(UserError, match=r"shard-00002.* missing or damaged.*--force"):
        list(read_bank(bank))
