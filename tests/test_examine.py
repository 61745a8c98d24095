"""What files are found to be before they are read; all that is wrong with them comes at once."""

from pathlib import Path

import pandas as pd
import pytest

from lib.data import examine as examine_
from lib.data import sources
from lib.data.examine import examine
from lib.errors import UserError
from lib.parameters import GoldDataParams

THREE = ("negative", "neutral", "positive")


def params_of(folder, **options):
    return GoldDataParams(**{"sources": ["local"], "data_dir": str(folder)} | options)


def write(folder, name, labels, **options):
    table = pd.DataFrame({"text": [f"текст {n}" for n in range(len(labels))], "label": labels})
    table.to_csv(folder / name, index=False, **options)


def labels_of(params):
    """Original label -> class, of all files."""
    rows = [row for portion in examine(params)[0] for row in portion.rows(Path())]
    return {row[2]: row[1] for row in rows}


def message_of(params, most=None):
    with pytest.raises(UserError) as error:
        examine(params, most)
    return str(error.value)


@pytest.mark.parametrize(
    ("scheme", "negative", "neutral", "positive"),
    [
        ("names", "NEG Negative", "neautral Neutral", "Positive POS"),
        ("names", "негативный", "нейтрально", "Положительный"),
        ("signs", "-1 −1.0", "0 0.0", "1 +1"),
        ("stars", "1 2.0", "3", "4 5,0"),
        ("ten_point", "1 2 3 4", "5 6", "7 8 9 10"),
        ("ten_point", "1.0", "6.0", "9.0"),
    ],
)
def test_the_one_known_scheme_is_found_and_said(tmp_path, scheme, negative, neutral, positive):
    given = dict(zip(THREE, (negative.split(), neutral.split(), positive.split()), strict=True))
    write(tmp_path, "a_train.csv", [*(label for each in given.values() for label in each), None])
    found = labels_of(params_of(tmp_path))
    assert found.pop("") is None
    assert set(found.values()) == set(THREE)
    for name, labels in given.items():
        assert {found[label] for label in labels if label in found} <= {name}
    notes = examine(params_of(tmp_path))[1]
    assert len(notes) == 1 and f"labels are {scheme} (" in notes[0]


@pytest.mark.parametrize("labels", [["0", "1", "2"], [0, 1], [1, 2, 3], ["2.0", "1.0", "0.0"]])
def test_where_two_fit_it_asks(tmp_path, labels):
    write(tmp_path, "a_train.csv", labels)
    message = message_of(params_of(tmp_path))
    assert " or " in message and "say which: 01_gold_data.local_labels: " in message
    if len(labels) == 3 and 3 not in labels:
        assert "codes (0: negative; 1: neutral; 2: positive)" in message
        assert "neutral_first (2: negative; 0: neutral; 1: positive)" in message
        other = params_of(tmp_path, local_labels="neutral_first")
        assert set(labels_of(other).values()) == set(THREE)


def test_files_beside_a_file_settle_what_it_leaves_open(tmp_path):
    write(tmp_path, "a_train.csv", [1, 2, 3, 4, 5])
    write(tmp_path, "b_test.csv", [1, 3, 4])
    write(tmp_path, "c.csv", ["Neutral", ""])
    portions, notes = examine(params_of(tmp_path))
    assert [note.partition("labels are ")[2].split()[0] for note in notes] == [
        *("stars", "stars", "names"),
    ]
    assert [portion.source.classes.get("4") for portion in portions] == ["positive"] * 2 + [None]


def test_a_mapping_by_hand(tmp_path):
    write(tmp_path, "a_train.csv", ["плохо", "Так себе", "3", "9", None])
    by_hand = {"negative": ["плохо"], "neutral": ["так себе"], "positive": [3], "none": [9]}
    found = labels_of(params_of(tmp_path, local_labels=by_hand))
    assert found == dict(
        zip(["плохо", "Так себе", "3", "9", ""], [*THREE, None, None], strict=True)
    )
    message = message_of(params_of(tmp_path))
    assert "line 2, column label: unknown label 'плохо'" in message and "local_labels: {" in message


def test_a_mapping_by_hand_is_read_as_labels_are(tmp_path):
    write(tmp_path, "a_train.csv", ["1.0", "Плохо", "+2", "None", "null"])
    by_hand = {"negative": [1.0, "ПЛОХО", "плохо"], "neutral": ["none", "2.0"], "positive": ["3"]}
    assert "no gold text is positive; " in message_of(params_of(tmp_path, local_labels=by_hand))
    by_hand = {"negative": [1.0, "ПЛОХО "], "neutral": ["None"], "positive": ["2,0"]}
    found = labels_of(params_of(tmp_path, local_labels=by_hand))
    classes = ["negative", "negative", "positive", "neutral", None]
    assert found == dict(zip(["1", "Плохо", "2", "None", "null"], classes, strict=True))
    by_hand = {"negative": [1], "positive": [2.0, "1.0"]}
    given = params_of(tmp_path, local_labels=by_hand)
    assert "local_labels: '1' in two classes" in message_of(given)


@pytest.mark.parametrize("given", ["star", {"good": ["1"]}, {"negative": [1], "neutral": [1]}, 5])
def test_what_is_no_mapping(given):
    with pytest.raises(ValueError, match="local_labels"):
        GoldDataParams(local_labels=given)


def test_all_problems_come_at_once_each_with_its_remedy(tmp_path):
    (tmp_path / "a_train.csv").write_text("review;Sentiment\nда;1\n", encoding="cp1251")
    write(tmp_path, "b_train.csv", ["positive", "negativ", "neutrall"])
    (tmp_path / "c_test.csv").write_text("text,label\nда,positive,лишнее\n", encoding="utf-8")
    (tmp_path / "d.xlsx").write_bytes(b"PK")
    (tmp_path / "e.parquet").write_bytes(b"PAR1")
    (tmp_path / "f.jsonl").write_bytes(b'{"text": 5}')
    (tmp_path / "g_train.jsonl").write_text('{"review": "да", "sentiment": 1}', encoding="utf-8")
    write(tmp_path, "h_train.csv", [0, 1, 2])
    lines = message_of(params_of(tmp_path)).splitlines()
    expected = [
        *("a_train.csv: no column 'text' and no column 'label'", "b_train.csv, line 3, column lab"),
        *("c_test.csv, line 2: 3 fields", "d.xlsx: not readable as a spreadsheet"),
        *("e.parquet: not readable", "f.jsonl, line 1, column text: expected a text, found int"),
        *("g_train.jsonl, line 1: no column 'text' and no column 'label'", "h_train.csv, column l"),
    ]
    assert all(sum(part in line for line in lines) == 1 for part in expected), lines
    assert len(lines) == len(expected)
    assert any("-p text_column=review -p label_column=Sentiment" in line for line in lines)
    assert any("-p text_column=review -p label_column=sentiment" in line for line in lines)
    assert any("labels of the file: negativ, neutrall, positive" in line for line in lines)
    assert any("'negativ'; the nearest valid name is 'negative'" in line for line in lines)


def test_columns_by_name(tmp_path):
    table = pd.DataFrame({"отзыв": ["да", "нет", "ну"], "оценка": [1, 3, 5], "сайт": "чат"})
    table.to_excel(tmp_path / "a_train.xlsx")
    table[["отзыв", "сайт"]].to_json(tmp_path / "b.json", orient="records")
    names = {"text_column": "отзыв", "label_column": "оценка", "source_column": "сайт"}
    given = params_of(tmp_path, **names, local_labels="stars")
    rows = [row for portion in examine(given)[0] for row in portion.rows(Path())]
    found = [dict(zip(sources.COLUMNS, row, strict=True)) for row in rows]
    assert [row["label"] for row in found] == [*THREE, None, None, None]
    assert {row["source"] for row in found} == {"чат"}
    assert "no column 'где'" in message_of(params_of(tmp_path, **names | {"source_column": "где"}))


def test_what_is_said_of_files(tmp_path):
    write(tmp_path, "a_train.csv", THREE, sep=";", encoding="cp1251")
    (tmp_path / "b.csv").write_text("text\nда\n", encoding="utf-8-sig")
    for name in ("notes.docx", "sub/c.csv", ".hidden", "README.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pd.ExcelWriter(tmp_path / "t.xlsx") as book:
        pd.DataFrame({"text": ["да"]}).to_excel(book, sheet_name="один")
        pd.DataFrame({"x": [1]}).to_excel(book, sheet_name="два")
    named = "negative: negative; neutral: neutral; positive: positive"
    assert examine(params_of(tmp_path))[1] == [
        f"a_train.csv (gold): cp1251, delimiter ';', labels are names ({named})",
        "b.csv (corpus): utf-8-sig, delimiter ',', no labels",
        "t.xlsx (corpus): no labels",
        "not read: README.txt, notes.docx, sub/, t.xlsx:два",
    ]
    (tmp_path / "a_train.csv").unlink()
    assert "others: README.txt, notes.docx, sub/. " in message_of(params_of(tmp_path))


def test_by_hand_is_not_guessed(tmp_path):
    path = tmp_path / "a_train.csv"
    path.write_bytes("text|x;label\nда;neg\nну;neu\nнет;pos\n".encode("koi8-r"))
    given = params_of(tmp_path, delimiter=";", encoding="koi8-r", text_column="text|x")
    assert set(labels_of(given).values()) == set(THREE)
    with pytest.raises(ValueError, match="no such encoding"):
        params_of(tmp_path, encoding="cp9999")


def test_two_classes_are_told_how_to_go_on(tmp_path):
    write(tmp_path, "a_train.csv", ["negative", "positive"] * 20)
    assert "no gold text is neutral; " in message_of(params_of(tmp_path), examine_.FIRST)
    assert "sources=[local, sample]" in message_of(params_of(tmp_path))
    examine(params_of(tmp_path, sources=["local", "sample"]))


def test_what_no_further_row_can_tell_is_asked_at_once(tmp_path):
    write(tmp_path, "a_train.csv", ["0", "1", "2"])
    write(tmp_path, "b.csv", ["1", "2"] * 5)
    with pytest.raises(UserError, match="say which: "):
        examine(params_of(tmp_path), 4)


def test_only_the_first_rows_are_looked_at_before_a_run(tmp_path):
    write(tmp_path, "a_train.csv", [*THREE, *THREE, "bad"])
    assert "all rows" not in examine(params_of(tmp_path), 4)[1][0]
    assert "unknown label 'bad'" in message_of(params_of(tmp_path))
    write(tmp_path, "a_train.csv", [1, 2, 3, 3, 3, 5, 4])
    assert "to be decided when all rows are read" in examine(params_of(tmp_path), 4)[1][0]
    assert "labels are stars" in examine(params_of(tmp_path))[1][0]


def test_ten_points_may_begin_like_stars(tmp_path):
    """All labels of stars in the first rows settle nothing: not for files beside it, either."""
    write(tmp_path, "a_train.csv", [1, 2, 3, 4, 5, 8])
    write(tmp_path, "b_test.csv", [1, 5])
    for note in examine(params_of(tmp_path), 5)[1]:
        assert "to be decided when all rows are read" in note
    for note in examine(params_of(tmp_path))[1]:
        assert "labels are ten_point" in note
    write(tmp_path, "a_train.csv", [1, 2, 3, 4, 5, 5])
    assert all("be decided" in note for note in examine(params_of(tmp_path), 5)[1])
    for note in examine(params_of(tmp_path))[1]:
        assert "labels are stars" in note


@pytest.mark.parametrize("label", [{}, {"label": ""}])
def test_a_long_file_without_labels_leaves_nothing_open(tmp_path, label):
    write(tmp_path, "a_train.csv", [1, 2, 3, 4, 5])
    write(tmp_path, "b_test.csv", [1, 3, 4])
    pd.DataFrame([{"text": "да"} | label] * 9).to_csv(tmp_path / "c.csv", index=False)
    notes = examine(params_of(tmp_path), 6)[1]
    assert ["labels are stars" in note for note in notes] == [True, True, False]
    assert "no labels" in notes[2]
