"""Where figures of about 0.9 come from: validation on the training mix of gold and pseudo-labels.

A random share of the training texts is the usual validation set. Here a part of these texts has
labels that the base model itself gave, and only where it was sure, so that any model which agrees
with the base model looks good. This module makes such a validation set from texts that no training
has seen, and shows how macro-F1 depends on its share of pseudo-labelled texts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from lib.evaluation import f1_per_class
from lib.final_eval import MODELS, matrices

MIX = {"dataset": "training mix", "split": "random validation"}
HELD_OUT = {"dataset": "pseudo-labelled", "split": "held out"}
CLEAN = {"dataset": "gold", "split": "validation"}
TEST = {"dataset": "gold", "split": "test"}
INFLATED = 0.9  # the macro-F1 that the curve is asked for


def pseudo_share(gold_train: int, heldout: int, heldout_share: float) -> float:
    """Share of pseudo-labelled texts among all training texts.

    Args:
        gold_train: gold texts in training; heldout: pseudo-labelled texts held out of training,
            `heldout_share` of all.
    """
    pseudo_train = heldout * (1 - heldout_share) / heldout_share
    return pseudo_train / max(1.0, pseudo_train + gold_train)


def validation_mix(
    validation: pd.DataFrame, heldout: pd.DataFrame, share: float, seed: int
) -> pd.DataFrame:
    """The largest random sample of both tables in which `share` of the texts is pseudo-labelled.

    Args:
        validation: gold validation texts; heldout: pseudo-labelled texts held out of training;
            both with `label` (of the pseudo-labelled texts the pseudo-label).
        share: in [0, 1].
    Returns:
        Rows of both with the column `pseudo`, bool.
    """
    total = min(
        len(heldout) / share if share > 0 else np.inf,
        len(validation) / (1 - share) if share < 1 else np.inf,
    )
    parts = [
        frame.sample(round(total * part), random_state=seed).assign(pseudo=pseudo)
        for frame, part, pseudo in ((validation, 1 - share, False), (heldout, share, True))
    ]
    return pd.concat(parts, ignore_index=True)


def curve(validation: pd.DataFrame, heldout: pd.DataFrame) -> pd.DataFrame:
    """Macro-F1 of both models by the share of pseudo-labelled texts in the validation set.

    From the expected confusion counts at each share.

    Returns:
        share (0 to 1 by 0.01), base, final.
    """
    shares = np.linspace(0, 1, 101)
    gold, pseudo = matrices(validation), matrices(heldout)
    columns = {"share": shares}
    for model in MODELS:
        clean, easy = (found[model] / max(1, found[model].sum()) for found in (gold, pseudo))
        mixed = (1 - shares)[:, None, None] * clean + shares[:, None, None] * easy
        columns[model] = f1_per_class(mixed).mean(-1)
    return pd.DataFrame(columns)


def share_reaching(curve: pd.DataFrame, model: str, target: float = INFLATED) -> float | None:
    """The lowest share of pseudo-labelled texts with which `model` has `target`; None: never."""
    reached = curve.loc[curve[model] >= target, "share"]
    return None if reached.empty else float(reached.iloc[0])


def explain(rows: list[dict[str, Any]], share: float, curve: pd.DataFrame) -> str:
    """The difference between clean test and the mix in words and figures, as Markdown.

    Args:
        rows: of `lib.final_eval.compare_models` for gold test, gold validation, the mix and the
            held-out pseudo-labelled texts.
        share: of pseudo-labelled texts among the training texts.
        curve: as `curve` gives it.
    """
    if not any(HELD_OUT.items() <= row.items() for row in rows):
        return "No pseudo-labelled text is held out: there is nothing to compare."
    sentences = [f"{share:.0%} of the training texts are pseudo-labelled."]
    for model in MODELS:
        test, clean, mix, easy = (
            _macro_f1(rows, model, **about) for about in (TEST, CLEAN, MIX, HELD_OUT)
        )
        needed = share_reaching(curve, model)
        reads = (
            f"never reads {INFLATED:g}"
            if needed is None
            else f"reads {INFLATED:g} with {needed:.0%} of such texts or more"
        )
        sentences.append(
            f"The **{model}** model has macro-F1 {test:.3f} on clean gold test and {mix:.3f} on "
            f"the mix ({mix - test:+.3f}): {clean:.3f} on the gold part's validation texts, "
            f"{easy:.3f} on pseudo-labelled ones; it {reads}."
        )
    return " ".join(sentences)


def _macro_f1(rows: list[dict[str, Any]], model: str, *, dataset: str, split: str) -> float:
    wanted = {"name": "macro_f1", "model": model, "dataset": dataset, "split": split}
    return next(row["value"] for row in rows if wanted.items() <= row.items())
