from itertools import islice
from pathlib import Path

import datasets
import pytest

from lib.data import hub, sources
from lib.data.registry import REGISTRY
from lib.errors import UserError
from lib.parameters import GoldDataParams


def local(folder, **options):
    given = {"sources": ["local"], "data_dir": str(folder), "local_labels": "names"}
    return GoldDataParams(**given | options)


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def read(params):
    """Rows of all portions as dicts."""
    rows = [row for portion in sources.portions(params) for row in portion.rows(Path("none"))]
    return [dict(zip(sources.COLUMNS, row, strict=True)) for row in rows]


HEAD = "text,label,source\n"
GOOD = "Хорошо,positive,чат\n"


BAD = [
    ("label,source\npositive,чат\n", "no column 'text'|label,source"),
    ("text^label\nХорошо^positive\n", "no column 'text'"),
    (HEAD + GOOD + "Плохо,negativ,чат\n", "line 3, column label|'negativ'|'negative'"),
    ("", "no column 'text'|text,label"),
    (HEAD, "has no rows"),
    ((HEAD + GOOD).encode() + "Плохо,negative,чат\n".encode("cp1251"), "line 3: not UTF-8|0xcf"),
    ((HEAD + GOOD).encode("utf-16")[:-1], "not readable after row 0|truncated"),
    (HEAD + GOOD + "Плохо,negative\n", "line 3: 2 fields, expected 3"),
    (HEAD + "Плохо, очень,negative,чат\n", "line 2: 4 fields, expected 3|quote"),
    (HEAD + GOOD + '"Плохо,negative,чат\n', "line 3: not readable as CSV"),
    (HEAD + GOOD + '"Плохо" очень,negative,чат\n', "line 3: not readable as CSV"),
    (HEAD + '"Первая\n\nтретья",positive,чат\n' + GOOD + "Плохо,bad,чат\n", "line 6|'bad'"),
    ((HEAD + '"1\n2",positive,чат\nПлохо,bad,чат\n').replace("\n", "\r\n"), "line 4|'bad'"),
    (HEAD + GOOD + '"Плохо\nочень",bad,чат\n', "line 3|'bad'"),
    (HEAD + GOOD + "\n\nПлохо,bad,чат\n", "line 5|'bad'"),
]


@pytest.mark.parametrize(("content", "fragments"), BAD, ids=range(len(BAD)))
def test_bad_file_gives_one_error_with_file_and_place(tmp_path, content, fragments):
    path = write(tmp_path, "мои_train.csv", content)
    with pytest.raises(UserError) as error:
        read(local(tmp_path))
    message = str(error.value)
    assert message.startswith("source 'local': ") and str(path) in message and "\n" not in message
    assert all(fragment in message for fragment in fragments.split("|")), message


def test_empty_texts_are_left_to_cleaning(tmp_path):
    write(tmp_path, "a_train.csv", HEAD + ",positive,чат\n" + GOOD + '"  ",negative,чат\n')
    assert [row["text"] for row in read(local(tmp_path))] == ["", "Хорошо", "  "]


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


def test_what_a_file_says_of_its_rows_may_be_a_number_or_hostile(tmp_path):
    lines = ['{"text": "а", "label": "neutral", "source": 0, "original_label": 0}']
    lines += ['{"text": "б", "label": "neutral", "source": "\\ud800чат\\u202e"}']
    write(tmp_path, "a_train.jsonl", "\n".join(lines))
    found = [(row["source"], row["original_label"]) for row in read(local(tmp_path))]
    assert found == [("0", "0"), ("чат", "neutral")]


def test_the_name_of_a_file_is_as_hostile_as_its_texts(tmp_path):
    write(tmp_path, "а\x1b[31mб\u202e_train.csv", "text,label\nтекст,neutral\n")
    (row,) = read(local(tmp_path))
    assert row["source"] == "а [31mб _train"
    write(tmp_path, "а\udcff.csv", "text\nтекст\n")
    with pytest.raises(UserError, match=r"'а\\udcff\.csv' is not UTF-8; rename it"):
        read(local(tmp_path))


@pytest.mark.parametrize("choice", ["corpus", "drop"])
def test_unlabelled_rows_of_gold_and_test_files(tmp_path, choice):
    write(tmp_path, "a_train.csv", "text,label\nс меткой,positive\nбез метки,\n")
    write(tmp_path, "a_test.csv", "text,label\nтест с меткой,positive\nтест без метки,\n")
    rows = read(local(tmp_path, unlabelled_gold=choice))
    found = {row["text"]: (row["role"], row["split"]) for row in rows}
    assert found == {
        "с меткой": ("gold", None),
        "тест с меткой": ("gold", "test"),
        "тест без метки": ("unlabelled", None),
        "без метки": ("unlabelled" if choice == "drop" else "corpus", None),
    }


def test_labels_of_corpus_files_are_kept_for_the_audit(tmp_path):
    write(tmp_path, "a_train.csv", HEAD + GOOD)
    write(tmp_path, "b.csv", "text,label\nПлохо,negative\nНикак,\n")
    rows = [row for row in read(local(tmp_path)) if row["role"] == "corpus"]
    assert [(row["text"], row["label"]) for row in rows] == [("Плохо", "negative"), ("Никак", None)]


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


def test_fingerprint_tells_files_of_one_name_apart(tmp_path):
    """The sample has a gold.csv, too."""
    write(tmp_path, "gold.csv", HEAD + GOOD)
    params = local(tmp_path, sources=["local", "sample"], gold_files=["gold.csv"])
    before = sources.fingerprint(params)
    write(tmp_path, "gold.csv", HEAD + GOOD + GOOD)
    assert sources.fingerprint(params) != before


def test_fingerprint_follows_the_entries_of_the_registry(monkeypatch):
    params = GoldDataParams(sources=["headlines"])
    before = sources.fingerprint(params)
    other = REGISTRY["cedr"].model_copy(update={"joined": True})
    monkeypatch.setitem(REGISTRY, "cedr", other)
    assert sources.fingerprint(params) == before
    monkeypatch.setitem(
        REGISTRY, "headlines", REGISTRY["headlines"].model_copy(update={"joined": True})
    )
    assert sources.fingerprint(params) != before


def test_sample_needs_nothing():
    rows = read(GoldDataParams(sources=["sample"]))
    labels = {
        role: {row["label"] for row in rows if row["role"] == role} for role in ("gold", "corpus")
    }
    assert labels["gold"] == {"negative", "neutral", "positive"}
    assert labels["corpus"] == {*labels["gold"], None}


def on_the_hub(monkeypatch, rows):
    """Every split of every data set has these rows."""
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **options: rows)
    monkeypatch.setattr(hub, "commit", lambda source, commits: "abc")


@pytest.mark.parametrize(
    ("name", "label", "expected"),
    [
        ("ru_reviews", 3, "unknown label '3'; expected 0, 1, 2;"),
        ("ru_reviews", None, "unknown label ''; expected 0, 1, 2;"),
        ("clapai_multilingual", "mixed", "unknown label 'mixed'; expected negative, neutral"),
    ],
)
def test_label_outside_the_mapping(monkeypatch, name, label, expected):
    on_the_hub(monkeypatch, [{"text": "а", "label": label, "language": "ru"}])
    with pytest.raises(UserError) as error:
        read(GoldDataParams(sources=[name]))
    place = f"source '{name}': {REGISTRY[name].hub_id} split train, row 1, column label"
    assert f"{place}: {expected}" in str(error.value)
    assert "lib.data.registry" in str(error.value)


@pytest.mark.parametrize("label", [1, 1.0, "1", "1.0"])
def test_whole_numbers_are_one_label_however_they_are_stored(monkeypatch, label):
    on_the_hub(monkeypatch, [{"text": "а", "label": label}])
    found = {(r["label"], r["original_label"]) for r in read(GoldDataParams(sources=["georeview"]))}
    assert found == {("negative", "1")}


def test_labels_of_other_languages_do_not_matter(monkeypatch):
    rows = [{"text": "x", "label": "mixed", "language": "de"}] * 3
    on_the_hub(monkeypatch, [*rows, {"text": "да", "label": "positive", "language": "ru"}])
    found = read(GoldDataParams(sources=["clapai_multilingual"]))
    assert [row["text"] for row in found] == ["да"] * 3  # one of each split


def test_a_filter_that_no_row_passes_is_a_mistake(monkeypatch):
    on_the_hub(monkeypatch, [{"text": "x", "label": "positive", "language": "russian"}])
    with pytest.raises(UserError, match=r"train has no row with .*'ru'"):
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


@pytest.mark.parametrize("error", [ConnectionError("no route\nmore"), TimeoutError()])
@pytest.mark.parametrize("given", [0, 2])
def test_without_network_the_error_says_what_to_do(monkeypatch, error, given):
    def stream(*args, **options):
        yield from [{"text": "текст", "label": 1}] * given
        raise error

    monkeypatch.setattr(datasets, "load_dataset", stream)
    with pytest.raises(UserError) as caught:
        read(GoldDataParams(sources=["ru_reviews"]))
    message = str(caught.value)
    for fragment in (
        *("'ru_reviews'", "ai-forever/ru-reviews-classification split train", "HF_HUB_OFFLINE"),
        *(type(error).__name__, "sources: [local]", "remove the source"),
    ):
        assert fragment in message
    assert "\n" not in message


def test_hub_splits_are_streamed_at_their_revision(monkeypatch):
    asked = []

    def stream(hub_id, config, **options):
        asked.append((hub_id, config, options))
        yield {"text": options["split"], "label": 1}

    monkeypatch.setattr(datasets, "load_dataset", stream)
    rows = read(GoldDataParams(sources=["ru_reviews"]))
    splits = ("train", "validation", "test")
    assert [(row["text"], row["split"]) for row in rows] == [
        *(("train", None), ("validation", None), ("test", "test")),
    ]
    entry = REGISTRY["ru_reviews"]
    options = {"revision": entry.revision, "streaming": True}
    assert asked == [(entry.hub_id, None, {"split": split} | options) for split in splits]


def test_an_empty_hub_split_is_a_mistake(monkeypatch):
    on_the_hub(monkeypatch, [])
    with pytest.raises(UserError, match="'headlines': train has no row"):
        read(GoldDataParams(sources=["headlines"]))


# --- portions ------------------------------------------------------------------------------------


def test_portions_are_files_and_splits_in_the_order_of_the_sources(tmp_path):
    for name in ("b_train.csv", "a_train.jsonl.gz", "c.tsv"):
        write(tmp_path, name, b"")
    found = sources.portions(local(tmp_path, sources=["terra", "local", "sample", "ru_reviews"]))
    assert [(p.source.name, getattr(p.part, "name", p.part), p.role) for p in found] == [
        *(("terra", "train", "corpus"), ("terra", "dev", "corpus")),
        *(("local", "a_train.jsonl.gz", "gold"), ("local", "b_train.csv", "gold")),
        *(("local", "c.tsv", "corpus"), ("sample", "gold.csv", "gold")),
        *(("sample", "corpus.csv", "corpus"), ("ru_reviews", "train", "gold")),
        *(("ru_reviews", "validation", "gold"), ("ru_reviews", "test", "test")),
    ]


def test_rows_are_read_when_they_are_asked_for(tmp_path):
    write(tmp_path, "a_train.csv", HEAD + GOOD * 2 + "Плохо,bad,чат\n")
    (portion,) = sources.portions(local(tmp_path))
    rows = portion.rows(tmp_path)
    assert len(list(islice(rows, 2))) == 2
    with pytest.raises(UserError, match="line 4"):
        next(rows)


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("rusentiment", "rusentiment_random_posts.*"),
        ("ru_tweetcorp", "negative.csv"),
        ("yandex_1m", "corpus.en_ru.1m.ru"),
    ],
)
def test_files_that_must_be_fetched_and_are_not_there(tmp_path, name, missing):
    write(tmp_path, "rusentiment_test.csv", "label,text\n")
    write(tmp_path, "positive.csv", "")
    with pytest.raises(UserError) as error:
        sources.portions(GoldDataParams(sources=["sample", name], data_dir=str(tmp_path)))
    citation = REGISTRY[name].citation
    for fragment in (f"'{name}'", missing, str(tmp_path), citation, "remove the source"):
        assert fragment in str(error.value)
