from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from conftest import SENTENCES
from lib import metrics
from lib.evaluation import robustness
from lib.evaluation.comparison import MODELS
from lib.models.encoder import load_classifier, new_classifier, save_classifier

TEXTS = st.text(st.sampled_from("абвяёйЁАБ .,!?():-😊👍🏽☹️z7$"), min_size=1, max_size=60)


def test_typos_hit_the_key_beside_at_the_rate():
    text = "Съешь ещё этих мягких французских булок, да выпей чаю z7. " * 200
    found = robustness.typos(text, np.random.default_rng(0))
    assert len(found) == len(text)
    wrong = [(a, b) for a, b in zip(text, found, strict=True) if a != b]
    letters = sum(c.isalpha() and c not in "ёz" for c in text)
    assert len(wrong) / letters == pytest.approx(robustness.TYPO_RATE, rel=0.2)
    for before, after in wrong:
        row = next(r for r in robustness.KEYBOARD.split() if before.lower() in r)
        assert abs(row.index(before.lower()) - row.index(after.lower())) == 1
        assert before.isupper() == after.isupper()


@pytest.mark.parametrize("name", robustness.PERTURBATIONS)
@given(text=TEXTS.filter(str.strip), seed=st.integers(0, 99))
@settings(max_examples=25)
def test_rewritten_texts_are_not_empty_and_repeat_themselves(name, text, seed):
    (found,) = robustness.rewrite([text], name, seed)
    assert found.strip()
    assert robustness.rewrite([text, "да"], name, seed)[0] == found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Кое-кто, «да»… (нет)! :)", "Кое кто да нет"),
        ("Отлично 👍🏽 семья 👨‍👩‍👧 5%", "Отлично семья 5"),
        ("?!", "?!"),
    ],
)
def test_words_only_by_hand(text, expected):
    assert robustness.words_only(text) == expected


@pytest.fixture(scope="module")
def perturbed(tiny_checkpoint, tmp_path_factory):
    """What `perturb` writes of 21 test texts, and the folder of its inputs."""
    folder = tmp_path_factory.mktemp("perturbed")
    for seed, name in enumerate(MODELS):
        model = new_classifier(tiny_checkpoint, pooling="mean", max_tokens=64, seed=seed)
        save_classifier(model, folder / name)
    gold = pd.DataFrame({"text": SENTENCES * 4, "label": [0, 0, 1, 1, 2, 2, 1] * 4})
    gold["split"] = ["train"] * 7 + ["test"] * 21
    gold["text_id"] = [f"{i:02}" for i in range(28)]
    gold.to_parquet(folder / "gold.parquet")
    return perturb(folder, 500), folder


def perturb(folder, texts):
    paths = {"gold": folder / "gold.parquet"} | {name: folder / name for name in MODELS}
    hardware = {"max_tokens": 64, "precision": "float32", "device": "cpu"}
    robustness.perturb(folder, texts=texts, seed=0, **paths, **hardware)
    return pd.read_parquet(folder / "perturbed.parquet")


def test_every_text_is_rewritten_in_every_way(perturbed):
    frame, folder = perturbed
    assert len(frame) == 21 * len(robustness.PERTURBATIONS)
    assert set(frame["text_id"]) == {f"{i:02}" for i in range(7, 28)}
    encoder = load_classifier(folder / "final", 64)
    part = frame[frame["perturbation"] == "upper case"]
    given = encoder.tokenizer(part["text"].tolist(), padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = encoder.model(**given).logits.argmax(-1)
    assert part["final_predicted"].tolist() == expected.tolist()
    assert part["text"].str.isupper().all()


def test_losses_are_paired_with_the_unchanged_texts(perturbed):
    frame, _ = perturbed
    rows = robustness.compare_perturbed(frame, samples=200, seed=0)
    assert len(rows) == 4 * len(robustness.PERTURBATIONS) - 2
    found = {(row["dataset"], row["model"]): row for row in rows}
    parts = dict(list(frame.groupby("perturbation")))
    for name, part in parts.items():
        for model in MODELS:
            before, after = (
                f1_score(p["label"], p[f"{model}_predicted"], average="macro")
                for p in (parts[robustness.UNCHANGED], part)
            )
            assert found[f"gold, {name}", model]["value"] == pytest.approx(after)
            if name != robustness.UNCHANGED:
                change = found[f"gold, {name}", f"{model}: change"]
                assert change["value"] == pytest.approx(after - before)
                assert change["low"] <= change["value"] <= change["high"]
    table = metrics.table(rows, "perturbation")
    assert list(table.columns) == ["base", "final", "base: change", "final: change"]
    assert table.index[0] == "unchanged (0% of texts)"
    assert "upper case (100% of texts)" in table.index


def test_a_sample_of_the_texts(perturbed, tmp_path):
    _, folder = perturbed
    frame = perturb(folder, 9)
    assert frame["text_id"].nunique() == 9
    assert frame.equals(perturb(folder, 9))
