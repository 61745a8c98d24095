import dataclasses

import numpy as np
import pytest

from lib import duplicates, staging
from lib.cleaning import clean, normalise, text_id
from lib.errors import SourceUnavailable
from lib.registry import REGISTRY
from lib.sources import Portion
from made_up import distinct_texts, portions, table


def stage(given, work, skip_unavailable=False):
    """Parts, unavailable sources, and the rows of each part as reported."""
    reported = []
    parts, unavailable = staging.stage(
        given,
        work,
        seed=0,
        min_characters=3,
        max_characters=100,
        skip_unavailable=skip_unavailable,
        on_part=reported.append,
    )
    return parts, unavailable, reported


def many(sizes, broken_after=None, error=SourceUnavailable):
    """A portion of frames of these sizes, which breaks after so many of them."""
    frames = [table(distinct_texts(size, seed=size), source="c") for size in sizes]

    def read():
        for number, frame in enumerate(frames):
            if number == broken_after:
                raise error("the connection is gone")
            yield frame

    return Portion("many", dataclasses.replace(REGISTRY["sample"], name="far"), read)


def content(parts):
    return [path.read_bytes() for path in parts]


def test_parts_hold_cleaned_rows_signatures_and_counts(tmp_path):
    texts = ["  Всё&nbsp;хорошо\x00! ", "ок", "д" * 101, "\ud83d сломан"]
    frame = table(texts, "positive", "gold", "s")
    (part,), _, reported = stage(portions(frame), tmp_path)
    rows, signatures = staging.read_part(part, "gold")
    assert rows["text"].tolist() == ["Всё хорошо !", "сломан"]
    assert rows["text_id"].tolist() == [text_id(text) for text in rows["text"]]
    assert rows["label"].tolist() == ["positive"] * 2
    assert rows["split"].isna().all()
    expected = duplicates.signatures([normalise(text) for text in rows["text"]], 0)
    assert np.array_equal(signatures, expected)
    assert staging.read_part(part, "corpus")[0].empty
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
        assert staging.read_part(parts[0], "corpus")[0]["text"].tolist() == kept
        assert staging.read_part(parts[1], "gold")[0]["text"].tolist() == texts
    assert staging.read_counts(parts[0]).table().loc["s", "not Russian"] == 1


@pytest.mark.parametrize("stop", [0, 1, 2])
def test_what_broke_off_is_gone_on_with(tmp_path, stop):
    whole, _, _ = stage([many([3, 4, 5])], tmp_path / "whole")
    work = tmp_path / "work"
    with pytest.raises(SourceUnavailable):
        stage([many([3, 4, 5], stop)], work)
    before = {path: path.stat().st_mtime_ns for path in work.glob("*")}
    parts, _, reported = stage([many([3, 4, 5])], work)
    assert reported == [3, 4, 5][stop:]
    assert content(parts) == content(whole)
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert stage([many([3, 4, 5])], work)[2] == []


def test_unavailable_sources_are_skipped_only_if_asked_for(tmp_path):
    good = portions(table(distinct_texts(2), source="c"))
    with pytest.raises(SourceUnavailable, match="connection"):
        stage([many([3], 0), *good], tmp_path / "stop")
    parts, unavailable, _ = stage([many([3], 0), *good], tmp_path / "go", True)
    assert unavailable == {"far": "the connection is gone"}
    assert [staging.read_part(part, "corpus")[0]["source"].iloc[0] for part in parts] == ["c"]


def test_a_source_that_breaks_half_way_stops_the_run_in_any_case(tmp_path):
    """Half a data set is not an unavailable one."""
    with pytest.raises(SourceUnavailable):
        stage([many([3, 4], 1)], tmp_path, True)


def test_bad_input_is_not_unavailability(tmp_path):
    from lib.errors import UserError

    with pytest.raises(UserError, match="gone"):
        stage([many([3], 0, UserError)], tmp_path, True)


def test_a_frame_without_a_usable_text_still_makes_a_part(tmp_path):
    (part,), _, _ = stage(portions(table(["", "x"], source="s")), tmp_path)
    rows, signatures = staging.read_part(part, "corpus")
    assert list(rows.columns) == staging.COLUMNS
    assert (len(rows), signatures.shape) == (0, (0, duplicates.VALUES))


def test_rows_that_the_reader_left_out_are_counted(tmp_path):
    frame = table(distinct_texts(2), source="s")
    frame.attrs["left_out"] = {"s": {"no label": 3}, "t": {"empty text": 1}}
    (part,), _, _ = stage(portions(frame), tmp_path)
    counts = staging.read_counts(part).table().to_dict("index")
    assert counts["s"] == {"read": 5, "no label": 3, "empty text": 0}
    assert counts["t"] == {"read": 1, "no label": 0, "empty text": 1}


def test_rows_survive_writing(tmp_path):
    frame = table([clean(t) for t in ("раз 😀", "два <b>")], [None, "neutral"], source="с|1")
    frame["text_id"] = [text_id(text) for text in frame["text"]]
    signatures = duplicates.signatures(frame["text"].tolist(), 1)
    staging.write_part(tmp_path / "p.parquet", frame, signatures, staging.Counts())
    rows, again = staging.read_part(tmp_path / "p.parquet", "corpus")
    expected = frame[staging.COLUMNS].fillna("—")
    assert rows.fillna("—").to_dict("list") == expected.to_dict("list")
    assert np.array_equal(again, signatures)
