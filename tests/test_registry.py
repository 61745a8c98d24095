"""Every entry against recorded rows of its data set, see tests/recorded/README.md."""

import dataclasses
import itertools
import json
from pathlib import Path

import datasets
import pytest

from lib import LABELS, registry, sources
from lib.errors import SourceUnavailable, UserError
from lib.registry import REGISTRY
from lib.schema import GoldDataParams

RECORDED = Path(__file__).parent / "recorded"
HUB = sorted(name for name, source in REGISTRY.items() if source.kind == "hub")
load_dataset = datasets.load_dataset  # the real one

PINS = {
    "clapAI/MultiLingualSentiment": None,
    "ai-forever/ru-reviews-classification": "f6d2c31f4dc6b88f468552750bfec05b4b41b05a",
    "mteb/GeoreviewClassification": "fb29d6137c54550329411023aee45a8ff29f0c62",
    "ai-forever/georeview-clustering-p2p": "97a313c8fc85b47f13f33e7e9a95c1ad888c7fec",
    "ai-forever/kinopoisk-sentiment-classification": "5911f26666ac11af46cb9c6849d0dc80a378af24",
    "ai-forever/ria-news-retrieval": "82374b0bbacda6114f39ff9c5b925fa1512ca5d7",
    "ai-forever/headline-classification": "2fe05ee6b5832cda29f2ef7aaad7b7fe6a3609eb",
    "mteb/CEDRClassification": "d872ceae33d049f0ef50e8abb9229b569ebfcf7d",
    "ai-forever/ru-scibench-grnti-classification": "673a610d6d3dd91a547a0d57ae1b56f37ebbf6a1",
    "ai-forever/ru-scibench-oecd-classification": "26c88e99dcaba32bb45d0e1bfc21902337f6d471",
    "ai-forever/ru-stsbenchmark-sts": "7cf24f325c6da6195df55bef3d86b5e0616f3018",
    "ai-forever/sensitive-topics-classification": "416b34a802308eac30e4192afc0ff99bb8dcc7f2",
    "ai-forever/inappropriateness-classification": "601651fdc45ef243751676e62dd7a19f491c0285",
    "mteb/TERRa": "48312c334eb916d88481dc4a41bd0d8b2fa0d576",
}
GOLD, CORPUS, FOREIGN = "gold", "corpus", "foreign"


def unlabelled(*texts):
    return [(text, None, "", CORPUS, None) for text in texts]


# text, label, original label, role, split
EXPECTED = {
    "local": [("мне нравится", "positive", "positive", GOLD, None)],
    "rusentiment": [
        ("беда с погодой", "negative", "negative", GOLD, None),
        ("ура, каникулы", "positive", "positive", GOLD, None),
        ("еду домой", "neutral", "neutral", GOLD, "test"),
    ],
    "ru_tweetcorp": [
        ('опять "пробки" утром', "negative", "negative", CORPUS, None),
        ("сдала экзамен ура", "positive", "positive", CORPUS, None),
        ("RT @user_c: лето (наконец) тут; ждали", "positive", "positive", CORPUS, None),
    ],
    "yandex_1m": unlabelled("Первое предложение.", "Второе «предложение», с запятой; и точкой."),
    "clapai_multilingual": [
        ("Отличный товар, беру второй раз", "positive", "positive", GOLD, None),
        ("Ужас, а не сервис", "negative", "Negative", GOLD, None),
        ("Пришло вчера", "neutral", "neutral", GOLD, None),
        ("Сойдёт за такие деньги", "neutral", "neutral", GOLD, "test"),
    ],
    "clapai_english": [("Great stuff", "positive", "positive", FOREIGN, None)],
    "vader_tweets": [
        (
            "Somehow I was blessed with “really” good friends &amp; coffee",
            *("positive", "3", FOREIGN, None),
        ),
        ("Not again, she said. Rain", "negative", "-2", FOREIGN, None),
        ("The bus leaves at nine", "neutral", "0", FOREIGN, None),
    ],
    "ru_reviews": [
        ("порвалось через день", "negative", "0", GOLD, None),
        ("нормально, но коротковато", "neutral", "1", GOLD, None),
        ("супер, сидит идеально", "positive", "2", GOLD, None),
        ("ткань тонкая", "neutral", "1", GOLD, None),
        ("беру ещё одно", "positive", "2", GOLD, "test"),
    ],
    "georeview": [
        ("Закрыто без объявления.", "negative", "0", CORPUS, None),
        ("Очередь и грязь.", "negative", "1", CORPUS, None),
        ("Обычная столовая.", "neutral", "2", CORPUS, None),
        ("Уютно, вернёмся.", "positive", "3", CORPUS, None),
        ("Лучший парк города!", "positive", "4", CORPUS, None),
    ],
    "georeview_long": unlabelled("Приятное место у реки."),
    "kinopoisk": [
        ("Скука на два часа.", "negative", "0", CORPUS, None),
        ("Фильм на один раз.", "neutral", "1", CORPUS, None),
        ("Шедевр, пересматриваю.", "positive", "2", CORPUS, None),
    ],
    "ria_news": unlabelled(
        "Мост открыли после ремонта\nДвижение по мосту возобновлено.", "Погода без изменений."
    ),
    "headlines": unlabelled("Сборная вышла в финал"),
    "cedr": unlabelled("вот это подарок, не ждала", "сегодня вторник"),
    "grnti": unlabelled("О росте кристаллов. Показано, что рост замедляется."),
    "oecd": unlabelled("О почвах степи. Описаны три типа почв."),
    "ru_sts": unlabelled(
        *("Кот спит на окне.", "Кошка дремлет у окна.", "Мальчик бежит.", "Женщина поёт."),
        *("Двое играют в шахматы.", "Люди сидят за доской."),
    ),
    "sensitive_topics": unlabelled("опять спорят о политике", "разговор о погоде"),
    "inappropriateness": unlabelled("обычная фраза", "фраза похуже"),
    "terra": unlabelled(
        *("Дождь идёт с утра.", "На улице сухо.", "Магазин закрылся в мае."),
        "Магазин больше не работает.",
    ),
}
COLUMNS_USED = {
    "clapai_multilingual": ("text", "label", "language"),
    "ru_reviews": ("text", "label"),
    "georeview": ("text", "label"),
    "georeview_long": ("sentences",),
    "kinopoisk": ("text", "label"),
    "ria_news": ("title", "text"),
    "ru_sts": ("sentence1", "sentence2"),
    "terra": ("sentence1", "sentence2"),
}
RENAMED = [(name, column) for name in HUB for column in COLUMNS_USED.get(name, ("text",))]


def recorded_file(hub_id, config, split):
    return RECORDED / "hub" / hub_id / (config or "") / f"{split}.jsonl"


@pytest.fixture
def hub(monkeypatch):
    """The hub, with the recorded rows in it, read by the real library."""

    def load(hub_id, config=None, *, split, revision, streaming):
        assert revision == PINS[hub_id]
        assert streaming
        file = recorded_file(hub_id, config, split)
        assert file.exists(), "no such split"
        return load_dataset("json", data_files={split: str(file)}, split=split, streaming=True)

    monkeypatch.setattr(datasets, "load_dataset", load)


def params_of(name, **options):
    return GoldDataParams(
        sources=[name], data_dir=str(RECORDED / "data_dir"), unlabelled_gold="drop", **options
    )


def rows_of(params):
    columns = ["text", "label", "original_label", "role", "split"]
    return [tuple(row) for frame in sources.read(params) for row in frame[columns].to_numpy(object)]


@pytest.mark.parametrize("name", [name for name in REGISTRY if name != "sample"])
def test_recorded_rows_of_every_source(name, hub):
    params = params_of(name, corpus_files=["none*"], test_files=["none*"], gold_files=["mine_*"])
    assert rows_of(params) == EXPECTED[name]
    groups = {group for frame in sources.read(params) for group in frame["group"]}
    assert groups == {name}


def test_every_recorded_split_is_read():
    splits = {
        recorded_file(REGISTRY[name].hub_id, REGISTRY[name].config, split)
        for name in HUB
        for split in REGISTRY[name].splits
    }
    assert splits == set((RECORDED / "hub").rglob("*.jsonl"))


@pytest.mark.parametrize(("name", "column"), RENAMED)
def test_renamed_column_names_source_expected_and_found(name, column, monkeypatch):
    source = REGISTRY[name]

    def load(hub_id, config=None, *, split, revision, streaming):
        lines = recorded_file(hub_id, config, split).read_text(encoding="utf-8").splitlines()
        for row in map(json.loads, lines):
            yield {("new_name" if key == column else key): value for key, value in row.items()}

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(UserError) as error:
        rows_of(params_of(name))
    assert not isinstance(error.value, SourceUnavailable)
    expected, found = str(error.value).split("found")
    for fragment in (f"'{name}'", source.hub_id, f"no column '{column}'", *source.columns):
        assert fragment in expected
    assert "new_name" in found
    assert column not in found.split(",")


def test_columns_of_a_source_differ_in_a_local_file(tmp_path):
    for file in (RECORDED / "data_dir").glob("rusentiment*"):
        content = file.read_text(encoding="utf-8").replace("label,text", "label,post")
        (tmp_path / file.name).write_text(content, encoding="utf-8")
    params = GoldDataParams(sources=["rusentiment"], data_dir=str(tmp_path))
    message = r"source 'rusentiment': .*posts\.csv: no column 'text'; expected text,label, found"
    with pytest.raises(UserError, match=message):
        rows_of(params)


# --- RuSentiment's options -----------------------------------------------------------------------


def test_speech_counts_as_neutral_only_if_asked():
    labels = {row[0]: row[1] for row in rows_of(params_of("rusentiment", speech_as_neutral=True))}
    assert labels["привет всем"] == labels["с днём рождения"] == "neutral"
    assert "хм" not in labels
    assert "speech" not in registry.configured("local", params_of("local")).labels


def test_a_hub_copy_of_rusentiment(monkeypatch):
    asked = []

    def load(hub_id, config, *, split, revision, streaming):
        asked.append((hub_id, split, revision))
        return [{"text": f"{split} {label}", "label": label} for label in ("negative", "skip")]

    monkeypatch.setattr(datasets, "load_dataset", load)
    params = GoldDataParams(
        sources=["rusentiment"],
        rusentiment_hub_id="someone/rusentiment",
        rusentiment_hub_revision="abc",
        unlabelled_gold="drop",
    )
    assert rows_of(params) == [
        ("train negative", "negative", "negative", GOLD, None),
        ("test negative", "negative", "negative", GOLD, "test"),
    ]
    assert asked == [("someone/rusentiment", split, "abc") for split in ("train", "test")]
    assert sources.fingerprint(params) == {"rusentiment": "someone/rusentiment@abc"}


def test_file_pattern_of_yandex_1m(tmp_path):
    (tmp_path / "часть.ru").write_text("Одно предложение.\n", encoding="utf-8")
    params = GoldDataParams(sources=["yandex_1m"], data_dir=str(tmp_path), yandex_1m_files=["*.ru"])
    assert rows_of(params) == unlabelled("Одно предложение.")


# --- mappings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mapping", "negative", "neutral", "positive"),
    [
        (registry.NAMES, "negative", "neutral", "positive"),
        (registry.CODES, "0", "1", "2"),
        (registry.STARS, "1 2", "3", "4 5"),
        (registry.STARS_FROM_ZERO, "0 1", "2", "3 4"),
        (registry.TEN_POINT, "1 2 3 4", "5 6", "7 8 9 10"),
    ],
)
def test_mappings(mapping, negative, neutral, positive):
    given = dict(zip(LABELS, (negative, neutral, positive), strict=True))
    assert mapping == {label: name for name, labels in given.items() for label in labels.split()}


@pytest.mark.parametrize(
    ("choice", "labels", "classes"),
    [
        ("stars", ["1", "3", "5"], ["negative", "neutral", "positive"]),
        ("ten_point", ["4", "6", "7"], ["negative", "neutral", "positive"]),
        ("codes", ["0", "1", "2"], ["negative", "neutral", "positive"]),
    ],
)
def test_labels_of_your_own_files(tmp_path, choice, labels, classes):
    lines = "".join(f"текст {label},{label}\n" for label in labels)
    (tmp_path / "a_train.csv").write_text(f"text,label\n{lines}нет,\n", encoding="utf-8")
    params = GoldDataParams(sources=["local"], data_dir=str(tmp_path), local_labels=choice)
    assert [row[1] for row in rows_of(params)] == [*classes, None]


def test_mapping_in_words():
    assert REGISTRY["georeview"].mapping == "0 1 = negative; 2 = neutral; 3 4 = positive"
    assert REGISTRY["rusentiment"].mapping.endswith("speech skip = no label")
    assert REGISTRY["cedr"].mapping == ""
    assert REGISTRY["vader_tweets"].mapping == "score; between -1.5 and 1.5 = neutral"


# --- consistency ---------------------------------------------------------------------------------


def test_names_are_unique():
    assert len(registry._ENTRIES) == len(REGISTRY)


def test_every_entry_says_what_it_must():
    for source in REGISTRY.values():
        assert source.citation
        assert bool(source.hub_id) == (source.kind == "hub")
        assert set(source.labels.values()) <= {*LABELS, None}
        mapped = bool(source.labels) or source.neutral_below is not None
        assert mapped == bool(source.label_column or source.label_is_file)
        assert source.role == CORPUS or mapped
        assert source.test_split is None or source.test_split in source.splits
        known = {field.name for field in dataclasses.fields(source)}
        assert set(source.parameters) <= known
        for parameter in (*source.parameters.values(), *source.optional_labels):
            assert parameter in GoldDataParams.model_fields


def test_no_two_entries_are_the_same_data():
    for one, other in itertools.combinations(REGISTRY.values(), 2):
        assert not sources._shared_data(one, other)
        files = [{name for names in s.files.values() for name in names} for s in (one, other)]
        assert not files[0] & files[1]
