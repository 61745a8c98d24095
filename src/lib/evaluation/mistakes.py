"""The final model's most confident mistakes by pair of classes, and likely annotation errors.

Where two models agree on another class than the label, and both are sure, the label itself is
worth a second look. Both models were trained on labels of the same annotators and one comes from
the other, so this is a hint and no proof.
Reference: Northcutt, Jiang, Chuang 2021, "Confident Learning", arXiv:1911.00068 (the idea of
finding label errors by confident disagreement).
"""

from __future__ import annotations

import jinja2
import numpy as np
import pandas as pd
from IPython.display import HTML

from lib import LABELS

SURE = 0.9
"""Confidence of both models from which a label that they contradict is doubtful."""
SHOWN = 15
"""Mistakes that are shown for each pair of classes."""
MARK = "likely annotation error"
# JupyterLab typesets what stands between dollars as a formula, but not in this class
PAGE = jinja2.Template(
    """<div class="mathjax_ignore">
{% for title, rows in parts %}
<details{{ " open" if loop.first }}><summary>{{ title }}</summary><table>
<tr>{% for name in rows.columns %}<th>{{ name }}</th>{% endfor %}</tr>
{% for row in rows.itertuples(index=False) %}
<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</table></details>
{% else %}
<p>No mistakes.</p>
{% endfor %}
</div>""",
    autoescape=True,
)


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


def show(table: pd.DataFrame) -> HTML:
    """The mistakes of `most_confident` at the end of a notebook's cell.

    One part for each pair of classes, most frequent first, to be opened and closed; no script.
    """
    parts = []
    pairs = sorted(table.groupby(["true", "predicted"]), key=lambda pair: -len(pair[1]))
    for (true, predicted), rows in pairs:
        title = f"{true}, predicted {predicted}: {len(rows)} mistakes, {rows[MARK].sum()} of them "
        title += f"likely annotation errors; the {min(SHOWN, len(rows))} most confident"
        rows = rows.head(SHOWN).drop(columns=["true", "predicted", "confidence"])
        numbers = rows.select_dtypes("number").map("{:.3f}".format)
        marks = np.where(rows[MARK], "likely", "")
        parts.append((title, rows.assign(**numbers, **{MARK: marks})))
    return HTML(PAGE.render(parts=parts))
