"""Where figures of about 0.9 come from: validation on the training mix of gold and pseudo-labels.

A random share of the training texts is the usual validation set. Here a part of these texts has
labels that the base model itself gave, and only where it was sure, so that any model which agrees
with the base model looks good. This module makes such a validation set from texts that no training
has seen: the same models get other figures on it because its questions are easier.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from lib.evaluation.comparison import compare_models

CLEAN = {"dataset": "gold", "split": "validation"}
MIX = {"dataset": "training mix", "split": "random validation"}
HELD_OUT = {"dataset": "pseudo-labelled", "split": "held out"}


def compare_sets(
    tables: dict[str, pd.DataFrame], share: float, **options: Any
) -> list[dict[str, Any]]:
    """`lib.evaluation.comparison.compare_models` for CLEAN, MIX and HELD_OUT.

    Args:
        tables: as `lib.evaluation.comparison.read` gives them.
        share: of pseudo-labelled texts among the training texts, in [0, 1).
        options: samples and seed.
    """
    validation, heldout = tables["validation"], tables["heldout"]
    mix = validation_mix(validation, heldout, share, options["seed"])
    sets = [(validation, CLEAN), (mix, MIX), (heldout, HELD_OUT)]
    return [row for texts, about in sets for row in compare_models(texts, **about, **options)]


def validation_mix(
    validation: pd.DataFrame, heldout: pd.DataFrame, share: float, seed: int
) -> pd.DataFrame:
    """The largest random sample of both tables in which `share` of the texts is pseudo-labelled."""
    if heldout.empty or not share:
        return heldout.head(0)
    total = min(len(heldout) / share, len(validation) / (1 - share))
    gold = validation.sample(round(total * (1 - share)), random_state=seed)
    return pd.concat([gold, heldout.sample(round(total * share), random_state=seed)])
