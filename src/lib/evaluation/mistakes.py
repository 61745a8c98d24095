"""The final model's most confident mistakes by pair of classes, and likely annotation errors.

Where two models agree on another class than the label, and both are sure, the label itself is
worth a second look. Both models were trained on labels of the same annotators and one comes from
the other, so this is a hint and no proof.
Reference: Northcutt, Jiang, Chuang 2021, "Confident Learning", arXiv:1911.00068 (the idea of
finding label errors by confident disagreement).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from lib import LABELS
from lib.style import text_table

SURE = 0.9
"""Confidence of both models from which a label that they contradict is doubtful."""
SHOWN = 5
"""Mistakes that are shown for each pair of classes."""
MARK = "likely annotation error"


def most_confident(frame: pd.DataFrame) -> pd.DataFrame:
    """All mistakes of the final model, most confident first.

    Args:
        frame: text, source, label, and <model>_p0..2 of both models.
    Returns:
        text, source, true and predicted (names), confidence (of the prediction), the probability
        of each class, the base's prediction and confidence, and likely annotation error (bool).
    """
    base, final = (
        frame[[f"{model}_p{i}" for i in range(len(LABELS))]].to_numpy()
        for model in ("base", "final")
    )
    label, names = frame["label"].to_numpy(), np.array(LABELS)
    sure = np.minimum(base.max(1), final.max(1)) >= SURE
    table = pd.DataFrame(
        {
            "text": frame["text"],
            "source": frame["source"],
            "true": names[label],
            "predicted": names[final.argmax(1)],
            "confidence": final.max(1),
            **{f"p({name})": final[:, i] for i, name in enumerate(LABELS)},
            "base predicts": names[base.argmax(1)],
            "base confidence": base.max(1),
            MARK: sure & (base.argmax(1) == final.argmax(1)),
        }
    )
    wrong = table[final.argmax(1) != label]
    return wrong.sort_values("confidence", ascending=False, kind="stable", ignore_index=True)


def show(table: pd.DataFrame) -> Styler:
    """The SHOWN most confident mistakes of each pair of classes, to be read.

    Args:
        table: of `most_confident`.
    """
    pairs = ["true", "predicted"]
    shown = table.groupby(pairs).head(SHOWN).sort_values(pairs, kind="stable")
    return text_table(shown.drop(columns="confidence"))
