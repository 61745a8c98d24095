import csv

import numpy as np
import pandas as pd
import pytest

from lib.spreadsheet import neutralise, restore, write_csv

FORMULAS = ["=1+1", "+7 900", "-5 баллов", "@имя", " =1", "\t=1", "\nтекст", "＝1", "=HYPERLINK(1)"]
HARMLESS = ["обычный текст", "a=b", "1-2", "'цитата'", "", "текст\n=1"]


@pytest.mark.parametrize("text", FORMULAS)
def test_formulas_are_neutralised_and_come_back(text):
    assert neutralise(pd.Series([text])).tolist() == ["'" + text]
    assert restore(neutralise(pd.Series([text]))).tolist() == [text]


@pytest.mark.parametrize("text", HARMLESS)
def test_other_texts_stay_as_they_are(text):
    assert neutralise(pd.Series([text])).tolist() == [text]
    assert restore(pd.Series([text])).tolist() == [text]


def test_frames_become_one_file(tmp_path):
    path = tmp_path / "файл.csv"
    first = pd.DataFrame(
        {"text": ['=1, "2"', "два\nтри"], "value": [-1.5, 2.0], "name": pd.Categorical(["-a", "b"])}
    )
    assert write_csv(path, [first, first[:0], first[1:]]) == 3
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["text", "value", "name"],
        ['\'=1, "2"', "-1.5", "'-a"],
        ["два\nтри", "2.0", "b"],
        ["два\nтри", "2.0", "b"],
    ]
    assert restore(pd.read_csv(path)["text"]).tolist() == [*first["text"], "два\nтри"]


def test_a_file_is_there_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("old", encoding="utf-8")

    def frames():
        yield pd.DataFrame({"text": ["a"]})
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_csv(path, frames())
    assert path.read_text(encoding="utf-8") == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.csv"]


def test_missing_values_stay_empty(tmp_path):
    path = tmp_path / "a.csv"
    write_csv(path, [pd.DataFrame({"text": ["a", np.nan], "label": [None, "=x"]})])
    assert path.read_text(encoding="utf-8-sig").splitlines() == ["text,label", "a,", ",'=x"]
