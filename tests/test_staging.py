import numpy as np
import pytest

from lib.data import duplicates, staging
from lib.data.cleaning import normalise
from lib.errors import SourceUnavailable, UserError
from made_up import distinct_texts, portion, portions, table, text_id


def stage(given, work, skip_unavailable=False):
    """Parts, unavailable sources, and the rows of each part as reported."""
    reported = []
    parts, unavailable = staging.stage(
        given, work, seed=0, skip_unavailable=skip_unavailable, on_part=reported.append
    )
    return parts, unavailable, reported


def many(count, broken_after=None, error=SourceUnavailable):
    """A portion of so many rows, which breaks after so many of them."""
    frame = table(distinct_texts(count, seed=count), source="c")

    def read():
        for number, row in enumerate(frame.itertuples(index=False, name=None)):
            if number == broken_after:
                raise error("the connection is gone")
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
    (part,), _, reported = stage(portions(frame), tmp_path)
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
    counts = staging.read_counts(part).table().loc["s"].to_dict()
    assert counts == {"read": 4, "too short": 1, "too long": 1}
    assert reported == [4]


def test_language_is_checked_where_a_source_is_not_russian_by_construction(tmp_path):
    texts = [
        "Сегодня мы ходили в новый ресторан, и всем очень понравилось",
        "We went to a new restaurant today and everybody liked it a lot",
    ]
    frame = table(texts, source="s")
    official = table(texts, "neutral", "gold", "s", split="test")
    for russian, kept in ((True, texts), (False, texts[:1])):
        work = tmp_path / str(russian)
        parts, _, _ = stage(portions(frame, official, russian=russian), work)
        assert staging.read_rows(parts[0], "corpus")["text"].tolist() == kept
        assert staging.read_rows(parts[1], "gold")["text"].tolist() == texts
    assert staging.read_counts(parts[0]).table().loc["s", "not Russian"] == 1


@pytest.mark.parametrize("stop", [0, 4, 6, 8])
def test_what_broke_off_is_gone_on_with(tmp_path, stop):
    whole, _, _ = stage([many(10)], tmp_path / "whole")
    work = tmp_path / "work"
    with pytest.raises(SourceUnavailable):
        stage([many(10, stop)], work)
    before = {path: path.stat().st_mtime_ns for path in work.glob("*")}
    parts, _, reported = stage([many(10)], work)
    assert reported == [4, 4, 2][stop // 4 :]
    assert content(parts) == content(whole)
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert stage([many(10)], work)[2] == []


def test_unavailable_sources_are_skipped_only_if_asked_for(tmp_path):
    good = portions(table(distinct_texts(2), source="c"))
    with pytest.raises(SourceUnavailable, match="connection"):
        stage([many(3, 0), *good], tmp_path / "stop")
    parts, unavailable, _ = stage([many(3, 0), *good], tmp_path / "go", True)
    assert unavailable == {"far": "the connection is gone"}
    assert [staging.read_rows(part, "corpus")["source"].iloc[0] for part in parts] == ["c"]
    with pytest.raises(SourceUnavailable):  # half a data set is not an unavailable one
        stage([many(9, 5)], tmp_path / "half", True)
    with pytest.raises(UserError, match="gone"):  # nor is bad input
        stage([many(3, 0, UserError)], tmp_path / "bad", True)


def test_a_part_without_a_usable_text_and_rows_that_were_left_out(tmp_path):
    frame = table(["", "x", None, "хорошо"], source="s")
    frame["left_out"] = [None, None, "other language", "unlabelled"]
    frame["original_label"] = list("abcd")
    (part,), _, _ = stage(portions(frame), tmp_path)
    assert staging.read_rows(part, "corpus").empty
    counts = staging.read_counts(part)
    assert counts.table().loc["s"].to_dict() == {
        **{"read": 4, "other language": 1, "unlabelled": 1, "empty": 1, "too short": 1}
    }
    assert counts.labels()["original_label"].tolist() == ["a", "b"]
