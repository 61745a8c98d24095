"""Counts of step 01: what was read, dropped for which reason, and kept, and how labels map."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pandas as pd

LABEL_COLUMNS = ["source", "role", "original_label", "label"]
OTHERS = "(others)"
MOST_LABELS = 500  # distinct original labels counted per source; the rest is one row


class Counts:
    """Counts texts per source and reason, and per source and original label.

    They can be written with the part that they belong to (`to_json`) and added up (`merge`), so
    that a resumed run loses none.
    """

    def __init__(self) -> None:
        self._texts: Counter[tuple[str, str]] = Counter()  # (source, reason)
        self._labels: Counter[tuple[str, ...]] = Counter()  # LABEL_COLUMNS
        self.registered: dict[str, str] = {}
        """Source of a text -> its entry in the registry."""

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

    def add_left_out(self, left_out: dict[str, dict[str, int]]) -> None:
        """Count rows that the reader left out, source -> reason -> rows, as read and dropped."""
        for source, reasons in left_out.items():
            for reason, count in reasons.items():
                self._texts[source, "read"] += count
                self._texts[source, reason] += count

    def add_read(self, frame: pd.DataFrame) -> None:
        """Count source rows (`lib.sources.COLUMNS`) as read, and their labels."""
        self.add("read", frame["source"])
        self.registered |= dict(zip(frame["source"], frame["group"], strict=True))
        labels = frame[LABEL_COLUMNS].fillna("").astype(str)
        for key, count in labels.value_counts(sort=False).items():
            self._labels[self._label_key(key)] += int(count)

    def _label_key(self, key: tuple[str, ...]) -> tuple[str, ...]:
        """`key`, or one that stands for all others when a source has too many labels."""
        if key in self._labels or sum(k[0] == key[0] for k in self._labels) < MOST_LABELS:
            return key
        return (key[0], key[1], OTHERS, key[3])

    def merge(self, other: Counts) -> None:
        """Add the counts of another part."""
        self._texts.update(other._texts)
        self.registered |= other.registered
        for key, count in other._labels.items():
            self._labels[self._label_key(key)] += count

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

    def to_json(self) -> str:
        """All counts as JSON."""
        return json.dumps(
            {
                "texts": [[*key, count] for key, count in self._texts.items()],
                "labels": [[*key, count] for key, count in self._labels.items()],
                "registered": self.registered,
            },
            ensure_ascii=False,
        )

    @classmethod
    def from_json(cls, text: str) -> Counts:
        """Read what `to_json` wrote."""
        content, counts = json.loads(text), cls()
        for *key, count in content["texts"]:
            counts._texts[key[0], key[1]] = count
        for *key, count in content["labels"]:
            counts._labels[tuple(key)] = count
        counts.registered = content["registered"]
        return counts
