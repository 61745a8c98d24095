"""File formats: the same rows from each, and one clear message for each kind of damage."""

import gzip
import itertools
import json
import tracemalloc
import zipfile

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.data import encodings, readers
from lib.data.readers import Format
from lib.data.sources import SAMPLE_DIR
from lib.errors import UserError

FORMATS = (
    *("csv", "tsv", "jsonl", "json", "parquet", "xlsx", "csv.gz", "tsv.gz", "jsonl.gz"),
    *("csv.zip", "jsonl.zip", "json.gz"),
)


def write(folder, name, rows):
    """Rows (dicts) as a file in the format that its name says."""
    path = folder / name
    frame = pd.DataFrame(rows)
    kind = readers.extension(name)
    if kind == "parquet":
        frame.to_parquet(path)
    elif kind == "xlsx":
        frame.to_excel(path, index=False)
    elif kind in ("json", "jsonl"):
        frame.to_json(path, orient="records", lines=kind == "jsonl", force_ascii=False)
    else:
        frame.to_csv(path, sep=readers.DELIMITERS[kind], index=False)
    return path


def values(path, needed=("text", "label"), **options):
    return [tuple(row[name] for name in needed) for _, row in readers.read(path, needed, **options)]


def message_of(path, needed=("text", "label"), **options):
    with pytest.raises(UserError) as error:
        values(path, needed, **options)
    message = str(error.value)
    assert str(path) in message
    assert "\n" not in message
    return message


ROWS = [("Хорошо, но дорого", "positive"), ('две\nстроки\t"в кавычках"', ""), ("😀; да", "neutral")]


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_the_same_rows(tmp_path, kind):
    path = write(tmp_path, f"a.{kind}", [{"id": 1, "text": t, "label": n} for t, n in ROWS])
    assert values(path) == ROWS


@settings(max_examples=12)
@given(
    rows=st.lists(
        st.tuples(st.text(st.characters(codec="utf-8", exclude_characters="\r")), st.text("абв")),
        min_size=1,
        max_size=5,
    )
)
def test_any_text_survives_every_format(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("any")
    for kind in ("csv", "tsv.gz", "jsonl.gz", "parquet"):
        path = write(folder, f"a.{kind}", [{"text": f"x{t}", "label": n} for t, n in rows])
        assert values(path) == [(f"x{text}", label) for text, label in rows]


@pytest.mark.parametrize(
    ("name", "place"),
    [("a.csv", "line 4"), ("a.tsv.gz", "line 4"), ("a.jsonl", "line 2"), ("a.parquet", "row 2")],
)
def test_places_count_lines_and_rows(tmp_path, name, place):
    rows = [{"text": "две\nстроки", "label": ""}, {"text": "вторая", "label": ""}]
    path = write(tmp_path, name, rows)
    assert [found for found, _ in readers.read(path, ["text"])][1] == f"{path}, {place}"


def test_null_values_are_none(tmp_path):
    rows = [{"text": "да", "label": None}]
    for kind in ("jsonl", "parquet"):
        assert values(write(tmp_path, f"a.{kind}", rows)) == [("да", None)]


@pytest.mark.parametrize("kind", FORMATS)
def test_missing_column(tmp_path, kind):
    message = message_of(write(tmp_path, f"a.{kind}", [{"text": "да", "class": "нет"}]))
    assert "no column 'label'; expected text,label, found text,class" in message


def test_a_column_that_is_there_twice(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label,label\nда,positive,negative\n", encoding="utf-8")
    assert "two columns 'label'; expected text,label, found text,label,label" in message_of(path)


def test_optional_columns_are_read_and_others_need_not_be(tmp_path):
    path = write(tmp_path, "a.parquet", [{"text": "да", "source": "чат", "blob": "x" * 100}])
    ((_, row),) = readers.read(path, ["text"], optional=["source", "other"])
    assert row == {"text": "да", "source": "чат"}


# --- damage --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [0.02, 0.95])
def test_truncated_parquet(tmp_path, kept):
    path = write(tmp_path, "a.parquet", [{"text": f"текст {n}", "label": ""} for n in range(500)])
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    assert "not readable after row 0" in message_of(path)


def test_damage_inside_a_parquet_file_names_the_row(tmp_path):
    path = tmp_path / "a.parquet"
    frame = pd.DataFrame({"text": [f"текст {n} {n * n}" for n in range(4000)], "label": ""})
    frame.to_parquet(path, row_group_size=1000)
    content = bytearray(path.read_bytes())
    middle = len(content) * 6 // 10
    content[middle : middle + 2000] = b"\xff" * 2000
    path.write_bytes(content)
    message = message_of(path)
    assert "not readable after row " in message and "after row 0 " not in message


@pytest.mark.parametrize("kind", ["csv.gz", "jsonl.gz"])
def test_truncated_gzip(tmp_path, kind):
    rows = [{"text": f"текст {n} {n * n * 7919 % 10007}", "label": ""} for n in range(300)]
    path = write(tmp_path, f"a.{kind}", rows)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * 0.9)])
    assert "the file is truncated or damaged" in message_of(path)


def test_a_file_that_only_says_that_it_is_packed(tmp_path):
    path = tmp_path / "a.csv.gz"
    path.write_text("text,label\nда,\n", encoding="utf-8")
    assert "the file is truncated or damaged" in message_of(path)


@pytest.mark.parametrize("kind", ["csv.gz", "jsonl.gz"])
def test_bad_byte_in_a_packed_file_names_the_line(tmp_path, kind):
    path = write(tmp_path, f"a.{kind}", [{"text": "да", "label": ""}])
    good = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(good + "нет,\n".encode("cp1251")))
    expected = {"csv.gz": "line 3", "jsonl.gz": "line 2"}[kind]
    assert f"{expected}: not UTF-8 (byte 0xed)" in message_of(path)


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        ('{"text": "да", "label": ""}\n{"text": "нет", \n', "line 2: not readable as JSON"),
        ('\n\n["да", ""]\n', "line 3: expected an object"),
        ("[" * 100_000, "line 1: not readable as JSON"),
        ('{"text": "да", "label": ""}\n{"text": "нет"}\n', "line 2: no column 'label'"),
        ("\n", "has no rows"),
    ],
)
def test_bad_json_lines(tmp_path, content, fragment):
    path = tmp_path / "a.jsonl"
    path.write_text(content, encoding="utf-8")
    assert fragment in message_of(path)


@pytest.mark.parametrize("kind", ["json", "jsonl"])
def test_the_first_object_says_which_columns_there_are(tmp_path, kind):
    path = write(tmp_path, f"a.{kind}", [{"review": "да", "label": ""}])
    with pytest.raises(readers.MissingColumn) as error:
        values(path)
    assert (error.value.columns, error.value.found) == (["text"], ["review", "label"])
    path.write_text('{"text": "да", "label": ""}\n{"review": "да"}\n', encoding="utf-8")
    with pytest.raises(UserError, match="2: no column 'text' and no column 'label'") as error:
        values(path)
    assert not isinstance(error.value, readers.MissingColumn)


def test_empty_table(tmp_path):
    for kind in ("tsv", "parquet"):
        path = write(tmp_path, f"a.{kind}", {"text": [], "label": []})
        assert "no rows" in message_of(path)


# --- formats that are declared -------------------------------------------------------------------

TWEETS = Format("csv", ";", columns=("id", "text", "type", "count"))


def test_file_without_a_header(tmp_path):
    path = tmp_path / "positive.csv"
    path.write_text('"1";"да; ""нет""";"1";"0"\n"2";"две\nстроки";"1"\n', encoding="utf-8")
    assert values(path, ["text"], file_format=TWEETS) == [('да; "нет"',), ("две\nстроки",)]


def test_row_of_a_file_without_a_header_is_too_short(tmp_path):
    path = tmp_path / "positive.csv"
    path.write_text('"1";"да";"1"\n"2"\n', encoding="utf-8")
    message = message_of(path, ["text"], file_format=TWEETS)
    assert "line 2: 1 fields, expected 2 to 4 with ';' between them" in message


def test_stray_quotation_marks_stop_only_files_with_a_header(tmp_path):
    path = tmp_path / "positive.csv"
    path.write_text('id;text\n"1";"да "нет" да";"1"\n', encoding="utf-8")
    assert "not readable as CSV" in message_of(path, ["text"], file_format=Format("csv", ";"))
    (_, (text,)) = values(path, ["text"], file_format=TWEETS)
    assert text.replace('"', "") == "да нет да"


@pytest.mark.parametrize("name", ["corpus.ru", "corpus.ru.gz"])
def test_plain_lines(tmp_path, name):
    path = tmp_path / name
    content = '\ufeffПервая, "строка"\r\nвторая;\tда\n'.encode()
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    expected = [('Первая, "строка"',), ("вторая;\tда",)]
    assert values(path, ["text"], file_format=Format("lines")) == expected


# --- files as people have them -------------------------------------------------------------------

REVIEW = "text;label\nОчень доволен, спасибо;positive\n«Плохо» – №1, ёлки;negative\n"
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", *encodings.ENCODINGS)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_encoding_and_delimiter_are_detected(tmp_path, encoding, ends):
    text = REVIEW.replace("–", "-").replace("«", '""').replace("»", '""')
    text = text.replace('""Плохо""', '"""Плохо""').replace("ёлки;", 'ёлки";')
    if encoding in ("koi8-r", "cp866"):
        text = text.replace("№", "N")
    path = tmp_path / "a.csv"
    path.write_bytes(text.replace("\n", ends).encode(encoding))
    found = readers.detect(path, ["text"])
    assert found.delimiter == ";" and found.encoding in (encoding, "utf-16", "utf-8")
    assert values(path)[0] == ("Очень доволен, спасибо", "positive")
    assert values(path)[1][0].startswith('"Плохо" -') and values(path)[1][0].endswith("1, ёлки")


@pytest.mark.parametrize("encoding", encodings.ENCODINGS)
@pytest.mark.parametrize("form", ["{text}", "{sign} {text}", "{text} 100{sign}", "{text} 5 {sign}"])
def test_the_encoding_of_short_files(tmp_path, encoding, form):
    """Of one line each; a capital letter of a Macintosh may be wrong, or its sign."""
    lines = (SAMPLE_DIR / "corpus.csv").read_text("utf-8").splitlines()[1:401:4]
    right = 0
    for line, sign in zip(lines, itertools.cycle(encodings.SIGNS), strict=False):
        text = form.format(text=line.split(",")[0].strip('"')[:40], sign=sign)
        path = tmp_path / "a.csv"
        given = f"text\n{text}\n".encode(encoding, errors="ignore")
        path.write_bytes(given)
        found = readers.detect(path, ["text"]).encoding
        right += given.decode(found, "replace") == given.decode(encoding)
    assert right >= (90 if encoding == "mac-cyrillic" else 98)


@pytest.mark.parametrize(
    "text",
    [
        *("цена 100€, дорого", "• не дорого\n• удобно", "хорошо, но 5 € за кг"),
        *("дом 12А, кв 3", "Телевизор 4К, 120ГЦ, 2ГБ", "размер 46Х48, 50Х52"),
    ],
)
def test_signs_are_no_letters_of_a_macintosh(tmp_path, text):
    path = tmp_path / "a.csv"
    path.write_bytes(f"text\n{text}\n".encode("cp1251"))
    assert [found for (found,) in values(path, ["text"])] == text.splitlines()


def test_utf_8_with_a_cut_letter_is_utf_8(tmp_path):
    path = tmp_path / "a.csv"
    lines = "text,label\n😀😀😀 супер,positive\n👍👍👍🔥🔥 класс,positive\n⭐⭐⭐⭐⭐,positive\n"
    path.write_bytes(lines.encode() + "не\n".encode()[:-2] + b",negative\n")
    assert "line 5: not UTF-8 (byte 0xd0)" in message_of(path)
    path.write_bytes("text,label\n«5°» – 7€ ☺❤️,\n".encode() + b"\xd0,\n")
    assert "line 3: not UTF-8 (byte 0xd0)" in message_of(path)


@pytest.mark.parametrize("encoding", encodings.ENCODINGS)
def test_lines_of_utf_8_in_another_encoding_are_named(tmp_path, encoding):
    short = ["так", "раз", "уже", "Её", "её", "всё", "том", "2020", "Да"]  # UTF-8 by chance
    if encoding == "cp1251":
        short[-4:] = ["У…", "С…", "конец В»", "25 В°"]
    good = "\n".join(["text", "Добрый день, всё понравилось, спасибо", *short, ""]).encode(encoding)
    path = tmp_path / "a.tsv"
    path.write_bytes(good)
    form = Format(encoding=encoding)
    assert len(values(path, ["text"], file_format=form)) == 10
    for bad in ("Плохо", "Иное 😀"):
        path.write_bytes(good + f"{bad}\n".encode())
        assert f"line 12: UTF-8 in a file of {encoding.upper()} ('{bad}')" in message_of(
            path, ["text"], file_format=form
        )
    path.write_bytes("text\nПлохо\n".encode())
    for name in ("utf8", "U8", "cp65001"):
        assert values(path, ["text"], file_format=Format(encoding=name)) == [("Плохо",)]


def test_a_long_beginning_without_cyrillic(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"text,label\n" + b"ok,\n" * 100_000 + "да нет\t;,\n".encode("cp1251"))
    assert values(path)[-1] == ("да нет\t;", "")


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_needed_column_decides_on_the_delimiter(tmp_path, delimiter):
    path = tmp_path / "a.csv"
    pd.DataFrame({"a,b;c|d\te": [1], "text": ["да"]}).to_csv(path, sep=delimiter, index=False)
    assert values(path, ["text"]) == [("да",)]
    path.write_text("text\nда\n", encoding="utf-8")
    assert values(path, ["text"]) == [("да",)]


def test_set_by_hand(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("text^label\nда^x\n".encode("cp1251"))
    form = Format(delimiter="^", encoding="cp1251")
    assert values(path, file_format=form) == [("да", "x")]
    message = message_of(path, file_format=Format(delimiter="^", encoding="utf-8"))
    assert "line 2: not UTF-8 (byte 0xe4)" in message


def test_a_byte_that_the_encoding_does_not_have_is_named_with_its_line(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("text\nдобрый день\nпло".encode("cp1251") + b"\x98\n")
    assert "line 3: not CP1251 (byte 0x98)" in message_of(path, ["text"])


def test_one_row_that_is_broken_does_not_take_others_with_it(tmp_path):
    path = tmp_path / "a.csv"
    lines = ["text,label", "да,", '"нет,', '"кавычки" внутри,', "а,б,в", '"две', 'строки",', "ещё,"]
    path.write_text("\n".join(lines), encoding="utf-8")
    found = [(row.place[-6:], row.problem is None) for row in readers.rows(path, ["text"])]
    broken = [f"line {n}" for n in (3, 4, 5)]
    assert found == [
        *[("line 2", True), *((place, False) for place in broken)],
        *[("line 6", True), ("line 8", True)],
    ]


@pytest.mark.parametrize(("name", "written"), [("a.csv", ","), ("a.tsv", "\t")])
def test_a_line_of_a_single_column_is_its_text(tmp_path, name, written):
    path = tmp_path / name
    texts = ["Хорошо, но\tдорого", ",\t", 'как "там", а\tтут', "да"]
    path.write_text("\n".join(["text", *texts, "", f'"в{written} кавычках"', ""]), encoding="utf-8")
    assert values(path, ["text"]) == [*((text,) for text in texts), (f"в{written} кавычках",)]
    path.write_text(f'text\n"да"{written} нет\n', encoding="utf-8")  # or two fields
    assert "line 2: 2 fields, expected 1" in message_of(path, ["text"])


def test_odd_tables(tmp_path):
    frame = pd.DataFrame({"text": ["с нулём \0.", "ш" * 1_000_000], "label": ["", "x"]})
    frame[[f"c{n}" for n in range(40)]] = 7
    frame.to_csv(tmp_path / "a.csv", sep=";")  # with an index, whose column has no name
    assert values(tmp_path / "a.csv") == [("с нулём \0.", ""), ("ш" * 1_000_000, "x")]


def test_json_array_in_pieces(tmp_path, monkeypatch):
    rows = [{"text": f'[текст], {{{n}}} "', "label": n} for n in range(50)]
    path = tmp_path / "a.json"
    for size in (1, 7, 10_000):
        monkeypatch.setattr(readers, "BLOCK", size)
        for indent in (None, 2):
            path.write_text(f" {json.dumps(rows, indent=indent)}\n", encoding="utf-8")
            assert values(path) == [(row["text"], row["label"]) for row in rows]
    path.write_text(f"{json.dumps(rows)[:-5]}", encoding="utf-8")
    assert "row 50: not readable as JSON" in message_of(path)
    path.write_text('[{"text": "да", "label": ""}, 5]', encoding="utf-8")
    assert "row 2: expected an object" in message_of(path)
    two = '[{"text": "да", "label": ""}]' + " " * 20_000
    path.write_text(two, encoding="utf-8")
    assert values(path) == [("да", "")]
    path.write_text(two * 2, encoding="utf-8")
    assert "a.json, row 2: the array ends before it, but the file goes on" in message_of(path)
    path.write_text('{"text": "да", "label": ""}\n' * 2, encoding="utf-8")  # they are common, too
    assert values(path) == [("да", "")] * 2


def test_sheets(tmp_path):
    path = tmp_path / "a.xlsx"
    with pd.ExcelWriter(path) as book:
        pd.DataFrame({"x": [1]}).to_excel(book, sheet_name="Итоги")
        frame = pd.DataFrame({"text": ["да", None, "нет"], "label": [5, 1.0, None]})
        frame.to_excel(book, sheet_name="Лист 2", startrow=2)
    assert "no column 'text'" in message_of(path)
    sheet = tmp_path / "a.xlsx:Лист 2"
    assert values(sheet) == [("да", "5"), ("", "1"), ("нет", "")]
    assert next(place for place, _ in readers.read(sheet, ["text"])) == f"{sheet}, row 4"
    message = message_of(tmp_path / "a.xlsx:Лист 3")
    assert "no sheet 'Лист 3'; the nearest valid name is 'Лист 2', all sheets: Итоги, " in message
    (tmp_path / "b.xlsx").write_bytes(path.read_bytes()[:3000])
    assert "not readable as a spreadsheet" in message_of(tmp_path / "b.xlsx")


def test_merged_cells(tmp_path):
    path = tmp_path / "a.xlsx"
    frame = pd.DataFrame({"text": ["да", "нет", "ну"], "label": [1, None, 2], "note": ""})

    def save(*ranges):
        with pd.ExcelWriter(path) as book:
            frame.to_excel(book, index=False, startrow=1, sheet_name="Лист")
            for cells in ranges:
                book.sheets["Лист"].merge_cells(cells)

    save("C3:C5", "A1:B1", "B5:C5")  # a note, a title, across
    assert len(values(path)) == 3
    save("C3:C5", "B3:B4")
    assert "cells B3:B4 of column 'label' are merged, so that only row 3" in message_of(path)
    assert len(values(path, ["text"])) == 3
    for sheet in (path, tmp_path / "a.xlsx:Лист"):
        message = message_of(sheet, ["text"], optional=["source", "label"])
        assert "unmerge them and fill every row" in message


def test_escapes_of_spreadsheets(tmp_path):
    texts = ["да_x000D_\nнет_x0007_", "_x005F_x000D_ _x005f_x", "_xD83D_ x_x12_ _xyz", "1.0"]
    plain = ["да\r\nнет\a", "_x000D_ _x", "_xD83D_ x_x12_ _xyz", "1.0"]
    path = write(tmp_path, "a.xlsx", [{"text": text} for text in texts])
    assert values(path, ["text"]) == [(text,) for text in plain]


def test_a_zip_file_has_one_file(tmp_path):
    path = tmp_path / "a.csv.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__MACOSX/._x.csv", b"\0")
        archive.writestr("folder/x.csv", "text;label\nда;".encode("cp1251"))
    assert values(path) == [("да", "")]
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("y.csv", "")
    assert "holds 2 files, expected one" in message_of(path)
    path.write_bytes(path.read_bytes()[:-30])
    assert "truncated or damaged" in message_of(path)


# --- names and memory ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "extension", "stem", "readable"),
    [
        ("a.csv", "csv", "a", True),
        ("a.b.JSONL", "jsonl", "a.b", True),
        ("a.tsv.gz", "tsv", "a", True),
        ("a.parquet", "parquet", "a", True),
        ("a.parquet.gz", "parquet", "a", False),
        ("a.xlsx", "xlsx", "a", True),
        ("a.b.xlsx:Лист 1", "xlsx", "a.b:Лист 1", True),
        ("a.xlsx.zip", "xlsx", "a", False),
        ("sub/a.csv.ZIP", "csv", "sub/a", True),
        ("a.docx", "docx", "a", False),
        ("csv", "", "csv", False),
        ("a.gz", "", "a", False),
    ],
)
def test_file_names(name, extension, stem, readable):
    assert readers.extension(name) == extension
    assert readers.stem(name) == stem
    assert readers.is_readable(name) == readable


def test_an_array_in_one_line_is_not_read_whole(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("[" + '{"text": "да", "label": ""},' * 100_000, encoding="utf-8")
    tracemalloc.start()
    assert next(readers.read(path, ["text"]))[1]["text"] == "да"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < path.stat().st_size / 2


@pytest.mark.parametrize("kind", ["csv", "jsonl.gz"])
def test_rows_come_before_the_file_is_read_whole(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    line = '{"text": "да", "label": ""}\n' if "jsonl" in kind else "да,\n"
    head = "" if "jsonl" in kind else "text,label\n"
    content = (head + line * 100_000).encode() + b"\xff\n"
    path.write_bytes(gzip.compress(content, 1) if kind.endswith("gz") else content)
    rows = readers.read(path, ["text", "label"])
    assert len(list(itertools.islice(rows, 10))) == 10
    with pytest.raises(UserError, match="not UTF-8"):
        list(rows)
