"""The filter: which pseudo-labels are kept, and what its thresholds trade.

A pseudo-label is kept if its cluster is pure, it is the cluster's dominant class, and the
prediction is confident. `frontier` says for a grid of both thresholds how many texts stay and how
right they are expected, and where audit labels exist measured, to be.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from lib import LABELS
from lib.clusters.purity import wilson_interval
from lib.clusters.thresholds import ThresholdCounts
from lib.errors import UserError
from lib.parameters import ClusterPurityParams

PURITIES = (0.0, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0)
CONFIDENCES = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
ALL_AUDIT = "all audit texts"


def options(params: ClusterPurityParams) -> dict[str, Any]:
    """The arguments of `passes` that are parameters of step 04."""
    return params.only("min_purity", "min_confidence", "confident_share", "min_cluster_size")


def reliable(
    assigned: np.ndarray, probabilities: np.ndarray, table: pd.DataFrame, **options: Any
) -> np.ndarray:
    """`passes` for probabilities float [n, 3], bool [n]."""
    return passes(assigned, probabilities.argmax(1), probabilities.max(1), table, **options)


def passes(
    assigned: np.ndarray,
    predicted: np.ndarray,
    confidence: np.ndarray,
    table: pd.DataFrame,
    *,
    min_purity: float,
    min_confidence: float,
    confident_share: float = 1.0,
    min_cluster_size: int = 1,
) -> np.ndarray:
    """Which pseudo-labels to keep, bool [n].

    Args:
        assigned: int [n], cluster of each text; predicted: int [n]; confidence: float [n].
        table: as `lib.clusters.purity.purity_table` gives it.
        min_purity: of `label_purity`; 0: the cluster does not matter.
        min_confidence: of the text's own prediction; confident_share: see `most_confident`.
        min_cluster_size: texts.
    """
    kept = label_purity(assigned, predicted, table) >= min_purity
    kept &= table["size"].to_numpy()[assigned] >= min_cluster_size
    kept &= confidence >= min_confidence
    return kept & most_confident(predicted, confidence, confident_share)


def label_purity(assigned: np.ndarray, predicted: np.ndarray, table: pd.DataFrame) -> np.ndarray:
    """Purity of each text's cluster, 0 where the text is not of its dominant class; float64 [n]."""
    dominant = table["dominant"].to_numpy()[assigned] == predicted
    return np.where(dominant, table["purity"].to_numpy()[assigned], 0.0)


def most_confident(predicted: np.ndarray, confidence: np.ndarray, share: float) -> np.ndarray:
    """The most confident `share` of the texts of each predicted class, bool [n].

    A classifier's confidence may say too much or too little, and differently for each class; its
    order is worth more (class-balanced self-training: Zou et al. 2018, arXiv:1810.07911, section
    4.1). Rounded up; texts as confident as the last one stay, too.
    """
    kept = np.ones(len(predicted), dtype=bool)
    for label in np.unique(predicted) if share < 1.0 else ():
        rows = predicted == label
        last = int(rows.sum()) - int(np.ceil(share * rows.sum()))
        kept[rows] = confidence[rows] >= np.partition(confidence[rows], last)[last]
    return kept


def check_kept(kept: np.ndarray, predicted: np.ndarray) -> None:
    """Raises UserError if no text, or no text of some class, passed the filter."""
    counts = np.bincount(predicted[kept], minlength=len(LABELS)).tolist()
    if absent := [name for name, n in zip(LABELS, counts, strict=True) if n == 0]:
        raise UserError(
            f"04_cluster_purity: no text of class {', '.join(absent)} passed the filter (kept: "
            f"{dict(zip(LABELS, counts, strict=True))}); lower min_purity or "
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
    **others: Any,
) -> pd.DataFrame:
    """What the filter would keep, and how right that would be, at each pair of thresholds.

    Args:
        assigned, probabilities, table: as for `reliable`; audit_label: int [n], -1 where unknown.
        min_purity, min_confidence: the thresholds in use; added to the grid, marked `chosen`.
        others: the filter's other options; the same in every row.
    Returns:
        One row per pair: min_purity, min_confidence, chosen, kept (texts), kept_share, one count
        per predicted class, and the other values of `lib.clusters.thresholds.Kept`.
    """
    predicted, confidence = probabilities.argmax(1), probabilities.max(1)
    about = (assigned, predicted, confidence, table)
    passing = passes(*about, min_purity=0.0, min_confidence=0.0, **others)
    texts = pd.DataFrame({"predicted": predicted, "confidence": confidence, "source": "all"})
    texts = texts.assign(audit_label=audit_label).astype({"source": "category"})
    purities = sorted({*PURITIES, min_purity})
    confidences = sorted({*CONFIDENCES, min_confidence})
    grid = np.array(purities), np.array(confidences)
    of_label = label_purity(assigned, predicted, table)
    counts = ThresholdCounts.count(texts, of_label, passing, *grid)
    rows = []
    for (i, purity), (j, confidence) in product(enumerate(purities), enumerate(confidences)):
        kept, row = counts.kept(i, j), {"min_purity": purity, "min_confidence": confidence}
        row["chosen"] = (purity, confidence) == (min_purity, min_confidence)
        rows.append({**row, **vars(kept), **kept.counts.sum()})
    names = {"texts": "kept", "share": "kept_share"}
    return pd.DataFrame(rows).drop(columns="counts").rename(columns=names)


def kept_metrics(predicted: np.ndarray, kept: np.ndarray, pure: np.ndarray) -> list[dict[str, Any]]:
    """Rows of metrics.json: what is kept, overall and per class; how many clusters are pure.

    predicted: int [n]; kept: bool [n]; pure: bool [clusters].
    """
    values = {"kept_share": kept.mean(), "clusters": len(pure), "pure_clusters": pure.sum()}
    values |= {f"kept_{name}": kept[predicted == i].sum() for i, name in enumerate(LABELS)}
    about = {"dataset": "corpus", "split": "corpus", "texts": len(kept)}
    return [{"name": name, **about, "value": np.asarray(v).item()} for name, v in values.items()]


def audit(
    predicted: np.ndarray, audit_label: np.ndarray, kept: np.ndarray, sources: pd.Series
) -> list[dict[str, Any]]:
    """Rows of metrics.json: agreement with audit labels of all predictions and of the kept ones.

    Two rows, with 95% intervals, for each source of n that has audit labels (one where none is
    kept) and for ALL_AUDIT. predicted: int [n]; audit_label: int [n], -1 unknown; kept: bool [n].
    """
    texts = pd.DataFrame({"right": predicted == audit_label, "kept": kept})
    texts = texts.assign(source=np.asarray(sources))[audit_label >= 0]
    rows = []
    for source, part in [*texts.groupby("source"), (ALL_AUDIT, texts)]:
        for name, chosen in (("agreement", part), ("agreement_of_kept", part[part["kept"]])):
            if len(chosen):
                low, high = wilson_interval(chosen["right"].sum(), len(chosen))
                about = {"name": name, "dataset": source, "split": "audit", "texts": len(chosen)}
                values = {"value": chosen["right"].mean(), "low": low, "high": high}
                rows.append(about | {key: float(value) for key, value in values.items()})
    return rows


def summary(rows: list[dict[str, Any]]) -> str:
    """The result of step 04 in two lines, from its rows of metrics.json."""
    found = {row["name"]: row for row in rows if row["dataset"] in ("corpus", ALL_AUDIT)}
    share, pure, clusters = (found[name] for name in ("kept_share", "pure_clusters", "clusters"))
    kept = f"{share['value']:.1%} of {share['texts']:,} texts kept; "
    kept += f"{pure['value']:,} of {clusters['value']:,} clusters are pure"
    if "agreement_of_kept" not in found:
        return f"{kept}\nno kept text has an audit label: how right they are is not measured"
    before, after = found["agreement"], found["agreement_of_kept"]
    return (
        f"{kept}\naudit labels agree with {before['value']:.1%} of all predictions, with "
        f"{after['value']:.1%} of the kept ones [{after['low']:.1%}, {after['high']:.1%}]"
    )
