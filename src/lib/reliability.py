"""The reliability filter: which pseudo-labels to keep, and what its thresholds trade.

A pseudo-label is kept if its cluster is pure and its own prediction confident. `frontier` says for
a grid of both thresholds how many texts stay and how right they are expected, and where audit
labels exist measured, to be.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from lib import LABELS
from lib.errors import UserError
from lib.purity import wilson_interval
from lib.schema import ClusterPurityParams

K = len(LABELS)
PURITIES = (0.0, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0)
CONFIDENCES = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


def options(params: ClusterPurityParams) -> dict[str, Any]:
    """The arguments of `reliable` and `frontier` that are parameters of step 04."""
    names = {"purity_measure", "min_purity", "min_confidence", "confident_share"}
    names |= {"require_dominant", "max_entropy", "min_cluster_size"}
    return params.model_dump(include=names)


def reliable(
    assigned: np.ndarray, probabilities: np.ndarray, table: pd.DataFrame, **options: Any
) -> np.ndarray:
    """Which pseudo-labels to keep, bool [n].

    Args:
        assigned: int [n], cluster of each text; probabilities: float [n, 3].
        table, options: as for `passes`.
    """
    return passes(assigned, probabilities.argmax(1), probabilities.max(1), table, **options)


def passes(
    assigned: np.ndarray,
    predicted: np.ndarray,
    confidence: np.ndarray,
    table: pd.DataFrame,
    *,
    min_purity: float,
    min_confidence: float,
    require_dominant: bool,
    purity_measure: str = "purity",
    confident_share: float = 1.0,
    max_entropy: float | None = None,
    min_cluster_size: int = 1,
) -> np.ndarray:
    """The same for predictions as clusters.parquet holds them, bool [n].

    Args:
        assigned: int [n], cluster of each text; predicted: int [n]; confidence: float [n].
        table: as `lib.purity.purity_table` gives it.
        min_purity: of the cluster, by its column `purity_measure` (purity, purity_lower_bound).
        min_confidence: of the text's own prediction.
        confident_share: of the texts of each predicted class, see `most_confident`.
        require_dominant: the prediction must be the cluster's dominant class.
        max_entropy: nats, of the cluster's mean_entropy; None: any.
        min_cluster_size: texts.
    """
    good = (table[purity_measure] >= min_purity) & (table["size"] >= min_cluster_size)
    if max_entropy is not None:
        good &= table["mean_entropy"] <= max_entropy
    kept = good.to_numpy()[assigned]
    kept &= (confidence >= min_confidence) & most_confident(predicted, confidence, confident_share)
    if require_dominant:
        kept &= predicted == table["dominant"].to_numpy()[assigned]
    return kept


def most_confident(predicted: np.ndarray, confidence: np.ndarray, share: float) -> np.ndarray:
    """The most confident `share` of the texts of each predicted class, bool [n].

    A classifier's confidence may say too much or too little, and differently for each class; its
    order is worth more (class-balanced self-training: Zou et al. 2018, arXiv:1810.07911, section
    4.1). Rounded up; texts as confident as the last one stay, too.

    Args:
        predicted: int [n]; confidence: float [n]; share: in (0, 1].
    """
    kept = np.ones(len(predicted), dtype=bool)
    if share < 1.0:
        for label in np.unique(predicted):
            rows = predicted == label
            last = int(rows.sum()) - int(np.ceil(share * rows.sum()))
            kept[rows] = confidence[rows] >= np.partition(confidence[rows], last)[last]
    return kept


def check_kept(kept: np.ndarray, predicted: np.ndarray) -> None:
    """Raises UserError if no text, or no text of some class, passed the filter."""
    counts = np.bincount(predicted[kept], minlength=K)
    if (counts == 0).any():
        absent = [name for name, n in zip(LABELS, counts, strict=True) if n == 0]
        raise UserError(
            f"04_cluster_purity: no text of class {', '.join(absent)} passed the filter (kept: "
            f"{dict(zip(LABELS, counts.tolist(), strict=True))}); lower min_purity or "
            "min_confidence (0, and confident_share 0.5, chooses by rank), or change clusters"
        )


def frontier(
    assigned: np.ndarray,
    probabilities: np.ndarray,
    table: pd.DataFrame,
    audit_label: np.ndarray,
    *,
    min_purity: float,
    min_confidence: float,
    purity_measure: str = "purity",
    **others: object,
) -> pd.DataFrame:
    """What the filter would keep, and how right that would be, at each pair of thresholds.

    Expected precision is the mean confidence of the kept texts: what the classifier itself
    believes, which is right as far as it is calibrated on the corpus, and too high where it is
    overconfident. Measured precision is the share of kept texts with an audit label that have
    been predicted as labelled; it speaks only of the sources that have such labels.

    Args:
        assigned, probabilities, table, purity_measure: as for `reliable`.
        audit_label: int [n], -1 where unknown.
        min_purity, min_confidence: the thresholds in use; added to the grid, marked `chosen`.
        others: the filter's other options, as for `reliable`; the same in every cell.
    Returns:
        One row per pair: min_purity, min_confidence, chosen, kept (texts), kept_share, one count
        per predicted class, expected_precision, audited (kept texts with an audit label),
        measured_precision, and low and high of its 95% Wilson interval. NaN without texts.
    """
    purities = np.union1d(PURITIES, [min_purity])
    confidences = np.union1d(CONFIDENCES, [min_confidence])
    passing = reliable(assigned, probabilities, table, min_purity=0.0, min_confidence=0.0, **others)
    predicted, confidence = probabilities.argmax(1), probabilities.max(1)
    # the cell of a text is the strictest pair that it still passes
    strictest = np.searchsorted(purities, table[purity_measure].fillna(0.0), side="right") - 1
    cell = strictest[assigned] * len(confidences)
    cell += np.searchsorted(confidences.astype(confidence.dtype), confidence, side="right") - 1
    shape = (len(purities), len(confidences))

    def at_least(rows: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        """Sums over the texts that pass a pair of thresholds, for all pairs; float64 [P * C]."""
        part = None if weights is None else weights[rows]
        cells = np.bincount(cell[rows], weights=part, minlength=shape[0] * shape[1])
        return cells.reshape(shape)[::-1, ::-1].cumsum(0).cumsum(1)[::-1, ::-1].ravel()

    known = passing & (audit_label >= 0)
    kept, audited = at_least(passing), at_least(known)
    right = at_least(known & (predicted == audit_label))
    low, high = wilson_interval(right, audited)
    result = pd.DataFrame(
        {
            "min_purity": np.repeat(purities, shape[1]),
            "min_confidence": np.tile(confidences, shape[0]),
            "kept": kept,
            "kept_share": kept / len(assigned),
            **{name: at_least(passing & (predicted == i)) for i, name in enumerate(LABELS)},
        }
    )
    with np.errstate(invalid="ignore"):
        result["expected_precision"] = at_least(passing, confidence) / kept
        result["audited"], result["measured_precision"] = audited, right / audited
    result["low"], result["high"] = low, high
    chosen = (result["min_purity"] == min_purity) & (result["min_confidence"] == min_confidence)
    result.insert(2, "chosen", chosen)
    return result


def audit(
    predicted: np.ndarray, audit_label: np.ndarray, kept: np.ndarray, sources: pd.Series
) -> pd.DataFrame:
    """How often pseudo-labels agree with audit labels, all against kept, by source.

    Args:
        predicted: int [n]; audit_label: int [n], -1 where unknown; kept: bool [n];
        sources: n names.
    Returns:
        source, texts and agreement of all predictions, kept texts and their agreement; empty
        when no text has an audit label.
    """
    known = audit_label >= 0
    right = predicted == audit_label
    rows = []
    for source in sorted(sources[known].unique()):
        here = known & (sources == source).to_numpy()
        chosen = here & kept
        rows.append(
            {
                "source": source,
                "texts": int(here.sum()),
                "agreement": float(right[here].mean()),
                "kept": int(chosen.sum()),
                "agreement of kept": float(right[chosen].mean()) if chosen.any() else None,
            }
        )
    columns = ["source", "texts", "agreement", "kept", "agreement of kept"]
    return pd.DataFrame(rows, columns=columns)


def kept_metrics(
    predicted: np.ndarray, kept: np.ndarray, audit_table: pd.DataFrame
) -> list[dict[str, object]]:
    """Rows of metrics.json: share kept overall and per class, and agreement with audit labels."""
    about = {"dataset": "corpus", "split": "corpus"}
    rows = [{"name": "kept_share", **about, "texts": len(kept), "value": float(kept.mean())}]
    for i, name in enumerate(LABELS):
        of_class = kept[predicted == i]
        rows.append(
            {"name": f"kept_{name}", **about, "texts": len(of_class), "value": int(of_class.sum())}
        )
    for row in audit_table.itertuples():
        about = {"dataset": row.source, "split": "audit"}
        rows.append({"name": "agreement", **about, "texts": row.texts, "value": row.agreement})
        if row.kept:
            rows.append({"name": "agreement_of_kept", **about, "texts": row.kept, "value": row[-1]})
    return rows
