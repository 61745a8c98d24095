"""mmBERT's configurations with random weights and a small vocabulary through steps 02, 03 and 05.

Both have all their layers, two steps each and texts of up to 64 tokens. A text of 8,192 tokens
takes part in a narrow model of three layers, a global and two local ones: at full width and depth
one forward pass takes more than a minute on a slow core.
"""

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
from transformers import ModernBertConfig, ModernBertModel, pipeline

from conftest import tiny_tokenizer
from lib import LABELS
from lib.clusters.kmeans import KMeans
from lib.data.tables import write_corpus
from lib.embeddings import store
from lib.models import onnx_export
from lib.models.batching import pad
from lib.models.encoder import load_classifier
from lib.training import base, final
from test_final import OPTIONS
from test_trainer import toy

pytestmark = pytest.mark.slow
ON = {"precision": "float32", "device": "cpu"}
# hidden_size, heads, intermediate_size, layers; of mmBERT: github.com/JHU-CLSP/mmBERT, configs/
SHAPES = {"base": (768, 12, 1152, 22), "small": (384, 6, 1152, 22), "narrow": (64, 1, 96, 3)}
LONG = 8192


def checkpoint(folder, size: str, tokenizer=None) -> str:
    """A random mmBERT with a tokenizer, without one with that of the tests."""
    tokenizer = tokenizer or tiny_tokenizer()
    tokenizer.model_max_length = LONG
    hidden, heads, intermediate, layers = SHAPES[size]
    config = ModernBertConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        num_attention_heads=heads,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        global_attn_every_n_layers=3,
        local_attention=128,
        global_rope_theta=160_000.0,
        local_rope_theta=160_000.0,
        max_position_embeddings=LONG,
        pad_token_id=tokenizer.pad_token_id,
        cls_token_id=tokenizer.cls_token_id,
        bos_token_id=tokenizer.cls_token_id,
        sep_token_id=tokenizer.sep_token_id,
        eos_token_id=tokenizer.sep_token_id,
    )
    torch.manual_seed(0)
    ModernBertModel(config).save_pretrained(folder / "mmbert")
    tokenizer.save_pretrained(folder / "mmbert")
    return str(folder / "mmbert")


@pytest.mark.parametrize(("size", "longest"), [("base", 64), ("small", 64), ("narrow", LONG)])
def test_steps_02_03_and_05(size, longest, tmp_path):
    start = checkpoint(tmp_path, size)
    gold = pd.concat([toy(6, 1).assign(split="train"), toy(3, 2).assign(split="validation")])
    gold = gold.assign(text_id=[f"g{i}" for i in range(9)])
    gold.iloc[0, gold.columns.get_loc("text")] = "ужасно " * longest
    gold.to_parquet(tmp_path / "gold.parquet")
    (tmp_path / "corpus").mkdir()
    corpus = toy(4, 3).assign(text_id=[f"{i:016x}" for i in range(4)])
    corpus.loc[0, "text"] = "спасибо " * longest
    table = corpus.drop(columns="label").assign(source="made up", audit_label=pd.NA)
    write_corpus(table, tmp_path / "corpus" / "part-00000.parquet")
    steps = 2
    training = OPTIONS["training"] | {"steps": steps, "evaluations": 1}
    training["gradient_checkpointing"] = longest < LONG
    about = {"base_model": start, "base_revision": None, "start_model": None, "calibrate": False}
    about["decision_bias"] = False
    about |= {"epochs": 1, "batch_size": 3, "evaluations_per_epoch": 1, "max_tokens": longest}
    of_02 = {k: v for k, v in training.items() if k not in ("steps", "evaluations")}
    folders = {name: tmp_path / name for name in ("02", "03", "05")}
    for folder in folders.values():
        folder.mkdir()

    base.train(
        folders["02"], gold=tmp_path / "gold.parquet", pooling="cls", training=of_02, **about
    )
    assert pd.read_csv(folders["02"] / "history.csv")["step"].tolist()[-1] == steps

    store.embed(
        folders["03"],
        corpus=tmp_path / "corpus",
        model=folders["02"],
        probe=None,
        linear_probe=False,
        cluster_space="base_classifier",
        max_tokens=longest,
        shard_size=10,
        tokens_per_batch=None,
        **ON,
    )
    found = store.read_probabilities(folders["03"])
    assert found.shape == (4, 3) and np.isfinite(found).all()

    labels = dict(zip(final.PROBABILITIES, found.T, strict=True))
    corpus.assign(cluster=0, **labels).to_parquet(tmp_path / "pseudo.parquet")
    train = gold[gold["split"] == "train"]
    train[["text_id"]].assign(cluster=0).to_parquet(tmp_path / "gold_clusters.parquet")
    KMeans(np.eye(2, 8, dtype=np.float32), 1.0).save(tmp_path / "kmeans.npz")
    options = OPTIONS | {
        "max_tokens": longest,
        "supcon": OPTIONS["supcon"] | {"memory_size": 0},
        "training": training | {"tokens_per_batch": 64},  # less than a batch: GradCache
    }
    options["sampling"] = options["sampling"] | {"batch_groups": 3, "gold_share": 1.0}
    final.train_candidate(
        folders["05"],
        lambda_metric=0.5,
        gold=tmp_path / "gold.parquet",
        corpus=tmp_path / "corpus",
        gold_clusters=tmp_path / "gold_clusters.parquet",
        pseudo=tmp_path / "pseudo.parquet",
        kmeans=tmp_path / "kmeans.npz",
        model=folders["02"],
        **options,
    )
    history = pd.read_csv(folders["05"] / "history.csv")
    assert history["step"].tolist() == [steps] and np.isfinite(history["train_metric_loss"]).all()
    encoder = load_classifier(folders["05"])
    ids = encoder.tokenize(gold["text"].tolist())
    assert max(map(len, ids)) == longest
    text = toy(3, 4)["text"][0]
    (stock,) = pipeline("text-classification", str(folders["05"]))(text)
    onnx_export.export(encoder.model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    inputs = pad([encoder.tokenize([text])[0]], encoder.pad_id)
    (logits,) = session.run(None, {i.name: inputs[i.name] for i in session.get_inputs()})
    probabilities = np.exp(logits[0]) / np.exp(logits[0]).sum()
    assert LABELS[probabilities.argmax()] == stock["label"]
    assert probabilities.max() == pytest.approx(stock["score"], abs=1e-3)
