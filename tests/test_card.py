import re

import pandas as pd

from lib.data import card
from lib.data.counts import count
from lib.parameters import GoldDataParams
from made_up import table

HOSTILE = "<img src=x onerror=alert(1)>|`*_[x](y)_*`\n# x $y$"


def rows(source, fate, texts=1, labels="", group="sample", **columns):
    """Source rows with what became of them."""
    frame = table(["а"] * texts, source=source, group=group, **columns)
    return frame.assign(original_label=labels, fate=fate)


def card_of(*frames, contents=()):
    """The card of these rows and of one text in gold and one in the corpus."""
    kept = [rows("g", "kept as gold", role="gold"), rows("g", "kept in corpus")]
    gold = pd.DataFrame({"source": ["g", "g"], "split": ["train", "test"]})
    prepared = {
        "counts": count([*kept, *frames]),
        "contents": dict(contents),
        "notes": ["<b>.csv: *"],
    }
    return card.data_card(prepared, gold, GoldDataParams())


def test_the_card_tells_what_was_read_dropped_and_kept():
    text = card_of(
        rows("c", "twin of a gold text", 2),
        rows("c", "empty"),
        rows("c", "kept in corpus", 2),
        rows("g", "kept as gold", 5, role="gold"),
    )
    assert "12 texts read from 2 sources; 3 dropped; 6 kept as gold and 3 in the corpus" in text
    assert "2 of the dropped texts repeat a gold text" in text
    lines = text.splitlines()
    assert (
        "| source | read | empty | twin of a gold text | kept as gold | kept in corpus |" in lines
    )
    assert "| c | 5 | 1 | 2 | 0 | 2 |" in lines
    assert "| all | 12 | 1 | 2 | 6 | 3 |" in lines
    assert "| g | 1 | 1 |" in lines
    assert "licence: MIT" in text


def test_the_card_shows_labels_and_the_commit_that_was_read():
    labels = ["5", "speech", "speech"]
    label = pd.Series(["positive", None, None], dtype=object)
    frame = rows("s", "kept in corpus", 3, labels, "clapai_multilingual", label=label)
    text = card_of(frame, contents={"clapai_multilingual": "clapAI/X@123"})
    assert "| corpus | speech | — | 2 |" in text.splitlines()
    assert "| corpus | 5 | positive | 1 |" in text.splitlines()
    assert "- registered as `clapai\\_multilingual`: clapAI/X@123" in text


def test_a_file_that_names_another_data_set_as_its_source_does_not_take_its_licence():
    text = card_of(
        rows("rusentiment", "kept in corpus", group="local"),
        rows("rusentiment", "kept in corpus", group="rusentiment"),
    )
    assert "licence: your own" in text and "licence: CC BY-NC-SA 4.0" in text


def test_nothing_from_data_is_markup():
    text = card_of(rows(HOSTILE, "kept in corpus", labels=HOSTILE))
    assert "<img" not in text and "[x](y)" not in text and "\n# x" not in text
    assert r"\[x\](y)" in text and not re.search(r"(?<!\\)\$", text)
    tables = [line for line in text.splitlines() if line.startswith("|")]
    (row,) = [line for line in tables if "onerror" in line and "corpus" in line]
    assert len(re.findall(r"(?<!\\)\|", row)) == 5  # the bar of the label is not a cell's border


def test_many_sources_and_labels_are_cut():
    frames = [rows(f"s{number:03d}", "kept in corpus") for number in range(100)]
    many = rows("a", "kept in corpus", 50, [str(number) for number in range(50)])
    text = card_of(many, *frames)
    assert f"| {102 - card.MOST_SOURCES} more sources | {102 - card.MOST_SOURCES} |" in text
    assert "| 30 rarer labels |" in text
    assert text.count("licence: MIT") == card.MOST_SOURCES
