from unittest import mock

import numpy as np
import pytest

from lib.data import duplicates, staging
from lib.data.cleaning import normalise
from lib.errors import UserError
from made_up import distinct_texts, portion, portions, table, text_id


def stage(given, work):
    return staging.stage(given, work, seed=0)


def many(count, broken_after=None):
    """A portion of so many rows, which breaks after so many of them."""
    frame = table(distinct_texts(count, seed=count), source="c")

    def read():
        for number, row in enumerate(frame.itertuples(index=False, name=None)):
            if number == broken_after:
                raise UserError("the connection is gone")
            yield row

    return portion(read, "far")


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(staging, "CHUNK", 4)


def content(parts):
    return [path.read_bytes() for path in parts]


def test_parts_hold_cleaned_rows_signatures_and_counts(tmp_path):
    texts = ["  Всё&nbsp;хорошо\x00! ", "ок", "д" * 20_001, "\ud83d сломан"]
    frame = table(texts, "positive", "gold", "s")
    (part,) = stage(portions(frame), tmp_path)
    rows, signatures = staging.read_rows(part, "gold"), staging.read_signatures(part, "gold")
    assert list(rows.columns) == staging.COLUMNS
    assert rows["text"].tolist() == ["Всё хорошо !", "сломан"]
    assert rows["text_id"].tolist() == [text_id(text) for text in rows["text"]]
    assert rows["label"].tolist() == ["positive"] * 2
    assert rows["split"].isna().all()
    expected = duplicates.signatures([normalise(text) for text in rows["text"]], 0)
    assert np.array_equal(signatures, expected)
    assert staging.read_rows(part, "corpus").empty
    assert staging.read_signatures(part, "corpus").shape == (0, duplicates.VALUES)
    assert staging.read_fates(part)["fate"].tolist() == ["", "too short", "too long", ""]


def test_language_is_checked_where_a_source_is_not_russian_by_construction(tmp_path):
    texts = [
        "Сегодня мы ходили в новый ресторан, и всем очень понравилось",
        "We went to a new restaurant today and everybody liked it a lot",
    ]
    frame = table(texts, source="s")
    official = table(texts, "neutral", "gold", "s", split="test")
    for russian, kept in ((True, texts), (False, texts[:1])):
        work = tmp_path / str(russian)
        parts = stage(portions(frame, official, russian=russian), work)
        assert staging.read_rows(parts[0], "corpus")["text"].tolist() == kept
        assert staging.read_rows(parts[1], "gold")["text"].tolist() == texts
    assert staging.read_fates(parts[0])["fate"].tolist() == ["", "not Russian"]


@pytest.mark.parametrize("stop", [0, 4, 6, 8])
def test_what_broke_off_is_gone_on_with(tmp_path, stop):
    whole = stage([many(10)], tmp_path / "whole")
    work = tmp_path / "work"
    with pytest.raises(UserError, match="gone"):
        stage([many(10, stop)], work)
    before = {path: path.stat().st_mtime_ns for path in work.glob("*")}
    assert len(before) == stop // 4
    parts = stage([many(10)], work)
    assert content(parts) == content(whole)
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    with mock.patch.object(staging, "write_part") as write:
        assert stage([many(10)], work) == parts
    write.assert_not_called()


def test_what_a_killed_write_has_left_is_no_part(tmp_path):
    whole = stage([many(10)], tmp_path)
    whole[-1].rename(tmp_path / ".0000-000002-x8k1.parquet")
    (tmp_path / "0000.done").unlink()
    assert content(stage([many(10)], tmp_path)) == content(stage([many(10)], tmp_path / "other"))


def test_after_a_damaged_part_all_is_read_anew(tmp_path, capsys):
    whole = content(stage([many(10)], tmp_path / "whole"))
    (_, part, _) = stage([many(10)], tmp_path / "work")
    part.write_bytes(part.read_bytes()[:-9])
    assert content(stage([many(10)], tmp_path / "work")) == whole
    assert f"{part} is damaged" in capsys.readouterr().out


def test_a_part_without_a_usable_text(tmp_path):
    frame = table(["", "x", "скажи", "хорошо"], source="s")
    frame["role"] = ["corpus", "corpus", "unlabelled", "unlabelled"]
    frame["original_label"] = list("abcd")
    (part,) = stage(portions(frame), tmp_path)
    assert staging.read_rows(part, "corpus").empty
    found = staging.read_fates(part)
    assert found["fate"].tolist() == ["empty", "too short", "unlabelled", "unlabelled"]
    assert found["original_label"].tolist() == list("abcd")
