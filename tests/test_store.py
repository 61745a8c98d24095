"""The embedding store: every text once, what is whole is kept, what is damaged is said."""

import numpy as np
import pandas as pd
import pytest
import torch

from conftest import SENTENCES
from lib.data.tables import write_corpus
from lib.embeddings import store
from lib.errors import UserError
from lib.files import read_json
from lib.models.encoder import load_classifier, new_classifier, save_classifier
from lib.models.inference import predict

ON = {"max_tokens": 64, "precision": "float32", "device": "cpu", "tokens_per_batch": None}
CPU = {"dtype": torch.float32, "device": torch.device("cpu")}


@pytest.fixture(scope="module")
def inputs(tiny_checkpoint, tmp_path_factory):
    """A corpus of 28 texts in three parts, one of them empty, and two classifiers."""
    folder = tmp_path_factory.mktemp("inputs")
    frame = pd.DataFrame({"text_id": [f"{i:016x}" for i in range(28)], "text": SENTENCES * 4})
    frame = frame.assign(source="s", audit_label=pd.array([None] * 28, dtype="Int8"))
    for number, rows in enumerate((frame[:9], frame[:0], frame[9:])):
        write_corpus(rows, folder / "corpus" / f"part-{number}.parquet")
    for seed, name in enumerate(("model", "probe")):
        encoder = new_classifier(tiny_checkpoint, pooling="mean", max_tokens=64, seed=seed)
        save_classifier(encoder, folder / name)
    return folder


def embed(inputs, folder, probe=False, space="base_classifier", shard_size=10):
    paths = {"corpus": inputs / "corpus", "model": inputs / "model"}
    paths["probe"] = inputs / "probe" if probe or space == "base_model" else None
    options = {"linear_probe": probe, "cluster_space": space, "shard_size": shard_size}
    store.embed(folder, **paths, **options, **ON)


def answers(path):
    encoder = load_classifier(path, 64)
    return predict(encoder, encoder.tokenize(SENTENCES * 4), **CPU)


@pytest.mark.parametrize("space", ["base_classifier", "base_model"])
@pytest.mark.parametrize("probe", [False, True])
def test_the_store_holds_what_the_models_say(inputs, tmp_path, probe, space):
    embed(inputs, tmp_path, probe, space)
    shards = list(store.read_store(tmp_path))
    assert [len(shard["text_id"]) for shard in shards] == [10, 10, 8]
    assert [i for s in shards for i in s["text_id"]] == [*range(28)]
    expected, vectors = answers(inputs / "model")
    opinion, pretrained = answers(inputs / "probe")
    if probe:
        expected = (expected + opinion) / 2
    if space == "base_model":
        vectors = pretrained
    np.testing.assert_allclose(store.read_probabilities(tmp_path), expected, atol=1e-5)
    found = np.concatenate([shard["embedding"] for shard in shards])
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, vectors, atol=1e-3, rtol=1e-2)
    index = read_json(tmp_path / store.INDEX)
    assert index["rows"] == 28 and [entry["rows"] for entry in index["shards"]] == [10, 10, 8]


def test_whole_shards_are_kept_and_damaged_ones_made_again(inputs, tmp_path, capsys):
    embed(inputs, tmp_path)
    first, second, third = sorted(tmp_path.glob("shard-*"))
    before = [path.stat().st_mtime_ns for path in (first, second, third)]
    damaged = bytearray(second.read_bytes())
    damaged[-5] ^= 1
    second.write_bytes(damaged)
    with pytest.raises(UserError, match=r"shard-00001.* is missing or damaged"):
        list(store.read_store(tmp_path))
    third.write_bytes(third.read_bytes()[:-100])  # cut off
    assert "damaged" not in capsys.readouterr().out
    embed(inputs, tmp_path)
    said = [f"{path} is damaged; it is made again" for path in (second, third)]
    assert capsys.readouterr().out.splitlines() == said
    assert sorted(tmp_path.glob("*")) == [tmp_path / store.INDEX, first, second, third]
    assert first.stat().st_mtime_ns == before[0]
    assert second.stat().st_mtime_ns != before[1]
    np.testing.assert_allclose(
        store.read_probabilities(tmp_path), answers(inputs / "model")[0], atol=1e-5
    )


def test_other_texts_are_embedded_again(inputs, tmp_path):
    embed(inputs, tmp_path, shard_size=14)
    embed(inputs, tmp_path, shard_size=10)
    shards = list(store.read_store(tmp_path))
    assert [len(shard["text_id"]) for shard in shards] == [10, 10, 8]


def test_the_next_item_is_prepared_beside_the_work():
    begun = []

    def items():
        for number in range(3):
            begun.append(number)
            yield number

    seen = []
    for number in store.ahead(items()):
        seen.append((number, len(begun)))
    assert [number for number, _ in seen] == [0, 1, 2]
