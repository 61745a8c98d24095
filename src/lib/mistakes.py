"""The most confident mistakes of base and final by pair of classes, and likely annotation errors.

Where two models agree on another class than the label, and both are sure, the label itself is
worth a second look. Both models were trained on labels of the same annotators and one comes from
the other, so this is a hint and no proof.
Reference: Northcutt, Jiang, Chuang 2021, "Confident Learning", arXiv:1911.00068 (the idea of
finding label errors by confident disagreement).
"""

from __future__ import annotations

import html

import numpy as np
import pandas as pd
from IPython.display import HTML

from lib import LABELS
from lib.final_eval import MODELS

MARK = "likely annotation error"


def most_confident(frame: pd.DataFrame, model: str, min_confidence: float) -> pd.DataFrame:
    """All mistakes of a model, most confident first.

    Args:
        frame: as `lib.final_eval.predict_both` gives it: text, source, label, and for each model
            <model>_predicted and the probabilities <model>_p0..2.
        min_confidence: of both models, for a likely annotation error.
    Returns:
        text, source, true and predicted (names), confidence (of the prediction), the probability
        of each class, the other model's prediction and confidence, and likely annotation error
        (bool).
    """
    (other,) = [name for name in MODELS if name != model]
    probabilities, others = _probabilities(frame, model), _probabilities(frame, other)
    table = pd.DataFrame(
        {
            "text": frame["text"].to_numpy(),
            "source": frame["source"].astype(str).to_numpy(),
            "true": _names(frame["label"]),
            "predicted": _names(probabilities.argmax(1)),
            "confidence": probabilities.max(1),
            **{f"p({name})": probabilities[:, i] for i, name in enumerate(LABELS)},
            f"{other} predicts": _names(others.argmax(1)),
            f"{other} confidence": others.max(1),
            MARK: likely_annotation_errors(frame, min_confidence),
        }
    )
    wrong = table[table["true"] != table["predicted"]]
    return wrong.sort_values("confidence", ascending=False, kind="stable", ignore_index=True)


def likely_annotation_errors(frame: pd.DataFrame, min_confidence: float) -> np.ndarray:
    """Whether both models predict one class, not the label, at least so surely; bool [n]."""
    base, final = (_probabilities(frame, model) for model in MODELS)
    agreed = base.argmax(1) == final.argmax(1)
    sure = np.minimum(base.max(1), final.max(1)) >= min_confidence
    return agreed & sure & (base.argmax(1) != frame["label"].to_numpy())


def pairs(table: pd.DataFrame) -> pd.DataFrame:
    """Mistakes by pair of classes, most frequent first: true, predicted, mistakes, and marked."""
    groups = table.groupby(["true", "predicted"])[MARK].agg(mistakes="size", marked="sum")
    return groups.sort_values("mistakes", ascending=False, kind="stable").reset_index()


def show(table: pd.DataFrame, count: int) -> HTML:
    """`to_html` for the end of a notebook's cell."""
    return HTML(to_html(table, count))


def to_html(table: pd.DataFrame, count: int) -> str:
    """Mistakes as HTML: one part per pair of classes, to be opened and closed without a script.

    Args:
        table: of `most_confident`; count: the most confident ones of each pair that are shown.
    """
    if table.empty:
        return "<p>No mistakes.</p>"
    parts = []
    for number, row in enumerate(pairs(table).itertuples()):
        chosen = table[(table["true"] == row.true) & (table["predicted"] == row.predicted)]
        shown = chosen.head(count).drop(columns=["true", "predicted", "confidence"])
        shown[MARK] = np.where(shown[MARK], "likely", "")
        title = (
            f"{row.true}, predicted {row.predicted}: {row.mistakes} mistakes, "
            f"{row.marked} of them likely annotation errors"
        )
        if len(shown) < row.mistakes:
            title += f"; the {len(shown)} most confident"
        with pd.option_context("display.max_colwidth", None):
            content = shown.to_html(index=False, border=0, float_format="%.3f", escape=True)
        opened = " open" if number == 0 else ""
        parts.append(f"<details{opened}><summary>{html.escape(title)}</summary>{content}</details>")
    return "\n".join(parts)


def _probabilities(frame: pd.DataFrame, model: str) -> np.ndarray:
    return frame[[f"{model}_p{i}" for i in range(len(LABELS))]].to_numpy()


def _names(labels: np.ndarray | pd.Series) -> np.ndarray:
    return np.array(LABELS)[np.asarray(labels, dtype=np.int64)]
