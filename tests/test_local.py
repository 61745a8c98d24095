"""Which local file has which role."""

import pytest

from lib.data import registry, sources
from lib.errors import UserError
from lib.parameters import GoldDataParams


def files_of(folder, names, source="local", **options):
    """File name -> role, for a folder with files of these names."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    params = GoldDataParams(**{"sources": [source], "data_dir": str(folder)} | options)
    entries = {entry.name: entry for entry in registry.configured(params)}
    entry = entries.pop(source, registry.REGISTRY[source])
    return sources.local_files(params, entry, entries.values())


def test_bad_data_dir(tmp_path):
    for data_dir, message in (
        (None, "data_dir: nothing is not a folder; the source 'local' reads its files"),
        (str(tmp_path / "нет"), "нет is not a folder"),
        (str(tmp_path), r"'local' finds no \*_train.\* in .*; files .* may read: corpus.csv "),
    ):
        with pytest.raises(UserError, match=message):
            files_of(tmp_path, ["corpus.csv"], data_dir=data_dir)


@pytest.mark.parametrize(
    "kind", ["csv", "tsv", "jsonl", "json", "parquet", "xlsx", "csv.gz", "jsonl.gz", "csv.zip"]
)
def test_default_patterns_take_every_format(tmp_path, kind):
    names = [f"{name}.{kind}" for name in ("a_test", "a_train", "b", "a_train_test")]
    assert files_of(
        tmp_path, [*names, "notes.txt", "table.docx", "x.parquet.gz", "sub/x_train.csv", "._b.csv"]
    ) == {
        f"a_test.{kind}": "test",
        f"a_train_test.{kind}": "test",
        f"a_train.{kind}": "gold",
        f"b.{kind}": "corpus",
    }


def test_patterns_are_parameters_and_other_files_are_left_alone(tmp_path):
    names = ["x.csv", "y.csv", "z.csv", "other.csv"]
    found = files_of(
        tmp_path, names, test_files=["x.csv"], gold_files=["y.csv"], corpus_files=["[z]*.csv"]
    )
    assert found == {"x.csv": "test", "y.csv": "gold", "z.csv": "corpus"}


def test_a_full_name_beats_a_pattern(tmp_path):
    assert files_of(tmp_path, ["my_test.csv"], gold_files=["my_test.csv"]) == {
        "my_test.csv": "gold"
    }


def test_names_need_not_say_gz(tmp_path):
    found = files_of(tmp_path, ["a.csv.gz", "b_test.csv.gz"], gold_files=["a.csv"])
    assert found == {"a.csv.gz": "gold", "b_test.csv.gz": "test"}


def test_subfolders_are_read_by_patterns(tmp_path):
    names = ["a_train.csv", "x/b_train.csv.zip", "x/y/c_train.csv", "x/y/d.csv", "x/.git/e.csv"]
    everywhere = {"gold_files": ["**/*_train.*"], "corpus_files": ["x/*/*"]}
    assert files_of(tmp_path, names, **everywhere) == {
        **dict.fromkeys(["a_train.csv", "x/b_train.csv.zip", "x/y/c_train.csv"], "gold"),
        "x/y/d.csv": "corpus",
    }
    assert files_of(tmp_path, [], gold_files=["x/*_train.csv"], corpus_files=["**/d.csv"])


def test_sheets_of_a_spreadsheet(tmp_path):
    sheets = {"gold_files": ["a.xlsx:Размечено"], "corpus_files": ["*.xlsx:Всё", "*.*"]}
    assert files_of(tmp_path, ["a.xlsx", "b.csv"], **sheets) == {
        "a.xlsx:Всё": "corpus",
        "a.xlsx:Размечено": "gold",
        "b.csv": "corpus",
    }


TWO = ["rusentiment_test.csv", "rusentiment_random_posts.csv"]
BAD = [
    (
        "a.csv b_train.csv",
        {"corpus_files": ["c.csv"]},
        "no c.csv in .* read: a.csv, b_train.csv ",
    ),
    ("a_train.csv", {"gold_files": ["a_train.txt"]}, "finds no a_train.txt in"),
    ("a.csv", {"corpus_files": ["c.csv", "d.csv"]}, r"finds no c.csv and no d.csv and no \*_train"),
    ("a_train.csv a_train.csv.gz", {}, "a_train.csv and a_train.csv.gz; remove one"),
    (" ".join(TWO), {"sources": ["local", "rusentiment"], "gold_files": TWO[1:]}, "read: none"),
]


@pytest.mark.parametrize(("names", "options", "message"), BAD)
def test_one_clear_message(tmp_path, names, options, message):
    with pytest.raises(UserError, match=message):
        files_of(tmp_path, names.split(), **options)


def test_sources_share_one_folder(tmp_path):
    declared = ["rusentiment_test.csv", "positive.csv", "negative.csv.gz", "corpus.en_ru.1m.ru"]
    posts = ["rusentiment_random_posts.csv", "rusentiment_preselected_posts.jsonl"]
    names = [*declared, *posts, "mine_train.csv", "mine.tsv"]
    everything = {"sources": ["local", "rusentiment", "ru_tweetcorp", "yandex_1m"]}
    assert files_of(tmp_path, names, **everything) == {
        "mine_train.csv": "gold",
        "mine.tsv": "corpus",
    }
    assert files_of(tmp_path, names, "rusentiment", **everything) == {
        "rusentiment_preselected_posts.jsonl": "gold",
        "rusentiment_random_posts.csv": "gold",
        "rusentiment_test.csv": "test",
    }
    assert set(files_of(tmp_path, names, "ru_tweetcorp")) == {"positive.csv", "negative.csv.gz"}
    assert files_of(tmp_path, names, "yandex_1m") == {"corpus.en_ru.1m.ru": "corpus"}
    alone = files_of(tmp_path, names)
    assert alone["rusentiment_test.csv"] == "test"
    assert alone["positive.csv"] == "corpus"
