"""Foreign gold: labelled texts in other languages, for a multilingual encoder.

A multilingual encoder puts texts of one meaning near each other, whatever their language, so what
it learns about sentiment in one language holds in part in another. Where Russian gold is scarce,
foreign gold is a second source of labels, and one that cannot leak: test texts are Russian.

Reference: Pires, Schlinger, Garrette 2019, "How Multilingual is Multilingual BERT?", ACL.
"""

from __future__ import annotations

import pandas as pd

from lib import LABELS
from lib.counts import Counts
from lib.gold import over_limit
from lib.tables import FOREIGN_COLUMNS


def build_foreign(
    foreign: pd.DataFrame, gold: pd.DataFrame, counts: Counts, *, seed: int, max_foreign: int | None
) -> pd.DataFrame:
    """Cleaned foreign rows in, the foreign table out.

    Args:
        foreign: columns text_id, text, label (class name), source.
        gold: column text_id; texts that are gold, too, go (a text of emoji has no language).
        counts: every dropped row is counted here.
        others: see `lib.schema.GoldDataParams`.
    Returns:
        FOREIGN_COLUMNS, one row per text, label as int64 (index in LABELS).
    """
    foreign = counts.drop(foreign, foreign["text_id"].isin(gold["text_id"]), "twin of a gold text")
    contradicting = foreign.groupby("text_id")["label"].transform("nunique") > 1
    foreign = counts.drop(foreign, contradicting, "contradicting labels")
    foreign = counts.drop(foreign, foreign["text_id"].duplicated(), "duplicate in foreign gold")
    if max_foreign:
        over = over_limit(foreign.assign(split="train"), max_foreign, seed)
        foreign = counts.drop(foreign, over, "over max_foreign")
    counts.add("kept as foreign gold", foreign["source"])
    labels = foreign["label"].map(LABELS.index).astype("int64")
    return foreign.assign(label=labels)[FOREIGN_COLUMNS]
