"""The filter: which pseudo-labels are kept, and what its thresholds trade.

A pseudo-label is kept if its cluster is pure, it is the cluster's dominant class, the prediction is
confident, and it is among the best of its class and source. `frontier` says for a grid of both
thresholds how many texts stay and how right they are expected, and where audit labels exist
measured, to be.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from lib import LABELS
from lib.clusters.purity import wilson_interval
from lib.errors import UserError
from lib.parameters import ClusterPurityParams

PURITIES = (0.0, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0)
CONFIDENCES = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
ALL_AUDIT = "all audit texts"


def options(params: ClusterPurityParams) -> dict[str, Any]:
    """The arguments of `passes` that are parameters of step 04."""
    return params.only("min_purity", "min_confidence", "best_share", "best_most", "rank_by")


def passes(
    texts: pd.DataFrame,
    table: pd.DataFrame,
    *,
    min_purity: float,
    min_confidence: float,
    **ranking: Any,
) -> np.ndarray:
    """Which pseudo-labels to keep, bool [n].

    Args:
        texts: cluster, predicted (class index), confidence, source; n rows.
        table: as `lib.clusters.purity.purity_table` gives it.
        min_purity: of `label_purity`; 0: the cluster does not matter.
        min_confidence: of the text's own prediction; ranking: of `best`.
    """
    kept = label_purity(texts, table) >= min_purity
    kept &= texts["confidence"].to_numpy() >= min_confidence
    return kept & best(texts, table, **ranking)


def label_purity(texts: pd.DataFrame, table: pd.DataFrame) -> np.ndarray:
    """Purity of each text's cluster, 0 where the text is not of its dominant class; float64 [n]."""
    dominant, purity = (table[name].to_numpy()[texts["cluster"]] for name in ("dominant", "purity"))
    return np.where(texts["predicted"] == dominant, purity, 0.0)


def best(
    texts: pd.DataFrame,
    table: pd.DataFrame,
    *,
    best_share: float = 1.0,
    best_most: int | None = None,
    rank_by: str = "confidence_and_purity",
) -> np.ndarray:
    """The best texts of each predicted class and source, bool [n].

    A classifier's confidence may say too much or too little, and differently for each class and
    domain; its order is worth more than its value (class-balanced self-training: Zou et al. 2018,
    arXiv:1810.07911, section 4.1). So no class and no source can crowd out the others.

    Args:
        texts, table: as for `passes`.
        best_share: of each class and source, rounded up.
        best_most: texts of each class and source; None: no bound.
        rank_by: `confidence`, or `confidence_and_purity`, the product of both.
    """
    if best_share == 1.0 and best_most is None:  # all, in whatever order
        return np.ones(len(texts), dtype=bool)
    score = texts["confidence"].to_numpy(np.float64)
    if rank_by == "confidence_and_purity":
        score = score * label_purity(texts, table)
    groups = pd.Series(score).groupby(
        [texts["predicted"].to_numpy(), texts["source"].to_numpy()], observed=True
    )
    most = np.ceil(best_share * groups.transform("size"))
    rank = groups.rank(ascending=False, method="first")  # of equal ones the earlier text
    return (rank <= np.minimum(most, best_most or np.inf)).to_numpy()


def check_kept(kept: np.ndarray, predicted: np.ndarray) -> None:
    """Raises UserError if no text, or no text of some class, passed the filter."""
    counts = np.bincount(predicted[kept], minlength=len(LABELS)).tolist()
    if absent := [name for name, n in zip(LABELS, counts, strict=True) if n == 0]:
        raise UserError(
            f"04_cluster_purity: no text of class {', '.join(absent)} passed the filter (kept: "
            f"{dict(zip(LABELS, counts, strict=True))}); lower min_purity or "
            "min_confidence (both 0, and best_share 0.5, chooses by rank), or change clusters"
        )


def facts(texts: pd.DataFrame, kept: np.ndarray) -> dict[str, Any]:
    """How many texts are kept, and how right they are expected and measured to be.

    Args:
        texts: predicted, confidence, audit_label (-1: unknown), n rows; kept: bool [n].
    Returns:
        kept (texts), kept_share, one count per predicted class.
        expected_precision: mean confidence, what the classifier itself believes: too high where it
        is overconfident; NaN without texts.
        measured_precision: share of the `audited` texts whose prediction is their audit label, with
        its 95% interval `low`, `high`; it speaks only of sources that have such labels; NaN without
        them.
    """
    texts = texts.loc[kept, ["predicted", "confidence", "audit_label"]]
    audited = texts[texts["audit_label"] >= 0]
    right = int((audited["audit_label"] == audited["predicted"]).sum())
    low, high = wilson_interval(right, len(audited))
    counts = np.bincount(texts["predicted"], minlength=len(LABELS)).tolist()
    return {
        "kept": len(texts),
        "kept_share": len(texts) / max(1, len(kept)),
        **dict(zip(LABELS, counts, strict=True)),
        "expected_precision": texts["confidence"].astype(float).mean(),
        "audited": len(audited),
        "measured_precision": right / len(audited) if len(audited) else np.nan,
        "low": float(low),
        "high": float(high),
    }


def frontier(
    texts: pd.DataFrame,
    table: pd.DataFrame,
    *,
    min_purity: float,
    min_confidence: float,
    **ranking: Any,
) -> pd.DataFrame:
    """`facts` of what the filter would keep at each pair of thresholds.

    Args:
        texts, table: as for `passes` and `facts`.
        min_purity, min_confidence: the thresholds in use; added to the grid, marked `chosen`.
        ranking: of `best`; the same in every row.
    Returns:
        One row per pair: min_purity, min_confidence, chosen, and the facts.
    """
    passing = best(texts, table, **ranking)
    purity, confidence = label_purity(texts, table), texts["confidence"].to_numpy()
    pairs = product(sorted({*PURITIES, min_purity}), sorted({*CONFIDENCES, min_confidence}))
    rows = []
    for pair in tqdm(list(pairs), desc="thresholds", leave=False):
        kept = passing & (purity >= pair[0]) & (confidence >= pair[1])
        row = {"min_purity": pair[0], "min_confidence": pair[1]}
        row["chosen"] = pair == (min_purity, min_confidence)
        rows.append(row | facts(texts, kept))
    return pd.DataFrame(rows)


def kept_metrics(predicted: np.ndarray, kept: np.ndarray, pure: np.ndarray) -> list[dict[str, Any]]:
    """Rows of metrics.json: what is kept, overall and per class; clusters that have `min_purity`.

    predicted: int [n]; kept: bool [n]; pure: bool [clusters].
    """
    values = {"kept_share": kept.mean(), "clusters": len(pure), "pure_clusters": pure.sum()}
    values |= {f"kept_{name}": kept[predicted == i].sum() for i, name in enumerate(LABELS)}
    about = {"dataset": "corpus", "split": "corpus", "texts": len(kept)}
    return [{"name": name, **about, "value": np.asarray(v).item()} for name, v in values.items()]


def audit(texts: pd.DataFrame, kept: np.ndarray) -> list[dict[str, Any]]:
    """Rows of metrics.json: agreement with audit labels of all predictions and of the kept ones.

    Two rows, with 95% intervals, for each source that has audit labels (one where none is kept) and
    for ALL_AUDIT. texts: as for `facts`, and source; kept: bool [n].
    """
    texts = texts.assign(kept=kept)[texts["audit_label"] >= 0]
    rows = []
    for source, part in [*texts.groupby(texts["source"].astype(str)), (ALL_AUDIT, texts)]:
        everything = np.ones(len(part), dtype=bool)
        chosen = {"agreement": everything, "agreement_of_kept": part["kept"].to_numpy()}
        for name, which in chosen.items():
            if which.any():
                found = facts(part, which)
                about = {"name": name, "dataset": source, "split": "audit"}
                about |= {"texts": found["audited"], "value": found["measured_precision"]}
                rows.append(about | {end: found[end] for end in ("low", "high")})
    return rows


def summary(rows: list[dict[str, Any]]) -> str:
    """The result of step 04 in two lines, from its rows of metrics.json."""
    found = {row["name"]: row for row in rows if row["dataset"] in ("corpus", ALL_AUDIT)}
    share, pure, clusters = (found[name] for name in ("kept_share", "pure_clusters", "clusters"))
    kept = f"{share['value']:.1%} of {share['texts']:,} texts kept; "
    kept += f"{pure['value']:,} of {clusters['value']:,} clusters have `min_purity`"
    if "agreement_of_kept" not in found:
        return f"{kept}\nno kept text has an audit label: how right they are is not measured"
    before, after = found["agreement"], found["agreement_of_kept"]
    return (
        f"{kept}\naudit labels agree with {before['value']:.1%} of all predictions, with "
        f"{after['value']:.1%} of the kept ones [{after['low']:.1%}, {after['high']:.1%}]"
    )
