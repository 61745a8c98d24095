"""The data sets: where each is, which columns it has, and what its labels mean.

Adding a data set is one entry here and no other code. Hub entries are pinned to a revision where
one is known, so that a change on the hub cannot change a run unseen.
"""

from __future__ import annotations

from dataclasses import replace

from lib.readers import Format
from lib.schema import GoldDataParams
from lib.source import Labels, Source

UNLABELLED: Labels = {"": None}
NAMES: Labels = {"negative": "negative", "neutral": "neutral", "positive": "positive"}
CODES: Labels = {"0": "negative", "1": "neutral", "2": "positive"}
STARS: Labels = {
    "1": "negative",
    "2": "negative",
    "3": "neutral",
    "4": "positive",
    "5": "positive",
}
STARS_FROM_ZERO: Labels = {
    "0": "negative",
    "1": "negative",
    "2": "neutral",
    "3": "positive",
    "4": "positive",
}
TEN_POINT: Labels = {
    **dict.fromkeys(("1", "2", "3", "4"), "negative"),
    **dict.fromkeys(("5", "6"), "neutral"),
    **dict.fromkeys(("7", "8", "9", "10"), "positive"),
}
MAPPINGS: dict[str, Labels] = {
    "names": NAMES | UNLABELLED,
    "codes": CODES | UNLABELLED,
    "stars": STARS | UNLABELLED,
    "ten_point": TEN_POINT | UNLABELLED,
}
"""What a parameter may choose for files of one's own."""

_ENTRIES = [
    Source(
        "sample",
        "sample",
        "gold",
        label_column="label",
        says_origin=True,
        labels=NAMES | UNLABELLED,
        licence="MIT",
        citation="written for this repository",
    ),
    Source(
        "local",
        "local",
        "gold",
        label_column="label",
        says_origin=True,
        labels=NAMES | UNLABELLED,
        parameters={"labels": "local_labels"},
        russian=False,
        licence="your own",
        citation="your own files in data_dir",
    ),
    Source(
        "rusentiment",
        "local",
        "gold",
        splits=("train", "test"),
        test_split="test",
        files={
            "test": ("rusentiment_test.*",),
            "gold": ("rusentiment_random_posts.*", "rusentiment_preselected_posts.*"),
        },
        label_column="label",
        labels=NAMES | {"speech": None, "skip": None},
        optional_labels={"speech_as_neutral": {"speech": "neutral"}},
        parameters={"hub_id": "rusentiment_hub_id", "revision": "rusentiment_hub_revision"},
        licence="CC BY-NC-SA 4.0",
        citation="Rogers et al. 2018, RuSentiment, COLING",
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
        russian=False,
        licence="Apache-2.0",
        citation="clapAI 2024, MultiLingualSentiment",
    ),
    Source(
        "clapai_english",
        "hub",
        "foreign",
        "clapAI/MultiLingualSentiment",
        label_column="label",
        labels=NAMES,
        filters={"language": "en"},
        russian=False,
        licence="Apache-2.0",
        citation="clapAI 2024, MultiLingualSentiment",
    ),
    Source(
        "vader_tweets",
        "local",
        "foreign",
        files={"foreign": ("tweets_GroundTruth.txt",)},
        file_format=Format("csv", delimiter="\t", columns=("id", "score", "text"), strict=False),
        label_column="score",
        neutral_below=1.5,  # of mean ratings from -4 to 4
        russian=False,
        licence="MIT",
        citation="Hutto, Gilbert 2014, VADER, ICWSM (English tweets, in its source package)",
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
        mirror_of="ai-forever/georeview-classification",
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
        "ru_tweetcorp",
        "local",
        "corpus",
        files={"corpus": ("negative.csv", "positive.csv")},
        file_format=Format(
            "csv",
            delimiter=";",
            columns=(
                *("id", "date", "name", "text", "type", "reply", "favourites", "retweets"),
                *("followers", "friends", "lists", "other"),
            ),
            optional_columns=1,
            strict=False,
        ),
        label_is_file=True,
        labels={"negative": "negative", "positive": "positive"},
        russian=False,
        emoticon_labels=True,
        citation="Rubtsova 2013, Ru-TweetCorp",
    ),
    Source(
        "yandex_1m",
        "local",
        "corpus",
        files={"corpus": ("corpus.en_ru.1m.ru",)},
        file_format=Format("lines"),
        parameters={"files": "yandex_1m_files"},
        citation="Antonova, Misyurev 2011, BUCC (English-Russian corpus, Russian side)",
    ),
    Source(
        "ria_news",
        "hub",
        "corpus",
        "ai-forever/ria-news-retrieval",
        "82374b0bbacda6114f39ff9c5b925fa1512ca5d7",
        config="corpus",
        splits=("corpus",),
        text_columns=("title", "text"),
        joined=True,
        licence="CC BY-NC-ND 4.0",  # of the mirror mteb/RiaNewsRetrieval; this id states none
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
        mirror_of="ai-forever/cedr-classification",
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
        splits=("train", "validation", "test"),
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
        mirror_of="ai-forever/terra-pairclassification",
        splits=("train", "dev"),
        text_columns=("sentence1", "sentence2"),
        licence="MIT",
        citation="Shavrina et al. 2020, RussianSuperGLUE",
    ),
]

REGISTRY: dict[str, Source] = {entry.name: entry for entry in _ENTRIES}


def configured(name: str, params: GoldDataParams) -> Source:
    """The entry as a run's parameters set it; see `Source.parameters` and `optional_labels`."""
    source = REGISTRY[name]
    given = {
        key: getattr(params, parameter)
        for key, parameter in source.parameters.items()
        if getattr(params, parameter)
    }
    if "labels" in given:
        given["labels"] = MAPPINGS[given["labels"]]
    if "files" in given:
        given["files"] = {source.role: tuple(given["files"])}
    if "hub_id" in given:
        given["kind"] = "hub"
    source = replace(source, **given)
    for parameter, labels in source.optional_labels.items():
        if getattr(params, parameter):
            source = replace(source, labels=source.labels | labels)
    return source
