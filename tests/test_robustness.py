from __future__ import annotations

import unicodedata

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import SENTENCES
from lib import robustness
from lib.encoder import new_classifier
from lib.evaluation import macro_f1
from lib.final_eval import MODELS, predict_both

TEXTS = st.text(st.sampled_from("абвяёйЁАБ .,!?():-😊👍🏽☹️z7"), min_size=1, max_size=60)
ALL = robustness.perturbations(0.3)


def plain(text: str) -> str:
    return " ".join(text.split())


def test_neighbours_touch_on_the_keyboard():
    assert set(robustness.NEIGHBOURS["ф"]) == set("йцыя")
    assert set(robustness.NEIGHBOURS["п"]) == set("енарми")
    assert set(robustness.NEIGHBOURS["ь"]) == set("тбло")
    for letter, around in robustness.NEIGHBOURS.items():
        assert letter not in around and 2 <= len(around) <= 6
        if letter != "ё":
            assert all(letter in robustness.NEIGHBOURS[other] for other in around)
    assert robustness.NEIGHBOURS.keys() == set("абвгдеёжзийклмнопрстуфхцчшщъыьэюя")


def test_typos_hit_about_the_rate_of_letters():
    text = "съешьещёэтихмягкихфранцузскихбулокдавыпейчаю" * 500
    for rate in (0.02, 0.1):
        found = robustness.typos(text, np.random.default_rng(0), rate)
        assert len(found) == len(text)
        # a swap changes two letters, a wrong key one: 1.5 letters per error
        wrong = np.mean([one != other for one, other in zip(found, text, strict=True)])
        assert 1.1 * rate < wrong < 1.6 * rate
    rng = np.random.default_rng(0)
    assert robustness.typos(text, rng, 0) == text
    assert robustness.typos("Hello, 123 :)", rng, 1) == "Hello, 123 :)"


@given(TEXTS, st.integers(0, 2**16))
@settings(max_examples=100)
def test_a_typo_is_a_swap_or_a_key_beside(text, seed):
    found = robustness.typos(text, np.random.default_rng(seed), 0.3)
    assert len(found) == len(text)
    place = 0
    while place < len(text):
        if found[place] == text[place]:
            place += 1
        elif found[place : place + 2] == text[place : place + 2][::-1]:
            place += 2
        else:
            assert found[place].lower() in robustness.NEIGHBOURS[text[place].lower()]
            assert found[place].isupper() == text[place].isupper()
            place += 1


@pytest.mark.parametrize("name", ALL)
@given(text=TEXTS.filter(str.strip), seed=st.integers(0, 99))
@settings(max_examples=40)
def test_perturbed_texts_are_not_empty_and_repeat_themselves(name, text, seed):
    (found,) = robustness.perturb([text], ALL[name], seed)
    assert found.strip()
    assert robustness.perturb([text, "да"], ALL[name], seed)[0] == found


@given(TEXTS)
def test_what_is_dropped_and_what_stays(text):
    marks = [c for c in text if unicodedata.category(c)[0] == "P"]
    found = robustness.without_punctuation(text)
    if found != text:
        assert not any(c in found for c in marks)
    assert [c for c in found if c.isalnum()] == [c for c in text if c.isalnum()]
    shown = robustness.without_emoji(text)
    if shown != text:
        assert not set(shown) & set("😊👍🏽☹️")
    assert robustness.lower_case(text) == robustness.lower_case(robustness.upper_case(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Отлично :) 👍🏽", "Отлично"),
        ("Ну и ну!!! ☹️ (шутка)", "Ну и ну!!! (шутка)"),
        ("семья 👨‍👩‍👧 и флаг 🇷🇺 тут", "семья и флаг тут"),
        ("😊", "😊"),
        ("№5, 15 % и x²", "№5, 15 % и x²"),
    ],
)
def test_emoji_by_hand(text, expected):
    assert robustness.without_emoji(text) == expected


def test_punctuation_by_hand():
    assert robustness.without_punctuation("Кое-кто, «да»… (нет)! :)") == "Кое кто да нет"
    assert robustness.without_punctuation("?!") == "?!"


def test_neutral_sentences_stand_around_the_text():
    rng = np.random.default_rng(0)
    before = robustness.neutral_before("Ужас", rng)
    after = robustness.neutral_after("Ужас", rng)
    assert before.endswith(". Ужас") and after.startswith("Ужас. ")
    assert robustness.neutral_after("Ужас!", rng).startswith("Ужас! ")
    for text in (before, after):
        assert sum(sentence in text for sentence in robustness.NEUTRAL_SENTENCES) == 2


@pytest.fixture(scope="module")
def predicted(tiny_checkpoint):
    models = {
        name: new_classifier(tiny_checkpoint, pooling="mean", max_tokens=64, seed=seed)
        for seed, name in enumerate(MODELS)
    }
    on = {"dtype": torch.float32, "device": torch.device("cpu")}
    labels = [0, 0, 1, 1, 2, 2, 1] * 3
    frame = pd.DataFrame({"text": SENTENCES * 3, "label": labels}, index=range(5, 26))
    return models, predict_both(models, frame, on)[0], on


def measure(predicted, **changes):
    models, frame, on = predicted
    options = {"max_texts": 500, "typo_rate": 0.2, "dataset": "gold", "split": "test"}
    options |= {"samples": 200, "seed": 0}
    return robustness.compare_perturbed(models, frame, on, **(options | changes))


def test_every_perturbation_is_measured_as_if_alone(predicted):
    models, frame, on = predicted
    rows = measure(predicted)
    assert all(row["name"] == "macro_f1" and row["texts"] == 21 for row in rows)
    found = {(row["perturbation"], row["model"]): row for row in rows}
    assert len(found) == len(rows) == 2 + 4 * len(ALL)
    true = frame["label"].to_numpy()
    for name, perturbation in robustness.perturbations(0.2).items():
        new = frame.assign(text=robustness.perturb(frame["text"].tolist(), perturbation, 0))
        again, _ = predict_both(models, new, on)
        assert found[name, "base"]["dataset"] == f"gold, {name}"
        changed = (new["text"] != frame["text"]).mean()
        for model in MODELS:
            value = macro_f1(true, again[f"{model}_predicted"].to_numpy())
            unchanged = macro_f1(true, frame[f"{model}_predicted"].to_numpy())
            row, change = found[name, model], found[name, f"{model}: change"]
            assert row["value"] == pytest.approx(value) and row["changed"] == changed
            assert change["value"] == pytest.approx(value - unchanged)
            assert change["low"] <= change["value"] <= change["high"]
            assert found["unchanged", model]["value"] == pytest.approx(unchanged)
    assert found["no emoji", "base"]["changed"] == pytest.approx(1 / 7)
    shown = robustness.table(rows)
    assert list(shown.index) == ["unchanged", *robustness.perturbations(0.2)]
    assert shown.loc["unchanged", "final: change"] == ""
    assert shown.loc["no emoji", "changed texts"] == "14%"
    assert shown.loc["upper case", "base: change"][0] in "+-"


def test_a_sample_of_the_texts_and_no_texts(predicted):
    rows = measure(predicted, max_texts=9)
    assert {row["texts"] for row in rows} == {9}
    assert rows == measure(predicted, max_texts=9)
    models, frame, on = predicted
    assert measure((models, frame[:0], on)) == []
