"""Counts of step 01: what was read, dropped for which reason, and kept, and how labels map."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

LABEL_COLUMNS = ["group", "source", "role", "original_label", "label"]
OTHERS = "(others)"
MOST_LABELS = 500  # distinct original labels counted per part; the rest is one row


class Counts:
    """Counts texts per source and reason, and per source and original label.

    Each part's are written with it (`to_json`) and added up (`merge`): a resumed run loses none.
    """

    def __init__(self) -> None:
        self._texts: Counter[tuple[str, ...]] = Counter()  # (source, reason)
        self._labels: Counter[tuple[str, ...]] = Counter()  # LABEL_COLUMNS

    def add(self, reason: str, sources: pd.Series) -> None:
        """Count one text for each entry of `sources`."""
        for source, count in sources.value_counts(sort=False).items():
            self._texts[str(source), reason] += int(count)

    def drop(self, frame: pd.DataFrame, bad: pd.Series | np.ndarray, reason: str) -> pd.DataFrame:
        """`frame` without the rows marked in `bad`, which are counted under `reason`."""
        bad = np.asarray(bad, dtype=bool)
        if not bad.any():
            return frame
        self.add(reason, frame.loc[bad, "source"])
        return frame.loc[~bad].reset_index(drop=True)

    def add_labels(self, frame: pd.DataFrame) -> None:
        """Count the labels of source rows."""
        columns = [frame[name].fillna("").astype(str) for name in LABEL_COLUMNS]
        labels = Counter(zip(*columns, strict=True))
        for number, (key, count) in enumerate(labels.most_common()):
            self._labels[key if number < MOST_LABELS else (*key[:3], OTHERS, key[4])] += count

    def merge(self, other: Counts) -> None:
        """Add the counts of another part."""
        self._texts.update(other._texts)
        self._labels.update(other._labels)

    def table(self) -> pd.DataFrame:
        """Texts: index source, a column per reason in the order they came up."""
        reasons = list(dict.fromkeys(reason for _, reason in self._texts))
        sources = list(dict.fromkeys(source for source, _ in self._texts))
        rows = [[self._texts[source, reason] for reason in reasons] for source in sources]
        return pd.DataFrame(rows, pd.Index(sources, name="source"), reasons, dtype="int64")

    def labels(self) -> pd.DataFrame:
        """Texts read by LABEL_COLUMNS (label empty: no sentiment label), column `texts`."""
        rows = [(*key, count) for key, count in sorted(self._labels.items())]
        return pd.DataFrame(rows, columns=[*LABEL_COLUMNS, "texts"])

    def to_json(self) -> dict[str, Any]:
        """All counts as a value for JSON."""
        counters = {"texts": self._texts, "labels": self._labels}
        return {name: [[*k, n] for k, n in counter.items()] for name, counter in counters.items()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Counts:
        """Read what `to_json` gave."""
        counts = cls()
        counts._texts.update({tuple(key): count for *key, count in value["texts"]})
        counts._labels.update({tuple(key): count for *key, count in value["labels"]})
        return counts
