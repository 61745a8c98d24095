from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from conftest import SENTENCES
from lib.embedding import (
    Progress,
    ahead,
    count_rows,
    read_bank,
    read_pieces,
    write_bank,
)
from lib.encoder import Encoder, new_classifier
from lib.errors import UserError
from lib.inference import predict
from lib.schema import EmbedCorpusParams

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


@pytest.mark.parametrize("damage", ["cut", "one byte", "empty", "other texts"])
def test_a_run_trusts_only_whole_shards(bank, encoder, texts, damage):
    expected = {path.name: path.read_bytes() for path in bank.iterdir()}
    shard = bank / "shard-00002.safetensors"
    content = bytearray(shard.read_bytes())
    if damage == "one byte":
        content[len(content) // 2] ^= 1
    elif damage == "other texts":
        content = (bank / "shard-00001.safetensors").read_bytes()
    shard.write_bytes(content[: {"cut": 900, "empty": 0}.get(damage, len(content))])
    done = write_bank(encoder, texts, bank, PARAMS)
    assert {path.name: path.read_bytes() for path in bank.iterdir()} == expected
    assert done["texts"] == 20


def test_the_bank_of_a_folder_of_parts_is_that_of_the_frame(tmp_path, written, encoder, texts):
    parts = tmp_path / "corpus"
    parts.mkdir()
    for number, (start, end) in enumerate([(0, 3), (3, 3), (3, 50), (50, 90)]):
        texts.iloc[start:end].to_parquet(parts / f"part-{number:05d}.parquet", row_group_size=7)
    assert count_rows(parts) == 90
    done = write_bank(encoder, parts, tmp_path / "bank", PARAMS)
    assert {p.name: p.read_bytes() for p in (tmp_path / "bank").iterdir()} == {
        p.name: p.read_bytes() for p in written.iterdir()
    }
    assert done["texts"] == 90
    assert done["tokens"] == sum(map(len, encoder.tokenize(texts["text"].tolist())))
    assert 0 <= done["padding_share"] <= 0.05
    again = write_bank(encoder, parts, tmp_path / "bank", PARAMS)
    assert again["texts"] == again["tokens"] == 0


@given(st.lists(st.integers(0, 30), min_size=1, max_size=5), st.integers(1, 40))
def test_pieces_cut_across_parts(sizes, size):
    with tempfile.TemporaryDirectory() as folder:
        start = 0
        for number, rows in enumerate(sizes):
            names = [str(i) for i in range(start, start + rows)]
            frame = pd.DataFrame({"text_id": names, "text": names, "source": "x"})
            frame.to_parquet(Path(folder) / f"part-{number:05d}.parquet")
            start += rows
        pieces = list(read_pieces(Path(folder), size))
    assert [name for piece in pieces for name in piece["text"]] == [str(i) for i in range(start)]
    assert all(len(piece) == size for piece in pieces[:-1])
    assert all(0 < len(piece) <= size for piece in pieces)


def test_the_next_item_is_prepared_meanwhile():
    prepared = []

    def items():
        for i in range(3):
            prepared.append(i)
            yield i

    for item in ahead(items()):
        deadline = time.monotonic() + 5
        while len(prepared) < min(3, item + 2) and time.monotonic() < deadline:
            time.sleep(0.001)
        assert prepared == list(range(min(3, item + 2)))


def test_progress_counts_texts_and_moves_by_tokens():
    with Progress(30, "test") as progress:
        progress.skip(10)
        progress.begin(20, 100)
        progress.advance(1, 50)  # one long text is half of the work
        assert progress.bar.n == 20 and progress.bar.initial == 10
        for _ in range(5):
            progress.advance(3, 10)
        assert progress.bar.n == 30
        assert "tokens/s" in progress.bar.postfix


KILLED = """
import sys
from pathlib import Path
import pandas as pd
from lib.embedding import write_bank
from lib.encoder import new_classifier
from lib.schema import EmbedCorpusParams
checkpoint, parts, bank = sys.argv[1:]
encoder = new_classifier(checkpoint, pooling="mean", max_tokens=64, seed=0)
params = EmbedCorpusParams.model_validate_json(sys.stdin.read())
write_bank(encoder, Path(parts), Path(bank), params)
"""


@pytest.mark.slow
def test_a_bank_killed_at_any_moment_is_completed(tmp_path, tiny_checkpoint, encoder, texts):
    parts = tmp_path / "corpus"
    parts.mkdir()
    many = pd.concat([texts] * 20, ignore_index=True)
    many.to_parquet(parts / "part-00000.parquet")
    bank = tmp_path / "bank"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, tiny_checkpoint, str(parts), str(bank)],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        text=True,
    )
    process.stdin.write(PARAMS.model_dump_json())
    process.stdin.close()
    deadline = time.monotonic() + 60
    while len(list(bank.glob("shard-*"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    found = len(list(bank.glob("shard-*")))
    assert 3 <= found < 90 and not (bank / "index.json").exists()
    for stray in bank.glob(".*"):
        stray.unlink()  # as `open_step` does
    done = write_bank(encoder, parts, bank, PARAMS)
    assert done["texts"] == len(many) - 20 * found
    ids = np.concatenate([shard.text_id for shard in read_bank(bank)])
    assert ids.tolist() == many["text_id"].tolist()
