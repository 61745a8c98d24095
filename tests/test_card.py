import re

import pandas as pd

from lib.data import card
from lib.data.counts import Counts
from lib.parameters import GoldDataParams
from made_up import small_world, table

HOSTILE = "<img src=x onerror=alert(1)>|`*_[x](y)_*`\n# x $y$"


def card_of(counts, unavailable=(), contents=()):
    for reason in ("kept as gold", "kept in corpus"):
        counts.add(reason, pd.Series(["g"]))
    gold = pd.DataFrame({"source": ["g", "g"], "split": ["train", "test"]})
    prepared = {"counts": counts.to_json(), "unavailable": dict(unavailable)}
    return card.data_card(prepared | {"contents": dict(contents)}, gold, GoldDataParams())


def counts_of(*frames, group="sample"):
    counts = Counts()
    for frame in frames:
        counts.add("read", frame["source"])
        counts.add_labels(frame.assign(group=group))
    return counts


def test_the_card_tells_what_was_read_dropped_and_kept():
    gold, other = small_world(per_class=2, corpus_texts=5)
    counts = counts_of(gold, other)
    counts.add("twin of a gold text", other["source"][:2])
    counts.add("kept as gold", gold["source"][1:])
    counts.add("kept in corpus", other["source"][3:])
    text = card_of(counts)
    assert "11 texts read from 2 sources; 2 dropped; 6 kept as gold and 3 in the corpus" in text
    assert "2 of the dropped texts repeat a gold text" in text
    lines = text.splitlines()
    assert "| source | read | twin of a gold text | kept as gold | kept in corpus |" in lines
    assert "| c | 5 | 2 | 0 | 2 |" in lines
    assert "| all | 11 | 2 | 6 | 3 |" in lines
    assert "| g | 1 | 1 |" in lines
    assert "licence: MIT" in text and "Not available" not in text


def test_the_card_shows_labels_and_the_commit_that_was_read():
    frame = table(["а", "б", "в"], ["positive", None, None], source="s")
    frame["original_label"] = ["5", "speech", "speech"]
    counts = counts_of(frame, group="clapai_multilingual")
    text = card_of(counts, contents={"clapai_multilingual": "clapAI/X@123"})
    assert "| corpus | speech | — | 2 |" in text.splitlines()
    assert "| corpus | 5 | positive | 1 |" in text.splitlines()
    assert "- registered as `clapai\\_multilingual`: clapAI/X@123" in text


def test_nothing_from_data_is_markup():
    frame = table(["а"], source=HOSTILE)
    frame["original_label"] = HOSTILE
    text = card_of(counts_of(frame), {"far": HOSTILE})
    assert "<img" not in text and "[x](y)" not in text and "\n# x" not in text
    assert r"\[x\](y)" in text and not re.search(r"(?<!\\)\$", text)
    tables = [line for line in text.splitlines() if line.startswith("|")]
    (row,) = [line for line in tables if "onerror" in line and "corpus" in line]
    assert len(re.findall(r"(?<!\\)\|", row)) == 5  # the bar of the label is not a cell's border
    assert "**far**: &lt;img" in text


def test_many_sources_and_labels_are_cut():
    names = [f"s{number}" for number in range(100)]
    frame = pd.concat([table(["а"], source=name) for name in names])
    many = table(["а"] * 50, source="labels")
    many["original_label"] = [str(number) for number in range(50)]
    text = card_of(counts_of(many, frame))
    assert f"| {102 - card.MOST_SOURCES} more sources | {101 - card.MOST_SOURCES} |" in text
    assert "| 30 rarer labels |" in text
    assert text.count("licence: MIT") == card.MOST_SOURCES
