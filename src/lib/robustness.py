"""Robustness: how much macro-F1 is lost when texts are written differently but mean the same.

Each perturbation takes a text and a random generator and gives the text as somebody else could
have written it: with typing errors, without punctuation, in other case, without emoji, between
neutral sentences. The label stays. A text of which nothing would be left stays as it is.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from lib import emoticons
from lib.encoder import Encoder
from lib.evaluation import compare, evaluate
from lib.final_eval import MODELS, predict_both

Perturbation = Callable[[str, np.random.Generator], str]

KEYBOARD = ("йцукенгшщзхъ", "фывапролджэ", "ячсмитьбю")
"""Rows of the Russian layout ЙЦУКЕН, each shifted half a key to the right of the one above."""

NEUTRAL_SENTENCES = (
    "Сегодня вторник.",
    "Пишу это с телефона.",
    "В комнате стоит стол и два стула.",
    "Автобус номер семь идёт до вокзала.",
    "Магазин работает с девяти до восьми.",
    "Река течёт с севера на юг.",
    "На улице плюс десять градусов.",
    "Документ состоит из трёх страниц.",
    "Встреча начинается в шесть часов.",
    "Дом построен из красного кирпича.",
    "В списке двенадцать пунктов.",
    "Поезд прибывает на второй путь.",
)
"""Written for this module: facts without any attitude."""

_EMOJI = re.compile(
    "[\U0001f000-\U0001faff\u2600-\u27bf\u2b00-\u2bff\u2300-\u23ff\u200d\u20e3\ufe0e\ufe0f"
    "\U000e0020-\U000e007f]"
)
_SPACES = re.compile(r"\s+")


def _neighbours() -> dict[str, str]:
    """Letter -> the letters on the keys that touch its key."""
    places = {letter: (y, x) for y, row in enumerate(KEYBOARD) for x, letter in enumerate(row)}
    # in half keys: a row lies half a key to the right of the row above
    centres = {letter: (y, 2 * x + y) for letter, (y, x) in places.items()}
    return {
        letter: "".join(
            other
            for other, (row, at) in centres.items()
            if other != letter and abs(row - y) <= 1 and abs(at - x) <= 2 - abs(row - y)
        )
        for letter, (y, x) in centres.items()
    } | {"ё": "йе"}  # ё lies far off, and many type е for it


NEIGHBOURS = _neighbours()


def typos(text: str, rng: np.random.Generator, rate: float = 0.05) -> str:
    """Each Russian letter goes wrong with probability `rate`: half of the time the key beside it is
    hit, half of the time it changes places with the next letter. Case stays."""
    letters = list(text)
    draws = rng.random((len(letters), 3))
    place = 0
    while place < len(letters):
        letter = letters[place]
        around = NEIGHBOURS.get(letter.lower())
        if around and draws[place, 0] < rate:
            follows = letters[place + 1] if place + 1 < len(letters) else ""
            if draws[place, 1] < 0.5 and follows.lower() in NEIGHBOURS:
                letters[place], letters[place + 1] = follows, letter
                place += 1  # a letter is moved once
            else:
                wrong = around[int(draws[place, 2] * len(around))]
                letters[place] = wrong.upper() if letter.isupper() else wrong
        place += 1
    return "".join(letters)


def without_punctuation(text: str, rng: np.random.Generator | None = None) -> str:
    """Punctuation marks become spaces; emoticons like :) go with them, emoji stay."""
    kept = "".join(" " if unicodedata.category(c)[0] == "P" else c for c in text)
    return _SPACES.sub(" ", kept).strip() or text


def lower_case(text: str, rng: np.random.Generator | None = None) -> str:
    """All letters small."""
    return text.lower()


def upper_case(text: str, rng: np.random.Generator | None = None) -> str:
    """All letters capital."""
    return text.upper()


def without_emoji(text: str, rng: np.random.Generator | None = None) -> str:
    """No emoji, and no emoticons (see `lib.emoticons.strip`)."""
    kept = emoticons.strip(_EMOJI.sub(" ", text))
    return _SPACES.sub(" ", kept).strip() or text


def neutral_before(text: str, rng: np.random.Generator) -> str:
    """Two neutral sentences before the text."""
    return f"{_neutral(rng)} {text}"


def neutral_after(text: str, rng: np.random.Generator) -> str:
    """Two neutral sentences after the text; a text without an end gets a full stop."""
    ended = text if unicodedata.category(text[-1])[0] in "PS" else text + "."
    return f"{ended} {_neutral(rng)}"


def _neutral(rng: np.random.Generator) -> str:
    chosen = rng.choice(len(NEUTRAL_SENTENCES), 2, replace=False)
    return " ".join(NEUTRAL_SENTENCES[i] for i in chosen)


def perturbations(typo_rate: float) -> dict[str, Perturbation]:
    """Name -> perturbation, in the order in which they are shown."""
    return {
        f"typos in {typo_rate:.0%} of letters": lambda text, rng: typos(text, rng, typo_rate),
        "no punctuation": without_punctuation,
        "lower case": lower_case,
        "upper case": upper_case,
        "no emoji": without_emoji,
        "neutral sentences before": neutral_before,
        "neutral sentences after": neutral_after,
    }


def perturb(texts: list[str], perturbation: Perturbation, seed: int) -> list[str]:
    """Every text perturbed; a text's errors depend on `seed` and its place only."""
    return [
        perturbation(text, np.random.default_rng([seed, place])) for place, text in enumerate(texts)
    ]


def compare_perturbed(
    models: dict[str, Encoder],
    frame: pd.DataFrame,
    hardware: dict[str, Any],
    *,
    max_texts: int,
    typo_rate: float,
    dataset: str,
    split: str,
    samples: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Macro-F1 of both models on each perturbation of the same texts.

    Args:
        frame: `text`, `label` and, from `lib.final_eval.predict_both`, <model>_predicted.
        max_texts: so many texts, drawn by `seed`; all if there are fewer.
    Returns:
        Rows of metrics.json, `dataset` with the perturbation's name behind it (`unchanged`: the
        same texts as they are): base, final, and per model the paired difference to `unchanged` as
        `<model>: change`; all with 95% intervals. `changed` is the share of texts that differ.
    """
    chosen = np.random.default_rng(seed).permutation(len(frame))[:max_texts]
    frame = frame.iloc[np.sort(chosen)].reset_index(drop=True)
    if frame.empty:
        return []
    true, texts = frame["label"].to_numpy(), frame["text"].tolist()
    versions = {
        name: perturb(texts, perturbation, seed)
        for name, perturbation in perturbations(typo_rate).items()
    }
    # only what is new goes through the models, and all at once: large batches are faster
    new = sorted({text for version in versions.values() for text in version} - set(texts))
    again, _ = predict_both(models, pd.DataFrame({"text": new}), hardware)
    labels = pd.concat([frame, again]).drop_duplicates("text").set_index("text")
    rows = []
    for name, version in ({"unchanged": texts} | versions).items():
        changed = np.mean([one != other for one, other in zip(version, texts, strict=True)])
        about = {"dataset": f"{dataset}, {name}", "split": split, "samples": samples, "seed": seed}
        for model in MODELS:
            predicted = labels.loc[version, f"{model}_predicted"].to_numpy()
            found = evaluate(true, predicted, model=model, **about)
            if name in versions:
                plain = frame[f"{model}_predicted"].to_numpy()
                change = compare(true, plain, predicted, **about)
                found += [row | {"model": f"{model}: change"} for row in change]
            rows += [
                row | {"perturbation": name, "changed": float(changed)}
                for row in found
                if row["name"] == "macro_f1"
            ]
    return rows


def table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """One line per perturbation: share of changed texts, both models, and their changes."""
    cells: dict[str, dict[str, str]] = {}
    for row in rows:
        line = cells.setdefault(row["perturbation"], {"changed texts": f"{row['changed']:.0%}"})
        sign = "+" if row["model"].endswith("change") else ""
        values = [format(row[key], f"{sign}.3f") for key in ("value", "low", "high")]
        line[row["model"]] = "{} [{}, {}]".format(*values)
    columns = ["changed texts", "base", "base: change", "final", "final: change"]
    return pd.DataFrame.from_dict(cells, orient="index").reindex(columns=columns).fillna("")
