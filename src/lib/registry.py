"""The data sets: where each is, which columns it has, and what its labels mean.

Adding a data set is one entry here and no other code. Hub entries are pinned to a revision where
one is known, so that a change on the hub cannot change a run unseen.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Source:
    """One data set.

    kind: `hub` (streamed), `local` (CSV files in data_dir) or `sample` (in this package).
    role: `gold` rows are training and test labels; `corpus` rows are unlabelled to the process,
        and their labels, if any, are audit labels that are never trained on.
    labels: original label as text -> class, or None for a text without a sentiment label.
    filters: column -> value that rows must have.
    test_split: the official test split, never used for anything else.
    files: local: role (test, gold, corpus) -> file names; empty means the run's own patterns.
    """

    name: str
    kind: Literal["hub", "local", "sample"]
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
    files: dict[str, tuple[str, ...]] = field(default_factory=dict)
    licence: str = "not stated"
    citation: str = ""


NAMES: dict[str, str | None] = {
    "negative": "negative",
    "neutral": "neutral",
    "positive": "positive",
}
CODES: dict[str, str | None] = {"0": "negative", "1": "neutral", "2": "positive"}
STARS_FROM_ZERO: dict[str, str | None] = {
    "0": "negative",
    "1": "negative",
    "2": "neutral",
    "3": "positive",
    "4": "positive",
}

_ENTRIES = [
    Source("sample", "sample", "gold", licence="MIT", citation="written for this repository"),
    Source("local", "local", "gold", labels=NAMES, citation="your own CSV files in data_dir"),
    Source(
        "rusentiment",
        "local",
        "gold",
        labels=NAMES | {"speech": None, "skip": None},
        files={
            "test": ("rusentiment_test.csv",),
            "gold": ("rusentiment_random_posts.csv", "rusentiment_preselected_posts.csv"),
        },
        licence="CC BY-NC-SA 4.0",
        citation="Rogers et al. 2018, RuSentiment, COLING (no hub copy: CSV files in data_dir)",
    ),
    Source(
        "clapai_multilingual",
        "hub",
        "gold",
        "clapAI/MultiLingualSentiment",
        splits=("train", "validation", "test"),
        test_split="test",
        label_column="label",
        labels=NAMES,
        filters={"language": "ru"},
        licence="Apache-2.0",
        citation="clapAI 2024, MultiLingualSentiment",
    ),
    Source(
        "ru_reviews",
        "hub",
        "gold",
        "ai-forever/ru-reviews-classification",
        "f6d2c31f4dc6b88f468552750bfec05b4b41b05a",
        splits=("train", "validation", "test"),
        test_split="test",
        label_column="label",
        labels=CODES,
        licence="Apache-2.0",
        citation="Smetanin, Komarov 2019, IEEE CBI",
    ),
    Source(
        "georeview",
        "hub",
        "corpus",
        "mteb/GeoreviewClassification",
        "fb29d6137c54550329411023aee45a8ff29f0c62",
        label_column="label",
        labels=STARS_FROM_ZERO,
        licence="MIT",
        citation="Yandex Geo Reviews Dataset 2023",
    ),
    Source(
        "georeview_long",
        "hub",
        "corpus",
        "ai-forever/georeview-clustering-p2p",
        "97a313c8fc85b47f13f33e7e9a95c1ad888c7fec",
        splits=("test",),
        text_columns=("sentences",),
        licence="MIT",
        citation="Yandex Geo Reviews Dataset 2023",
    ),
    Source(
        "kinopoisk",
        "hub",
        "corpus",
        "ai-forever/kinopoisk-sentiment-classification",
        "5911f26666ac11af46cb9c6849d0dc80a378af24",
        label_column="label",
        labels=CODES,
        licence="MIT",
        citation="Blinov et al. 2013, Dialogue",
    ),
    Source(
        "ria_news",
        "hub",
        "corpus",
        "ai-forever/ria-news-retrieval",
        "82374b0bbacda6114f39ff9c5b925fa1512ca5d7",
        config="corpus",
        splits=("corpus",),
        citation="Gavrilov, Kalaidin, Malykh 2019, ECIR",
    ),
    Source(
        "headlines",
        "hub",
        "corpus",
        "ai-forever/headline-classification",
        "2fe05ee6b5832cda29f2ef7aaad7b7fe6a3609eb",
        licence="MIT",
        citation="Gudkov, Mitrofanova, Filippskikh 2020, NGT",
    ),
    Source(
        "cedr",
        "hub",
        "corpus",
        "mteb/CEDRClassification",
        "d872ceae33d049f0ef50e8abb9229b569ebfcf7d",
        licence="Apache-2.0",
        citation="Sboev, Naumov, Rybka 2021, Procedia Computer Science 190",
    ),
    Source(
        "grnti",
        "hub",
        "corpus",
        "ai-forever/ru-scibench-grnti-classification",
        "673a610d6d3dd91a547a0d57ae1b56f37ebbf6a1",
        licence="MIT",
        citation="RuSciBench",
    ),
    Source(
        "oecd",
        "hub",
        "corpus",
        "ai-forever/ru-scibench-oecd-classification",
        "26c88e99dcaba32bb45d0e1bfc21902337f6d471",
        licence="MIT",
        citation="RuSciBench",
    ),
    Source(
        "ru_sts",
        "hub",
        "corpus",
        "ai-forever/ru-stsbenchmark-sts",
        "7cf24f325c6da6195df55bef3d86b5e0616f3018",
        text_columns=("sentence1", "sentence2"),
        licence="CC BY-SA 4.0",
        citation="May 2021, stsb-multi-mt",
    ),
    Source(
        "sensitive_topics",
        "hub",
        "corpus",
        "ai-forever/sensitive-topics-classification",
        "416b34a802308eac30e4192afc0ff99bb8dcc7f2",
        licence="CC BY-NC-SA 4.0",
        citation="Babakov et al. 2021, BSNLP",
    ),
    Source(
        "inappropriateness",
        "hub",
        "corpus",
        "ai-forever/inappropriateness-classification",
        "601651fdc45ef243751676e62dd7a19f491c0285",
        licence="CC BY-NC-SA 4.0",
        citation="Babakov et al. 2021, BSNLP",
    ),
    Source(
        "terra",
        "hub",
        "corpus",
        "mteb/TERRa",
        "48312c334eb916d88481dc4a41bd0d8b2fa0d576",
        splits=("train", "dev"),
        text_columns=("sentence1", "sentence2"),
        licence="MIT",
        citation="Shavrina et al. 2020, RussianSuperGLUE",
    ),
]

REGISTRY: dict[str, Source] = {entry.name: entry for entry in _ENTRIES}
