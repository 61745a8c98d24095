"""The data sets: where each is, which columns it has, and what its labels mean.

Adding a data set is one entry here and no other code.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Source:
    """One data set.

    kind: `hub` (streamed at `revision`), `sample` (in this package) or `local` (CSV files).
    role: `gold` rows are training and test labels; `corpus` rows are unlabelled to the process,
        and their labels, if any, are audit labels that are never trained on.
    labels: original label as text -> class, or None for a text without sentiment label.
    filters: column -> value that rows must have.
    test_split: the official test split, never used for anything else.
    """

    name: str
    kind: Literal["hub", "sample", "local"]
    role: Literal["gold", "corpus"]
    hub_id: str = ""
    revision: str | None = None
    config: str | None = None
    splits: tuple[str, ...] = ("train",)
    test_split: str | None = None
    text_columns: tuple[str, ...] = ("text",)
    label_column: str | None = None
    labels: dict[str, str | None] = field(default_factory=dict)
    filters: dict[str, str] = field(default_factory=dict)
    note: str = ""


NAMES = {"negative": "negative", "neutral": "neutral", "positive": "positive"}
STARS = {"1": "negative", "2": "negative", "3": "neutral", "4": "positive", "5": "positive"}
STARS_FROM_ZERO = {str(int(star) - 1): name for star, name in STARS.items()}

_ENTRIES = [
    Source("sample", "sample", "gold", note="original texts written for this repository"),
    Source("local", "local", "gold", note="the CSV files of data_dir"),
    Source(
        "rusentiment", "hub", "gold",
        note="RuSentiment has no public hub copy: put its CSV files into a folder and use "
        "sources: [local] with data_dir.",
    ),
    Source(
        "clapai_multilingual", "hub", "gold", "clapAI/MultiLingualSentiment",
        splits=("train", "validation", "test"), test_split="test",
        label_column="label", labels=NAMES, filters={"language": "ru"},
    ),
    Source(
        "ru_reviews", "hub", "gold", "ai-forever/ru-reviews-classification",
        "f6d2c31f4dc6b88f468552750bfec05b4b41b05a",
        splits=("train", "test"), test_split="test",
        label_column="label", labels={"0": "negative", "1": "neutral", "2": "positive"},
    ),
    Source(
        "georeview", "hub", "corpus", "ai-forever/georeview-classification",
        label_column="label", labels=STARS_FROM_ZERO,
    ),
    Source(
        "kinopoisk", "hub", "corpus", "ai-forever/kinopoisk-sentiment-classification",
        "5911f26666ac11af46cb9c6849d0dc80a378af24",
        label_column="label", labels={"0": "negative", "1": "neutral", "2": "positive"},
    ),
    Source(
        "headlines", "hub", "corpus", "ai-forever/headline-classification",
        "2fe05ee6b5832cda29f2ef7aaad7b7fe6a3609eb",
    ),
    Source("cedr", "hub", "corpus", "ai-forever/cedr-classification"),
    Source(
        "grnti", "hub", "corpus", "ai-forever/ru-scibench-grnti-classification",
        "673a610d6d3dd91a547a0d57ae1b56f37ebbf6a1",
    ),
    Source(
        "sensitive_topics", "hub", "corpus", "ai-forever/sensitive-topics-classification",
        "416b34a802308eac30e4192afc0ff99bb8dcc7f2",
    ),
    Source(
        "inappropriateness", "hub", "corpus", "ai-forever/inappropriateness-classification",
        "601651fdc45ef243751676e62dd7a19f491c0285",
    ),
]

REGISTRY: dict[str, Source] = {entry.name: entry for entry in _ENTRIES}
