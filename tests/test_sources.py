import datasets
import pytest

from lib import sources
from lib.errors import UserError
from lib.params import GoldDataParams
from lib.registry import REGISTRY


def local(folder, **options):
    return GoldDataParams(**{"sources": ["local"], "data_dir": str(folder)} | options)


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def read(params):
    """Rows of all frames as dicts."""
    return [row for frame in sources.read(params) for row in frame.to_dict("records")]


HEAD = "text,label,source\n"
GOOD = "Хорошо,positive,чат\n"


@pytest.mark.parametrize(
    ("content", "fragments"),
    [
        pytest.param(
            "label,source\npositive,чат\n", ["no column 'text'", "label,source"], id="no text"
        ),
        pytest.param("text,source\nХорошо,чат\n", ["no column 'label'"], id="no label"),
        pytest.param("text;label\nХорошо;positive\n", ["no column 'text'"], id="semicolons"),
        pytest.param(
            HEAD + GOOD + "Плохо,negativ,чат\n",
            [
                "line 3",
                "column label",
                "'negativ'",
                "negative, neutral, positive",
                "nearest: negative",
            ],
            id="unknown label",
        ),
        pytest.param(b"", ["is empty", "text,label,source"], id="empty file"),
        pytest.param(HEAD, ["header but no rows"], id="header only"),
        pytest.param(
            HEAD + GOOD + ",positive,чат\n",
            ["line 3", "column text", "empty", "skip_empty_texts"],
            id="empty text",
        ),
        pytest.param(HEAD + '" \t",positive,чат\n', ["line 2", "column text"], id="only spaces"),
        pytest.param(
            (HEAD + GOOD).encode() + "Плохо,negative,чат\n".encode("cp1251"),
            ["line 3", "not UTF-8", "0xcf"],
            id="cp1251",
        ),
        pytest.param((HEAD + GOOD).encode("utf-16"), ["line 1", "not UTF-8"], id="utf-16"),
        pytest.param(
            HEAD + GOOD + "Плохо,negative\n", ["line 3", "2 fields", "header has 3"], id="too few"
        ),
        pytest.param(
            HEAD + "Плохо, очень,negative,чат\n",
            ["line 2", "4 fields", "header has 3", "quote"],
            id="too many",
        ),
        pytest.param(
            HEAD + GOOD + '"Плохо,negative,чат\n',
            ["line 3", "not readable as CSV"],
            id="truncated quote",
        ),
        pytest.param(
            HEAD + GOOD + '"Плохо" очень,negative,чат\n',
            ["line 3", "not readable as CSV"],
            id="quote inside a field",
        ),
        pytest.param(
            HEAD + '"Первая\nвторая\n\nчетвёртая",positive,чат\n' + GOOD + "Плохо,bad,чат\n",
            ["line 7", "'bad'"],
            id="after a record of several lines",
        ),
        pytest.param(
            (HEAD + '"Первая\nвторая",positive,чат\nПлохо,bad,чат\n').replace("\n", "\r\n"),
            ["line 4", "'bad'"],
            id="windows line ends",
        ),
        pytest.param(
            HEAD + GOOD + '"Плохо\nочень",bad,чат\n',
            ["line 3", "'bad'"],
            id="first line of the record itself",
        ),
        pytest.param(
            HEAD + GOOD + "\n\nПлохо,bad,чат\n", ["line 5", "'bad'"], id="after blank lines"
        ),
    ],
)
def test_bad_file_gives_one_error_with_file_and_place(tmp_path, content, fragments):
    path = write(tmp_path, "мои_train.csv", content)
    with pytest.raises(UserError) as error:
        read(local(tmp_path))
    message = str(error.value)
    assert str(path) in message
    assert "\n" not in message
    for fragment in fragments:
        assert fragment in message


def test_empty_texts_can_be_skipped(tmp_path):
    write(tmp_path, "a_train.csv", HEAD + ",positive,чат\n" + GOOD + '"  ",negative,чат\n')
    assert [row["text"] for row in read(local(tmp_path, skip_empty_texts=True))] == ["Хорошо"]


@pytest.mark.parametrize(
    ("folder", "fragments"),
    [
        (None, ["data_dir", "'local'", "-p data_dir="]),
        ("нет", ["data_dir", "нет is not a folder"]),
        ("", ["no gold file", "*_train.csv", "corpus.csv"]),
    ],
    ids=["no data_dir", "no folder", "no gold file"],
)
def test_bad_data_dir(tmp_path, folder, fragments):
    write(tmp_path, "corpus.csv", HEAD + GOOD)
    data_dir = None if folder is None else str(tmp_path / folder)
    with pytest.raises(UserError) as error:
        read(GoldDataParams(sources=["local"], data_dir=data_dir))
    for fragment in fragments:
        assert fragment in str(error.value)


def test_unknown_and_repeated_sources():
    with pytest.raises(UserError, match=r"'samle'.*nearest valid name is 'sample'"):
        read(GoldDataParams(sources=["samle"]))
    with pytest.raises(UserError, match="sample is listed twice"):
        read(GoldDataParams(sources=["sample", "sample"]))


def test_values_arrive_as_written(tmp_path):
    text = 'Он сказал: ""да"",\nи ушёл 😀'
    write(tmp_path, "a_train.csv", f'\ufefftext,label,source\n"{text}", Positive ,чат\n')
    (row,) = read(local(tmp_path))
    assert row == {
        "text": 'Он сказал: "да",\nи ушёл 😀',
        "label": "positive",
        "original_label": " Positive ",
        "source": "чат",
        "group": "local",
        "role": "gold",
        "split": None,
    }


def test_source_defaults_to_the_file_and_original_label_is_kept(tmp_path):
    write(tmp_path, "отзывы_train.csv", "label,original_label,text\nneutral,3,Так себе\n")
    (row,) = read(local(tmp_path))
    assert (row["source"], row["label"], row["original_label"]) == ("отзывы_train", "neutral", "3")


def test_a_file_takes_the_first_matching_role(tmp_path):
    for name in ("a_test", "a_train", "b", "a_train_test"):
        write(tmp_path, f"{name}.csv", f"text,label\nТекст {name},positive\n")
    found = {row["source"]: (row["role"], row["split"]) for row in read(local(tmp_path))}
    assert found == {
        "a_test": ("gold", "test"),
        "a_train_test": ("gold", "test"),
        "a_train": ("gold", None),
        "b": ("corpus", None),
    }


def test_role_patterns_are_parameters_and_unmatched_files_are_left_alone(tmp_path):
    for name in ("x", "y", "z"):
        write(tmp_path, f"{name}.csv", f"text,label\nТекст {name},positive\n")
    write(tmp_path, "broken.csv", b"\xff")
    write(tmp_path, "notes.txt", b"\xff")
    chosen = local(tmp_path, test_files=["x.csv"], gold_files=["y.csv"], corpus_files=["[z]*.csv"])
    assert {row["source"]: row["role"] for row in read(chosen)} == {
        "x": "gold",
        "y": "gold",
        "z": "corpus",
    }


@pytest.mark.parametrize("choice", ["corpus", "drop"])
def test_unlabelled_rows_of_gold_and_test_files(tmp_path, choice):
    write(tmp_path, "a_train.csv", "text,label\nс меткой,positive\nбез метки,\n")
    write(tmp_path, "a_test.csv", "text,label\nтест с меткой,positive\nтест без метки,\n")
    rows = read(local(tmp_path, unlabelled_gold=choice))
    expected = {"с меткой": ("gold", None), "тест с меткой": ("gold", "test")}
    if choice == "corpus":
        expected["без метки"] = ("corpus", None)
    assert {row["text"]: (row["role"], row["split"]) for row in rows} == expected


def test_labels_of_corpus_files_are_kept_for_the_audit(tmp_path):
    write(tmp_path, "a_train.csv", HEAD + GOOD)
    write(tmp_path, "b.csv", "text,label\nПлохо,negative\nНикак,\n")
    rows = [row for row in read(local(tmp_path)) if row["role"] == "corpus"]
    assert [(row["text"], row["label"]) for row in rows] == [("Плохо", "negative"), ("Никак", None)]


def test_rusentiment_files_and_labels(tmp_path):
    write(tmp_path, "rusentiment_random_posts.csv", "label,text\npositive,ура\nspeech,с днём\n")
    write(tmp_path, "rusentiment_preselected_posts.csv", "label,text\nskip,ммм\nnegative,беда\n")
    write(tmp_path, "rusentiment_test.csv", "label,text\nneutral,тест\nspeech,привет\nskip,хм\n")
    write(tmp_path, "other.csv", b"\xff not read")
    params = GoldDataParams(sources=["rusentiment"], data_dir=str(tmp_path))
    found = {
        row["text"]: (row["label"], row["original_label"], row["role"], row["split"])
        for row in read(params)
    }
    assert found == {
        "ура": ("positive", "positive", "gold", None),
        "с днём": (None, "speech", "corpus", None),
        "ммм": (None, "skip", "corpus", None),
        "беда": ("negative", "negative", "gold", None),
        "тест": ("neutral", "neutral", "gold", "test"),
    }
    assert {row["group"] for row in read(params)} == {"rusentiment"}


def test_speech_is_no_label_of_your_own_files(tmp_path):
    write(tmp_path, "a_train.csv", "text,label\nс днём,speech\n")
    with pytest.raises(UserError, match="line 2, column label: unknown label 'speech'"):
        read(local(tmp_path))


def test_fingerprint_follows_content_and_role(tmp_path):
    write(tmp_path, "a_train.csv", HEAD + GOOD)
    write(tmp_path, "b.csv", HEAD + GOOD)
    before = sources.fingerprint(local(tmp_path))
    assert before == sources.fingerprint(local(tmp_path))
    assert before != sources.fingerprint(local(tmp_path, gold_files=["*.csv"]))
    write(tmp_path, "b.csv", HEAD + GOOD + GOOD)
    assert before != sources.fingerprint(local(tmp_path))
    hub = sources.fingerprint(GoldDataParams(sources=["ru_reviews"]))
    assert REGISTRY["ru_reviews"].revision in hub["ru_reviews"]


def test_sample_needs_nothing():
    frames = list(sources.read(GoldDataParams(sources=["sample"])))
    assert [list(frame.columns) for frame in frames] == [sources.COLUMNS] * 2
    assert [set(frame["role"]) for frame in frames] == [{"gold"}, {"corpus"}]
    assert set(frames[0]["label"]) == {"negative", "neutral", "positive"}


# Rows in the hub's own columns, written by hand from the data sets' pages, and what they must
# become: (text, label, original label, role, split). The key is (source, split).
GOLD, CORPUS = "gold", "corpus"
CLAP = {"source": "kaggle", "domain": "product reviews"}
RECORDED = {
    ("clapai_multilingual", "train"): (
        [
            {"text": "Отличный товар", "label": "positive", "language": "ru", **CLAP},
            {"text": "Great stuff", "label": "positive", "language": "en", **CLAP},
            {"text": "Ужас", "label": "Negative", "language": "ru", **CLAP},
        ],
        [
            ("Отличный товар", "positive", "positive", GOLD, None),
            ("Ужас", "negative", "negative", GOLD, None),
        ],
    ),
    ("clapai_multilingual", "test"): (
        [{"text": "Сойдёт", "label": "neutral", "language": "ru", **CLAP}],
        [("Сойдёт", "neutral", "neutral", GOLD, "test")],
    ),
    ("ru_reviews", "validation"): (
        [
            {"text": "порвалось", "label": 0, "label_text": "negative"},
            {"text": "нормально", "label": 1, "label_text": "neutral"},
            {"text": "супер", "label": 2, "label_text": "positive"},
        ],
        [
            ("порвалось", "negative", "0", GOLD, None),
            ("нормально", "neutral", "1", GOLD, None),
            ("супер", "positive", "2", GOLD, None),
        ],
    ),
    ("ru_reviews", "test"): (
        [{"text": "беру ещё", "label": 2, "label_text": "positive"}],
        [("беру ещё", "positive", "2", GOLD, "test")],
    ),
    ("georeview", "train"): (
        [{"text": f"отзыв на {stars}", "label": stars - 1} for stars in (1, 2, 3, 4, 5)],
        [
            ("отзыв на 1", "negative", "0", CORPUS, None),
            ("отзыв на 2", "negative", "1", CORPUS, None),
            ("отзыв на 3", "neutral", "2", CORPUS, None),
            ("отзыв на 4", "positive", "3", CORPUS, None),
            ("отзыв на 5", "positive", "4", CORPUS, None),
        ],
    ),
    ("georeview_long", "test"): (
        [{"sentences": "Приятное место.", "labels": "Кафе"}],
        [("Приятное место.", None, "", CORPUS, None)],
    ),
    ("kinopoisk", "train"): (
        [
            {"id": 7, "text": "скука", "label": 0, "label_text": "Bad"},
            {"id": 8, "text": "на раз", "label": 1, "label_text": "Neutral"},
            {"id": 9, "text": "шедевр", "label": 2, "label_text": "Good"},
        ],
        [
            ("скука", "negative", "0", CORPUS, None),
            ("на раз", "neutral", "1", CORPUS, None),
            ("шедевр", "positive", "2", CORPUS, None),
        ],
    ),
    ("ria_news", "corpus"): (
        [{"_id": "d1", "text": "Москва, 1 янв — РИА Новости.", "title": ""}],
        [("Москва, 1 янв — РИА Новости.", None, "", CORPUS, None)],
    ),
    ("headlines", "train"): (
        [{"text": "Сборная вышла в финал", "label": 0}],
        [("Сборная вышла в финал", None, "", CORPUS, None)],
    ),
    ("cedr", "train"): (
        [{"text": "радость и удивление", "label": [0, 2]}, {"text": "ничего", "label": []}],
        [
            ("радость и удивление", None, "", CORPUS, None),
            ("ничего", None, "", CORPUS, None),
        ],
    ),
    ("grnti", "train"): (
        [{"text": "О кристаллах. Аннотация", "label": 27, "label_text": "Физика"}],
        [("О кристаллах. Аннотация", None, "", CORPUS, None)],
    ),
    ("oecd", "train"): (
        [{"text": "О почвах. Аннотация", "label": 28, "label_text": "Agriculture"}],
        [("О почвах. Аннотация", None, "", CORPUS, None)],
    ),
    ("ru_sts", "train"): (
        [{"sentence1": "Кот спит.", "sentence2": "Кошка дремлет.", "score": 4.2}],
        [
            ("Кот спит.", None, "", CORPUS, None),
            ("Кошка дремлет.", None, "", CORPUS, None),
        ],
    ),
    ("sensitive_topics", "train"): (
        [{"text": "спор о политике", "label": [3, 11]}, {"text": "о погоде", "label": []}],
        [
            ("спор о политике", None, "", CORPUS, None),
            ("о погоде", None, "", CORPUS, None),
        ],
    ),
    ("inappropriateness", "train"): (
        [{"text": "обычная фраза", "label": 0, "label_text": "0.0"}],
        [("обычная фраза", None, "", CORPUS, None)],
    ),
    ("terra", "dev"): (
        [{"sentence1": "Дождь идёт.", "sentence2": "Сухо.", "labels": 0}],
        [("Дождь идёт.", None, "", CORPUS, None), ("Сухо.", None, "", CORPUS, None)],
    ),
}
COLUMNS_USED = {
    "clapai_multilingual": ("text", "label", "language"),
    "ru_reviews": ("text", "label"),
    "georeview": ("text", "label"),
    "georeview_long": ("sentences",),
    "kinopoisk": ("text", "label"),
    "ru_sts": ("sentence1", "sentence2"),
    "terra": ("sentence1", "sentence2"),
}
RENAMED = [
    (name, split, column)
    for name, split in RECORDED
    if split != "test" or name == "georeview_long"
    for column in COLUMNS_USED.get(name, ("text",))
]


def test_a_row_is_recorded_for_every_hub_source():
    hub = {name for name, source in REGISTRY.items() if source.kind == "hub"}
    assert {name for name, _ in RECORDED} == hub
    for name, split in RECORDED:
        assert split in REGISTRY[name].splits


@pytest.mark.parametrize(("name", "split"), RECORDED, ids=map("/".join, RECORDED))
def test_recorded_rows_of_the_hub(name, split):
    rows, expected = RECORDED[name, split]
    frame = sources.map_rows(REGISTRY[name], split, rows)
    assert list(frame.columns) == sources.COLUMNS
    columns = ["text", "label", "original_label", "role", "split"]
    assert [tuple(row) for row in frame[columns].to_numpy()] == expected
    assert set(frame["source"]) == set(frame["group"]) == {name}


@pytest.mark.parametrize(("name", "split", "column"), RENAMED, ids=map("/".join, RENAMED))
def test_renamed_column_names_source_expected_and_found(name, split, column):
    rows = [
        {("new_name" if key == column else key): value for key, value in row.items()}
        for row in RECORDED[name, split][0]
    ]
    with pytest.raises(UserError) as error:
        sources.map_rows(REGISTRY[name], split, rows)
    expected, found = str(error.value).split("found")
    assert f"'{name}'" in expected
    assert f"'{column}'" in expected
    assert "'new_name'" in found
    assert f"'{column}'" not in found


@pytest.mark.parametrize(
    ("name", "row", "label"),
    [
        ("ru_reviews", {"text": "а", "label": 3}, "'3'"),
        ("ru_reviews", {"text": "а", "label": None}, "'none'"),
        ("georeview", {"text": "а", "label": 5}, "'5'"),
        ("clapai_multilingual", {"text": "а", "label": "mixed", "language": "ru"}, "'mixed'"),
    ],
)
def test_label_outside_the_mapping(name, row, label):
    with pytest.raises(UserError) as error:
        sources.map_rows(REGISTRY[name], "train", [row])
    message = str(error.value)
    assert f"source '{name}'" in message
    assert "column 'label'" in message
    assert label in message
    assert "negative" in message  # the mapping is shown


def test_labels_of_other_languages_do_not_matter():
    rows = [{"text": "x", "label": "mixed", "language": "de"}]
    assert sources.map_rows(REGISTRY["clapai_multilingual"], "train", rows).empty


@pytest.mark.parametrize(
    "error",
    [ConnectionError("no route to host\nmore"), ConnectionError(), TimeoutError()],
    ids=["with text", "without text", "time-out"],
)
def test_without_network_the_error_says_what_to_do(monkeypatch, error):
    def offline(*args, **kwargs):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(UserError) as caught:
        read(GoldDataParams(sources=["ru_reviews"]))
    message = str(caught.value)
    for fragment in (
        "'ru_reviews'",
        "ai-forever/ru-reviews-classification",
        "split train",
        type(error).__name__,
        "HF_HUB_OFFLINE",
        "sources: [local]",
    ):
        assert fragment in message
    assert "\n" not in message


@pytest.mark.parametrize("given", [0, 1, 2], ids="after {} rows".format)
def test_a_network_that_fails_while_reading_gives_the_same_error(monkeypatch, given):
    def stream(*args, **kwargs):
        for number in range(given):
            yield {"text": f"текст {number}", "label": 1}
        raise ConnectionError("reset by peer")

    monkeypatch.setattr(datasets, "load_dataset", stream)
    with pytest.raises(UserError, match=r"'ru_reviews'.*ConnectionError: reset by peer"):
        read(GoldDataParams(sources=["ru_reviews"]))


@pytest.mark.parametrize("count", [0, 1, 3, 6, 7])
def test_hub_rows_come_in_chunks_and_none_is_lost(monkeypatch, count):
    asked = []

    def stream(hub_id, config, *, split, revision, streaming):
        asked.append((hub_id, config, split, revision, streaming))
        return [{"text": f"{split} {number}", "label": number % 3} for number in range(count)]

    monkeypatch.setattr(datasets, "load_dataset", stream)
    monkeypatch.setattr(sources, "CHUNK", 3)
    frames = list(sources.read_hub(REGISTRY["ru_reviews"]))
    sizes = {0: [], 1: [1], 3: [3], 6: [3, 3], 7: [3, 3, 1]}
    assert [len(frame) for frame in frames] == sizes[count] * 3
    texts = [text for frame in frames for text in frame["text"]]
    assert texts == [f"{s} {n}" for s in ("train", "validation", "test") for n in range(count)]
    official = {text for frame in frames for text in frame.loc[frame["split"] == "test", "text"]}
    assert official == {f"test {number}" for number in range(count)}
    assert asked == [
        (
            "ai-forever/ru-reviews-classification",
            None,
            split,
            "f6d2c31f4dc6b88f468552750bfec05b4b41b05a",
            True,
        )
        for split in ("train", "validation", "test")
    ]


def test_a_hub_text_that_is_null_becomes_empty():
    frame = sources.map_rows(REGISTRY["headlines"], "train", [{"text": None, "label": 0}])
    assert frame["text"].tolist() == [""]
