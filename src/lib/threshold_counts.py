"""How many texts a pair of thresholds keeps, of which classes and sources, and how right.

Texts are counted once, by the strictest thresholds (in hundredths) that they pass. A question then
sums over at most 101 * 101 cells per class and source, not over texts, and the counts are small
enough to answer it in a page without a kernel. Definitions are those of
`lib.reliability.frontier`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lib import LABELS
from lib.purity import wilson_interval

THRESHOLDS = np.arange(101) / 100


def steps(values: np.ndarray) -> np.ndarray:
    """The highest of THRESHOLDS that each value (in [0, 1]) reaches, as its number; int64."""
    values = np.asarray(values)
    return np.searchsorted(THRESHOLDS.astype(values.dtype), values, side="right") - 1


@dataclass(frozen=True)
class Kept:
    """What a pair of thresholds keeps.

    Attributes:
        texts: number of texts; share: of the corpus.
        counts: texts by source (rows) and predicted class (columns).
        expected_precision: mean confidence. measured_precision: share of the `audited` texts
            whose prediction is their audit label, with its 95% interval. NaN without texts.
    """

    texts: int
    share: float
    counts: pd.DataFrame
    expected_precision: float
    audited: int
    measured_precision: float
    low: float
    high: float


@dataclass(frozen=True)
class ThresholdCounts:
    """Cells of a histogram, those that are not empty.

    Attributes:
        cells: purity and confidence (numbers of THRESHOLDS), predicted, source (codes of
            `sources`), texts, confidence_sum, audited, right.
        sources: names; total: texts of the corpus, whether they can pass or not.
    """

    cells: pd.DataFrame
    sources: list[str]
    total: int

    @classmethod
    def count(cls, texts: pd.DataFrame, purity: np.ndarray, passing: np.ndarray) -> ThresholdCounts:
        """Count texts.

        Args:
            texts: source (category), predicted, confidence, audit_label (-1: unknown).
            purity: float [n], of the text's cluster; passing: bool [n], whether the text passes
                the filter's other options.
        """
        sources = [str(name) for name in texts["source"].cat.categories]
        part, purity = texts[passing], purity[passing]
        confidence = part["confidence"].to_numpy()
        shape = (len(THRESHOLDS), len(THRESHOLDS), len(LABELS), len(sources))
        predicted = part["predicted"].to_numpy()
        place = (steps(purity), steps(confidence), predicted, part["source"].cat.codes.to_numpy())
        cells, cell = np.unique(np.ravel_multi_index(place, shape), return_inverse=True)
        audit = part["audit_label"].to_numpy()

        def total(weights: np.ndarray | None = None) -> np.ndarray:
            return np.bincount(cell, weights=weights, minlength=len(cells))

        names = ("purity", "confidence", "predicted", "source")
        columns = dict(zip(names, np.unravel_index(cells, shape), strict=True))
        columns |= {"texts": total(), "confidence_sum": total(confidence)}
        columns |= {"audited": total(audit >= 0), "right": total(audit == predicted)}
        frame = pd.DataFrame(columns).astype({"audited": np.int64, "right": np.int64})
        return cls(frame, sources, len(texts))

    def kept(self, purity: int, confidence: int) -> Kept:
        """What thresholds keep; both as numbers of THRESHOLDS (hundredths)."""
        cells = self.cells
        chosen = ((cells["purity"] >= purity) & (cells["confidence"] >= confidence)).to_numpy()
        values = {name: cells[name].to_numpy()[chosen] for name in cells}
        place = values["source"] * len(LABELS) + values["predicted"]
        counts = np.bincount(place, values["texts"], len(self.sources) * len(LABELS))
        counts = counts.astype(np.int64).reshape(-1, len(LABELS))
        texts, audited = int(counts.sum()), int(values["audited"].sum())
        right = int(values["right"].sum())
        low, high = wilson_interval(right, audited)
        return Kept(
            texts=texts,
            share=texts / max(1, self.total),
            counts=pd.DataFrame(counts, index=self.sources, columns=list(LABELS)),
            expected_precision=values["confidence_sum"].sum() / texts if texts else float("nan"),
            audited=audited,
            measured_precision=right / audited if audited else float("nan"),
            low=float(low),
            high=float(high),
        )
