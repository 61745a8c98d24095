"""Step 05: who is trained on what, and which candidate is kept."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib.clusters.kmeans import KMeans
from lib.data.tables import read_corpus, write_corpus
from lib.embeddings import store
from lib.errors import UserError
from lib.models.encoder import hardware, load_classifier, new_classifier, save_classifier
from lib.training import baselines, final
from lib.training.trainer import evaluate
from test_trainer import predicted_tokens, toy

ON = {"max_tokens": 32, "precision": "float32", "device": "cpu"}


@pytest.fixture
def files(tiny_checkpoint, tmp_path):
    """What step 05 reads, small."""
    gold = pd.concat([toy(30, 1).assign(split="train"), toy(15, 2).assign(split="validation")])
    gold = gold.assign(text_id=[f"g{i}" for i in range(45)])
    gold["source"] = "посты"
    gold.to_parquet(tmp_path / "gold.parquet")
    audited = toy(24, 4).assign(text_id=[f"{i:016x}" for i in range(24)], source="отзывы")
    audited = audited.rename(columns={"label": "audit_label"}).astype({"audit_label": "Int8"})
    write_corpus(audited, tmp_path / "corpus" / "part-00000.parquet")
    clusters = pd.DataFrame({"text_id": gold["text_id"][:30], "cluster": np.arange(30) % 4})
    clusters.to_parquet(tmp_path / "gold_clusters.parquet")
    soft = np.random.default_rng(0).dirichlet(np.ones(3), 40).astype(np.float32)
    pseudo = toy(40, 3).assign(text_id=[f"c{i}" for i in range(40)], cluster=np.arange(40) % 4)
    pseudo[final.PROBABILITIES] = soft
    pseudo.to_parquet(tmp_path / "pseudo.parquet")
    KMeans(np.eye(4, 8, dtype=np.float32), 1.0).save(tmp_path / "kmeans.npz")
    encoder = new_classifier(tiny_checkpoint, pooling="cls", max_tokens=32, seed=0)
    save_classifier(encoder, tmp_path / "model")
    return {
        "gold": tmp_path / "gold.parquet",
        "corpus": tmp_path / "corpus",
        "gold_clusters": tmp_path / "gold_clusters.parquet",
        "pseudo": tmp_path / "pseudo.parquet",
        "kmeans": tmp_path / "kmeans.npz",
        "model": tmp_path / "model",
    }


SUPCON = {"temperature": 0.1, "hard_mining": True, "memory_size": 24}
OPTIONS = {
    "base_model": "nowhere",
    "base_revision": None,
    "choose_on": "gold",
    "start_from": "base_classifier",
    "lambda_class": 1.0,
    "max_tokens": 32,
    "pseudo_weight": 0.5,
    "soft_labels": 0.5,
    "supcon": SUPCON,
    "sampling": {
        "batch_groups": 6,
        "group_size": 2,
        "gold_share": 0.5,
        "hard_mining": True,
        "seed": 0,
    },
    "training": {
        "steps": 4,
        "evaluations": 2,
        "learning_rate": 1e-3,
        "head_learning_rate": 1e-3,
        "freeze_word_embeddings": False,
        "seed": 0,
        "precision": "float32",
        "device": "cpu",
    },
}


def test_candidates_and_the_choice_among_them(files, tmp_path, monkeypatch):
    folders = {}
    for value in (0.0, 0.5):
        folders[f"{value:g}"] = tmp_path / f"{value:g}"
        folders[f"{value:g}"].mkdir()
        final.train_candidate(folders[f"{value:g}"], lambda_metric=value, **files, **OPTIONS)
    found = {}
    for name, folder in folders.items():
        history = pd.read_csv(folder / "history.csv")
        assert history["step"].tolist() == [2, 4] and (history["train_metric_loss"] > 0).all()
        found[name] = history["validation_macro_f1"].max()
    chosen = tmp_path / "chosen"
    chosen.mkdir()
    mends = {"calibrate": True, "decision_bias": False, "tokens_per_batch": 30}
    tokens = predicted_tokens(monkeypatch)
    final.choose(chosen, candidates=folders, gold=files["gold"], **mends, **ON)
    assert max(tokens) <= 30  # without the bound 40
    about = pd.read_json(chosen / "training.json", typ="series")
    best = max(found, key=found.get)
    assert about["lambda_metric"] == float(best) and 0.5 <= about["temperature"] <= 10
    one, two = (load_classifier(f, 32).model for f in (folders[best], chosen))
    scaled = two.classifier.weight * about["temperature"]
    assert torch.allclose(one.classifier.weight, scaled, atol=1e-5)
    assert torch.equal(*(m.get_input_embeddings().weight for m in (one, two)))


def test_without_a_number_of_steps_there_are_two_passes(files, tmp_path):
    training = OPTIONS["training"] | {"steps": None, "evaluations": 1}
    options = OPTIONS | {"training": training}
    final.train_candidate(tmp_path, lambda_metric=0.0, **files, **options)
    # 30 gold and 40 pseudo-labelled texts, twice, in batches of 12
    assert pd.read_csv(tmp_path / "history.csv")["step"].tolist() == [12]


def test_audit_validation_may_choose_and_its_sources_count_alike(files, tmp_path):
    encoder = load_classifier(files["model"], 32)
    texts = final.all_validation(encoder, files["gold"], files["corpus"], seed=0)
    # every third text has an audit label that may choose
    assert pd.Series(texts.sources).value_counts().to_dict() == {"посты": 15, "отзывы": 8}
    each = [
        evaluate(encoder, replace(texts, **part), hardware("float32", "cpu"))["macro_f1"]
        for part in (
            {
                "token_ids": [texts.token_ids[i] for i in rows],
                "labels": texts.labels[rows],
                "sources": None,
            }
            for rows in (np.flatnonzero(texts.sources == s) for s in ("посты", "отзывы"))
        )
    ]
    found = evaluate(encoder, texts, hardware("float32", "cpu"))["macro_f1"]
    assert found == pytest.approx(np.mean(each))
    empty = tmp_path / "empty"
    write_corpus(read_corpus(files["corpus"]).assign(audit_label=pd.NA), empty / "part-0.parquet")
    with pytest.raises(UserError, match="choose_on: no corpus text has an audit label"):
        final.all_validation(encoder, files["gold"], empty, seed=0)


def test_texts_that_measure_at_the_end_are_never_trained_on(tmp_path):
    ids = [f"{i:016x}" for i in range(60)]
    corpus = pd.DataFrame({"text_id": ids, "text": "т", "source": "s"})
    corpus["audit_label"] = pd.array([i % 3 if i < 30 else None for i in range(60)], "Int8")
    write_corpus(corpus, tmp_path / "corpus" / "part-00000.parquet")
    known = {"cluster": 0, "predicted": 1, "confidence": 0.9, "purity": 1.0, "kept": True}
    pd.DataFrame({"text_id": ids}).assign(**known).to_parquet(tmp_path / "clusters.parquet")
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), 60).astype(np.float32)
    numbers = np.array([int(i, 16) for i in ids], np.uint64)
    store.write_shard(tmp_path, 0, np.zeros((60, 2)), probabilities, numbers)
    store.write_index(tmp_path, [60])
    paths = {"corpus": tmp_path / "corpus", "clusters": tmp_path / "clusters.parquet"}
    options = {"embeddings": tmp_path, "heldout_share": 0.2, "seed": 0, **paths}
    final.write_training_texts(tmp_path, **options)
    both = [pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("pseudo", "heldout")]
    used = {int(i, 16) for frame in both for i in frame["text_id"]}
    assert used == {i for i in range(60) if i >= 30 or i % 3 == 0}
    found = pd.concat(both)
    assert found["p0"].tolist() == [probabilities[int(i, 16), 0] for i in found["text_id"]]
    pd.DataFrame({"text_id": ids[::-1]}).assign(**known).to_parquet(paths["clusters"])
    with pytest.raises(UserError, match="has other texts than"):
        final.write_training_texts(tmp_path, **options)


def test_a_memory_smaller_than_a_batch_is_refused(files, tmp_path):
    with pytest.raises(UserError, match=r"05_metric_learning.memory_size: 5 is less than a batch"):
        options = OPTIONS | {"supcon": SUPCON | {"memory_size": 5}}
        final.train_candidate(tmp_path, lambda_metric=0.5, **files, **options)


def test_pseudo_labels_weigh_less_and_may_be_soft(files):
    encoder = load_classifier(files["model"], 32)
    frame = final.training_frame(files["gold"], files["gold_clusters"], files["pseudo"])
    assert len(frame) == 70 and frame["gold"].sum() == 30
    words = [*final.read_training_texts(files["gold"], files["pseudo"])]
    known = [pd.read_parquet(files[name]).iloc[:n] for name, n in (("gold", 30), ("pseudo", 40))]
    assert words == pd.concat(known)["text"].tolist()
    assert frame["cluster"].tolist() == [*np.arange(30) % 4, *np.arange(40) % 4]
    texts = final.training_texts(encoder, frame, iter(words), pseudo_weight=0.25, soft_labels=0.5)
    assert texts.weights.tolist() == [1.0] * 30 + [0.25] * 40
    hard = np.eye(3)[frame["label"]]
    np.testing.assert_array_equal(texts.targets[:30], hard[:30])
    soft = frame[final.PROBABILITIES].to_numpy()[30:]
    np.testing.assert_allclose(texts.targets[30:], (hard[30:] + soft) / 2, rtol=1e-6)


def test_only_kept_texts_get_a_label_and_never_the_audit_label():
    ids = [f"{i:016x}" for i in (0, 3)]
    texts = pd.DataFrame({"text_id": ids, "text": "т", "source": "s", "audit_label": [0, 1]})
    labelled = pd.DataFrame({"cluster": 3, "predicted": 2, "kept": [True, False]}, index=[7, 8])
    labelled = labelled.assign(confidence=0.9, purity=1.0, p0=0.0, p1=0.1, p2=0.9)
    found = final.pseudo_labelled(texts, labelled)
    assert found["text_id"].tolist() == ids[:1] and found["label"].tolist() == [2]
    assert "audit_label" not in found


@given(st.sets(st.integers(0, 10**6), max_size=60), st.floats(0.05, 0.45), st.integers(0, 3))
def test_no_text_changes_sides_with_what_else_is_kept(ids, share, seed):
    frame = pd.DataFrame({"text_id": [f"{i:x}" for i in sorted(ids)]})
    held, rest = final.hold_out(frame, share, seed)
    assert sorted([*held["text_id"], *rest["text_id"]]) == sorted(frame["text_id"])
    fewer, _ = final.hold_out(frame[::2], share, seed)
    assert set(fewer["text_id"]) <= set(held["text_id"])


def test_about_the_share_is_held_out():
    frame = pd.DataFrame({"text_id": [f"{i:x}" for i in range(5000)]})
    assert len(final.hold_out(frame, 0.2, 0)[0]) / 5000 == pytest.approx(0.2, abs=0.02)


def test_the_floor_is_lower_without_letters():
    rows = baselines.floor(toy(300, 1), toy(90, 2), split="validation", samples=200, seed=0)
    found = {(row["model"], row["name"]): row["value"] for row in rows}
    assert found["majority class", "macro_f1"] == pytest.approx(1 / 6)
    assert found["TF-IDF", "macro_f1"] > 0.95
