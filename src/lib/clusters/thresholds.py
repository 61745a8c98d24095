"""How many texts a pair of thresholds keeps, of which classes and sources, and how right.

Texts are counted once, by the strictest thresholds that they pass. A question then sums over cells,
not over texts; in hundredths there are at most 101 * 101 per class and source, few enough to answer
it in a page without a kernel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lib import LABELS
from lib.clusters.purity import wilson_interval

THRESHOLDS = np.arange(101) / 100


def steps(values: np.ndarray, thresholds: np.ndarray = THRESHOLDS) -> np.ndarray:
    """The number of the highest threshold that each value (in [0, 1]) reaches; int64."""
    values = np.asarray(values)
    return np.searchsorted(thresholds.astype(values.dtype), values, side="right") - 1


@dataclass(frozen=True)
class Kept:
    """What a pair of thresholds keeps.

    Attributes:
        texts, share: of the corpus; counts: texts by source (rows) and predicted class (columns).
        expected_precision: mean confidence, what the classifier itself believes: too high where it
            is overconfident; NaN without texts.
        measured_precision: share of the `audited` texts whose prediction is their audit label, with
            its 95% interval; it speaks only of sources that have such labels; NaN without them.
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
        cells: purity and confidence (numbers of thresholds), predicted, source (codes of
            `sources`), texts, confidence_sum, audited, right.
        sources: names; total: texts of the corpus, whether they can pass or not.
    """

    cells: pd.DataFrame
    sources: list[str]
    total: int

    @classmethod
    def count(
        cls,
        texts: pd.DataFrame,
        purity: np.ndarray,
        passing: np.ndarray,
        purities: np.ndarray = THRESHOLDS,
        confidences: np.ndarray = THRESHOLDS,
    ) -> ThresholdCounts:
        """Count texts.

        Args:
            texts: source (category), predicted, confidence, audit_label (-1: unknown).
            purity: float [n], of `lib.clusters.filter.label_purity`.
            passing: bool [n], whether the text passes the filter's other options.
            purities, confidences: the thresholds, ascending, the first is 0.
        """
        cells = pd.DataFrame(
            {
                "purity": steps(purity, purities),
                "confidence": steps(texts["confidence"].to_numpy(), confidences),
                "predicted": texts["predicted"],
                "source": texts["source"].cat.codes,
                "texts": 1,
                "confidence_sum": texts["confidence"].astype(float),
                "audited": (texts["audit_label"] >= 0).astype(int),
                "right": (texts["audit_label"] == texts["predicted"]).astype(int),
            }
        )[passing]
        names = [str(name) for name in texts["source"].cat.categories]
        keys = ["purity", "confidence", "predicted", "source"]
        return cls(cells.groupby(keys, as_index=False).sum(), names, len(texts))

    def kept(self, purity: int, confidence: int) -> Kept:
        """What thresholds keep; both by number, which are hundredths if not counted otherwise."""
        cells = self.cells
        cells = cells[(cells["purity"] >= purity) & (cells["confidence"] >= confidence)]
        counts = np.zeros((len(self.sources), len(LABELS)), dtype=np.int64)
        np.add.at(counts, (cells["source"], cells["predicted"]), cells["texts"])
        texts, audited, right = (int(cells[name].sum()) for name in ("texts", "audited", "right"))
        low, high = wilson_interval(right, audited)
        return Kept(
            texts=texts,
            share=texts / max(1, self.total),
            counts=pd.DataFrame(counts, index=self.sources, columns=list(LABELS)),
            expected_precision=cells["confidence_sum"].sum() / texts if texts else np.nan,
            audited=audited,
            measured_precision=right / audited if audited else np.nan,
            low=float(low),
            high=float(high),
        )
