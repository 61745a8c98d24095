import datasets
import pandas as pd
import pytest

from lib import sources
from lib.errors import SourceUnavailable, UserError
from lib.registry import REGISTRY
from lib.schema import GoldDataParams


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


def test_empty_texts_can_be_left_to_cleaning(tmp_path):
    write(tmp_path, "a_train.csv", HEAD + ",positive,чат\n" + GOOD + '"  ",negative,чат\n')
    texts = [row["text"] for row in read(local(tmp_path, skip_empty_texts=True))]
    assert texts == ["", "Хорошо", "  "]


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


def on_the_hub(monkeypatch, rows):
    """Every split of every data set has these rows."""
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **options: rows)


@pytest.mark.parametrize(
    ("name", "row", "label", "expected"),
    [
        ("ru_reviews", {"text": "а", "label": 3}, "'3'", "0, 1, 2;"),
        ("ru_reviews", {"text": "а", "label": None}, "''", "0, 1, 2;"),
        ("georeview", {"text": "а", "label": 5}, "'5'", "0, 1, 2, 3, 4;"),
        (
            "clapai_multilingual",
            {"text": "а", "label": "mixed", "language": "ru"},
            "'mixed'",
            "negative, ",
        ),
    ],
)
def test_label_outside_the_mapping(monkeypatch, name, row, label, expected):
    on_the_hub(
        monkeypatch, [row | {"label": 0 if name != "clapai_multilingual" else "neutral"}, row]
    )
    with pytest.raises(UserError) as error:
        read(GoldDataParams(sources=[name]))
    assert not isinstance(error.value, SourceUnavailable)
    message = str(error.value)
    for fragment in (f"source '{name}'", REGISTRY[name].hub_id, "row 2", "column label"):
        assert fragment in message
    assert f"unknown label {label}; expected {expected}" in message


@pytest.mark.parametrize(("label", "original"), [(1, "1"), (1.0, "1"), ("1", "1")])
def test_whole_numbers_are_one_label_however_they_are_stored(monkeypatch, label, original):
    on_the_hub(monkeypatch, [{"text": "а", "label": label}])
    found = {(r["label"], r["original_label"]) for r in read(GoldDataParams(sources=["georeview"]))}
    assert found == {("negative", original)}


def test_labels_of_other_languages_do_not_matter_and_are_counted(monkeypatch):
    rows = [{"text": "x", "label": "mixed", "language": "de"}] * 3
    on_the_hub(monkeypatch, [*rows, {"text": "да", "label": "positive", "language": "ru"}])
    train, *_ = sources.read(GoldDataParams(sources=["clapai_multilingual"]))
    assert train["text"].tolist() == ["да"]
    assert train.attrs["left_out"] == {"clapai_multilingual": {"other language": 3}}


def test_a_filter_that_no_row_passes_is_a_mistake(monkeypatch):
    on_the_hub(monkeypatch, [{"text": "x", "label": "positive", "language": "russian"}])
    with pytest.raises(UserError, match=r"train has no row with .*'ru'.*found \['russian'\]"):
        read(GoldDataParams(sources=["clapai_multilingual"]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, [""]),
        (["один", "два"], ["один", "два"]),
        (5, "column text: expected a text, found int"),
    ],
)
def test_texts_that_are_no_text(monkeypatch, text, expected):
    on_the_hub(monkeypatch, [{"text": text, "label": 0}])
    if isinstance(expected, list):
        assert [row["text"] for row in read(GoldDataParams(sources=["headlines"]))] == expected
    else:
        with pytest.raises(UserError, match=expected):
            read(GoldDataParams(sources=["headlines"]))


@pytest.mark.parametrize(
    "error",
    [ConnectionError("no route to host\nmore"), ConnectionError(), TimeoutError()],
    ids=["with text", "without text", "time-out"],
)
def test_without_network_the_error_says_what_to_do(monkeypatch, error):
    def offline(*args, **kwargs):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(SourceUnavailable) as caught:
        read(GoldDataParams(sources=["ru_reviews"]))
    message = str(caught.value)
    for fragment in (
        "'ru_reviews'",
        "ai-forever/ru-reviews-classification",
        "split train",
        type(error).__name__,
        "HF_HUB_OFFLINE",
        "sources: [local]",
        "skip_unavailable",
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
    with pytest.raises(SourceUnavailable, match=r"'ru_reviews'.*ConnectionError: reset by peer"):
        read(GoldDataParams(sources=["ru_reviews"]))


def test_the_real_library_without_a_hub():
    """The tests run with HF_HUB_OFFLINE=1."""
    with pytest.raises(SourceUnavailable, match=r"'cedr'.*mteb/CEDRClassification \(split train\)"):
        read(GoldDataParams(sources=["cedr"]))


@pytest.mark.parametrize("count", [1, 3, 6, 7])
def test_hub_rows_come_in_chunks_and_none_is_lost(monkeypatch, count):
    asked = []

    def stream(hub_id, config, *, split, revision, streaming):
        asked.append((hub_id, config, split, revision, streaming))
        return [{"text": f"{split} {number}", "label": number % 3} for number in range(count)]

    monkeypatch.setattr(datasets, "load_dataset", stream)
    monkeypatch.setattr(sources, "CHUNK", 3)
    frames = list(sources.read(GoldDataParams(sources=["ru_reviews"])))
    sizes = {1: [1], 3: [3], 6: [3, 3], 7: [3, 3, 1]}
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


def test_an_empty_hub_split_is_a_mistake(monkeypatch):
    on_the_hub(monkeypatch, [])
    with pytest.raises(UserError, match="'headlines': train has no rows"):
        read(GoldDataParams(sources=["headlines"]))


def test_two_sentences_of_a_row_may_come_in_two_frames(monkeypatch):
    on_the_hub(monkeypatch, [{"sentence1": f"{n}a", "sentence2": f"{n}b"} for n in range(5)])
    monkeypatch.setattr(sources, "CHUNK", 3)
    frames = list(sources.portions(GoldDataParams(sources=["terra"]))[0].frames())
    assert [frame["text"].tolist() for frame in frames] == [
        ["0a", "0b", "1a"],
        ["1b", "2a", "2b"],
        ["3a", "3b", "4a"],
        ["4b"],
    ]


# --- portions ------------------------------------------------------------------------------------


def test_portions_are_files_and_splits_in_the_order_of_the_sources(tmp_path):
    for name in ("b_train.csv", "a_train.jsonl.gz", "c.tsv"):
        write(tmp_path, name, b"")
    found = sources.portions(local(tmp_path, sources=["terra", "local", "sample", "ru_reviews"]))
    assert [portion.name for portion in found] == [
        *("terra/train", "terra/dev"),
        *("local/a_train.jsonl.gz", "local/b_train.csv", "local/c.tsv"),
        *("sample/gold.csv", "sample/corpus.csv"),
        *("ru_reviews/train", "ru_reviews/validation", "ru_reviews/test"),
    ]
    assert [portion.source.name for portion in found][:3] == ["terra", "terra", "local"]


def test_a_portion_gives_the_same_frames_again(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "CHUNK", 2)
    rows = [f"текст {n},{'positive' if n % 3 else ''}\n" for n in range(9)]
    write(tmp_path, "a_train.csv", "text,label\n" + "".join(rows))
    (portion,) = sources.portions(local(tmp_path, unlabelled_gold="drop"))
    first, second = list(portion.frames()), list(portion.frames())
    assert [len(frame) for frame in first] == [2, 2, 2]
    assert [frame.attrs["left_out"] for frame in first] == [{"a_train": {"unlabelled": 1}}] * 3
    for one, other in zip(first, second, strict=True):
        pd.testing.assert_frame_equal(one, other)
        assert one.attrs == other.attrs


def test_rows_left_out_at_the_end_are_counted_in_a_frame_without_rows(tmp_path):
    write(tmp_path, "a_test.csv", "text,label\nодин,\nдва,\n")
    write(tmp_path, "b_train.csv", HEAD + GOOD)
    test, train = sources.portions(local(tmp_path))
    (frame,) = test.frames()
    assert (list(frame.columns), len(frame)) == (sources.COLUMNS, 0)
    assert frame.attrs["left_out"] == {"a_test": {"unlabelled": 2}}
    assert [frame.attrs["left_out"] for frame in train.frames()] == [{}]


def test_rows_are_read_when_they_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "CHUNK", 2)
    write(tmp_path, "a_train.csv", HEAD + GOOD * 2 + "Плохо,bad,чат\n")
    frames = sources.read(local(tmp_path))
    assert len(next(frames)) == 2
    with pytest.raises(UserError, match="line 4"):
        next(frames)


# --- one data set under two names, and none at all -----------------------------------------------


@pytest.mark.parametrize(
    ("hub_id", "other", "fragments"),
    [
        ("mteb/GeoreviewClassification", "georeview", ["as gold and as corpus"]),
        ("ai-forever/georeview-classification", "georeview", ["as gold and as corpus"]),
        ("AI-Forever/ru-reviews-classification", "ru_reviews", ["used twice"]),
        ("clapAI/MultiLingualSentiment", "clapai_multilingual", ["used twice"]),
    ],
    ids=["same id", "its original", "upper case", "filtered"],
)
def test_one_hub_data_set_under_two_names(hub_id, other, fragments):
    params = GoldDataParams(sources=["rusentiment", other], rusentiment_hub_id=hub_id)
    with pytest.raises(UserError) as error:
        sources.check(params)
    for fragment in (*fragments, "'rusentiment'", f"'{other}'", hub_id.lower(), "remove one"):
        assert fragment in str(error.value)


@pytest.mark.parametrize("name", ["rusentiment", "ru_tweetcorp", "yandex_1m"])
def test_files_that_must_be_fetched_and_are_not_there(tmp_path, name):
    write(tmp_path, "rusentiment_test.csv", "label,text\n")
    write(tmp_path, "positive.csv", "")
    sure = GoldDataParams(sources=["sample", name], data_dir=str(tmp_path))
    with pytest.raises(SourceUnavailable) as error:
        sources.portions(sure)
    expected = {
        "rusentiment": ["rusentiment_random_posts.*", "rusentiment_preselected_posts.*"],
        "ru_tweetcorp": ["negative.csv"],
        "yandex_1m": ["corpus.en_ru.1m.ru"],
    }
    for fragment in (f"'{name}'", *expected[name], str(tmp_path), "skip_unavailable"):
        assert fragment in str(error.value)

    skipping = sure.model_copy(update={"skip_unavailable": True})
    assert sources.fingerprint(skipping)[name] == "unavailable"
    *sample, missing = sources.portions(skipping)
    assert [portion.name for portion in sample] == ["sample/gold.csv", "sample/corpus.csv"]
    assert (missing.name, missing.source.name) == (name, name)
    with pytest.raises(SourceUnavailable):
        next(missing.frames())


def test_your_own_missing_files_are_never_skipped(tmp_path):
    with pytest.raises(UserError, match="no gold file") as error:
        sources.portions(local(tmp_path, skip_unavailable=True))
    assert not isinstance(error.value, SourceUnavailable)
