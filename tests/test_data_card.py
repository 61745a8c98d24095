import re

import pandas as pd

from lib import data_card
from lib.corpus import Prepared
from lib.counts import Counts
from lib.schema import GoldDataParams
from made_up import small_world, table

HOSTILE = "<img src=x onerror=alert(1)>|`*_[x](y)_*`\n# x"


def card_of(counts, unavailable=None, gold=None, agreement=()):
    if gold is None:
        gold = pd.DataFrame({"source": ["g", "g"], "split": ["train", "test"]})
    prepared = Prepared(counts, unavailable or {})
    return data_card.data_card(prepared, gold, list(agreement), GoldDataParams())


def counts_of(*frames):
    counts = Counts()
    for frame in frames:
        counts.add_read(frame.assign(group="sample"))
    return counts


def test_the_card_tells_what_was_read_dropped_and_kept():
    gold, other = small_world(per_class=2, corpus_texts=5)
    counts = counts_of(gold, other)
    counts.add("twin of a gold text", other["source"][:2])
    counts.add("kept as gold", gold["source"])
    counts.add("kept in corpus", other["source"][2:])
    card = card_of(counts)
    assert "11 texts read from 2 sources; 2 dropped; 6 kept as gold and 3 in the corpus" in card
    assert "2 of the dropped texts repeat a gold text" in card
    lines = card.splitlines()
    assert "| source | read | twin of a gold text | kept as gold | kept in corpus |" in lines
    assert "| c | 5 | 2 | 0 | 3 |" in lines
    assert "| all | 11 | 2 | 6 | 3 |" in lines
    assert "licence: MIT" in card and "Not available" not in card


def test_the_card_tells_how_far_two_labels_of_one_text_agree():
    counts = counts_of(small_world(per_class=2, corpus_texts=5)[0])
    assert "labelled twice" not in card_of(counts)
    row = {"name": "macro_f1", "model": "another label", "dataset": "gold", "split": "twice"}
    row |= {"texts": 1234, "value": 0.8125, "low": 0.7, "high": 0.9}
    card = card_of(counts, agreement=[row, row | {"name": "accuracy", "value": 0.5}])
    assert "## Gold texts labelled twice" in card
    assert "| twice | 1,234 | 0.812 | 0.700 … 0.900 |" in card.splitlines()
    assert "0.500" not in card


def test_the_card_shows_how_labels_map():
    frame = table(["а", "б", "в"], ["positive", None, None], source="s")
    frame["original_label"] = ["5", "speech", "speech"]
    lines = card_of(counts_of(frame)).splitlines()
    assert "| corpus | speech | — | 2 |" in lines
    assert "| corpus | 5 | positive | 1 |" in lines


def test_nothing_from_data_is_markup():
    frame = table(["а"], source=HOSTILE)
    frame["original_label"] = HOSTILE
    card = card_of(counts_of(frame), {"far": HOSTILE})
    assert "<img" not in card and "[x](y)" not in card and "\n# x" not in card
    assert r"\[x\](y)" in card
    tables = [line for line in card.splitlines() if line.startswith("|")]
    (row,) = [line for line in tables if "onerror" in line and "corpus" in line]
    assert len(re.findall(r"(?<!\\)\|", row)) == 5  # the bar of the label is not a cell's border
    assert "**far**: &lt;img" in card


def test_many_sources_and_labels_are_cut():
    names = [f"s{number}" for number in range(100)]
    frame = pd.concat([table(["а"], source=name) for name in names])
    many = table(["а"] * 50, source="labels")
    many["original_label"] = [str(number) for number in range(50)]
    card = card_of(counts_of(many, frame))
    assert f"| {101 - data_card.MOST_SOURCES} more sources | " in card
    assert "30 rarer labels are not shown" in card
