"""What became of the source rows of step 01: counts by source and fate, and by original label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import pandas as pd

NEAR = [f"near-duplicate of a {split} text" for split in ("test", "validation", "train")]
LEAKS = ["twin of a test text", "twin of a gold text", *NEAR]
"""The fates of texts that would be leaks if they were kept."""
FATES = [
    *("unlabelled", "empty", "too short", "too long", "not Russian"),
    *("twin of a test text", "contradicting labels", "duplicate in gold", "over max_gold_train"),
    *("over max_corpus", "twin of a gold text", *NEAR),
    *("duplicate in corpus", "near-duplicate in corpus", "kept as gold", "kept in corpus"),
]
"""What becomes of a row: why it is dropped, or where it is kept."""
KEPT = FATES[-2:]
LABEL_COLUMNS = ["group", "source", "role", "original_label", "label"]
OTHERS = "(others)"
MOST_LABELS = 500  # distinct labels counted per part; the rest is one row


def count(parts: Iterable[pd.DataFrame]) -> dict[str, Any]:
    """Count source rows, as plain values for JSON.

    Args:
        parts: of all rows; columns LABEL_COLUMNS and `fate`, one of FATES.
    """
    fates: Counter[tuple[str, ...]] = Counter()
    labels: Counter[tuple[str, ...]] = Counter()
    for rows in parts:
        fates.update(rows.value_counts(["source", "fate"]).to_dict())
        found = rows[LABEL_COLUMNS].fillna("").value_counts()
        for number, (key, texts) in enumerate(found.to_dict().items()):
            labels[key if number < MOST_LABELS else (*key[:3], OTHERS, key[4])] += texts
    counters = {"fates": fates, "labels": labels}
    return {name: [[*key, n] for key, n in sorted(c.items())] for name, c in counters.items()}


def fates_table(counts: dict[str, Any]) -> pd.DataFrame:
    """Texts: index source, columns `read` and those of FATES that came up, and what is kept."""
    rows = pd.DataFrame(counts["fates"], columns=["source", "fate", "texts"])
    table = rows.pivot(index="source", columns="fate", values="texts").fillna(0).astype("int64")
    table = table.reindex(columns=sorted({*table, *KEPT}, key=FATES.index), fill_value=0)
    table = table.rename_axis(columns=None)
    table.insert(0, "read", table.sum(axis=1))
    return table


def labels_table(counts: dict[str, Any]) -> pd.DataFrame:
    """Texts read by LABEL_COLUMNS (label empty: no sentiment label), column `texts`."""
    return pd.DataFrame(counts["labels"], columns=[*LABEL_COLUMNS, "texts"])
