"""Robustness: how much macro-F1 is lost when texts are written differently but mean the same.

Each perturbation takes a text and a random generator and gives the text as somebody else could
have written it: with typing errors, without punctuation and emoji, in other case, between neutral
sentences. The label stays. A text of which nothing would be left stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib.evaluation.comparison import MODELS, load_both, predict_both
from lib.files import write_parquet
from lib.metrics import compare, evaluate
from lib.models.encoder import hardware

TYPO_RATE = 0.05
KEYBOARD = " йцукенгшщзхъ фывапролджэ ячсмитьбю "
UNCHANGED = "unchanged"
NEUTRAL = "Сегодня вторник. Пишу это с телефона."


def typos(text: str, rng: np.random.Generator) -> str:
    """Each Russian letter becomes, with probability TYPO_RATE, the one on the key beside it."""
    letters = list(text)
    for place in np.flatnonzero(rng.random(len(text)) < TYPO_RATE):
        key = KEYBOARD.find(text[place].lower())
        if key >= 0 and not text[place].isspace():
            wrong = rng.choice(list((KEYBOARD[key - 1] + KEYBOARD[key + 1]).strip()))
            letters[place] = wrong.upper() if text[place].isupper() else wrong
    return "".join(letters)


def words_only(text: str, rng: np.random.Generator | None = None) -> str:
    """Punctuation, emoticons and emoji become spaces."""
    return " ".join(re.sub(r"[^\w\s]", " ", text).split()) or text


PERTURBATIONS: dict[str, Callable[[str, np.random.Generator], str]] = {
    UNCHANGED: lambda text, rng: text,
    f"typos in {TYPO_RATE:.0%} of letters": typos,
    "no punctuation, no emoji": words_only,
    "lower case": lambda text, rng: text.lower(),
    "upper case": lambda text, rng: text.upper(),
    "neutral sentences before": lambda text, rng: f"{NEUTRAL} {text}",
    "neutral sentences after": lambda text, rng: f"{text} {NEUTRAL}",
}
"""In the order in which they are shown."""


def rewrite(texts: list[str], name: str, seed: int) -> list[str]:
    """Every text in one of PERTURBATIONS; its errors depend on `seed` and its place only."""
    change = PERTURBATIONS[name]
    return [change(text, np.random.default_rng([seed, i])) for i, text in enumerate(texts)]


def perturb(
    folder: Path,
    *,
    gold: Path,
    base: Path,
    final: Path,
    texts: int,
    max_tokens: int,
    precision: str,
    device: str,
    seed: int,
) -> None:
    """Write perturbed.parquet: what both models say of gold test texts that are rewritten.

    A row for each of PERTURBATIONS and each text: perturbation, text_id, text, label, and
    <model>_p0..2 and <model>_predicted.

    Args:
        texts: so many gold test texts, drawn by `seed`; all if there are fewer.
    """
    test = pd.read_parquet(gold, columns=["text_id", "text", "label", "split"])
    test = test[test["split"] == "test"]
    test = test.sample(min(texts, len(test)), random_state=seed)
    given = test["text"].tolist()
    frame = pd.concat(
        [test.assign(perturbation=name, text=rewrite(given, name, seed)) for name in PERTURBATIONS]
    )
    models = load_both(base, final, max_tokens)
    # each text once, and all at once: large batches are faster
    unique = frame["text"].unique().tolist()
    found, _ = predict_both(models, unique, hardware(precision, device), title="perturbed")
    write_parquet(folder / "perturbed.parquet", frame.merge(found.assign(text=unique), on="text"))


def compare_perturbed(frame: pd.DataFrame, *, samples: int, seed: int) -> list[dict[str, Any]]:
    """Macro-F1 of both models on each perturbation of the same texts.

    Args:
        frame: perturbed.parquet, see `perturb`.
    Returns:
        Rows of metrics.json, `dataset` with the perturbation's name behind it: base, final, and for
        each model the paired difference to UNCHANGED as `<model>: change`; all with 95% intervals.
        `perturbation` is its name with the share of texts that it changes.
    """
    parts = dict(list(frame.groupby("perturbation", sort=False)))
    plain = parts[UNCHANGED]
    options: dict[str, Any] = {"split": "test", "samples": samples, "seed": seed}
    rows = []
    for name, part in parts.items():
        changed = np.mean(part["text"].to_numpy() != plain["text"].to_numpy())
        extra = {"dataset": f"gold, {name!s}", "perturbation": f"{name!s} ({changed:.0%} of texts)"}
        true = part["label"].to_numpy()
        for model in MODELS:
            before, after = (p[f"{model}_predicted"].to_numpy() for p in (plain, part))
            found = evaluate(true, after, model=model, dataset="", **options)
            if name != UNCHANGED:
                change = compare(true, before, after, dataset="", **options)
                found += [row | {"model": f"{model}: change"} for row in change]
            rows += [row | extra for row in found if row["name"] == "macro_f1"]
    return rows
