import json

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.data import counts as counts_module
from lib.data.counts import Counts


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.booleans()), min_size=1))
@settings(max_examples=40)
def test_drop_counts(rows):
    """Two drops in a row: every row is counted exactly once, under the first that takes it."""
    frame = pd.DataFrame(rows, columns=["source", "one", "two"])
    counts = Counts()
    counts.add("read", frame["source"])
    left = counts.drop(frame, frame["one"], "first")
    left = counts.drop(left, left["two"], "second")
    counts.add("kept", left["source"])
    found = counts.table()
    for source in set(frame["source"]):
        mine = [(one, two) for name, one, two in rows if name == source]
        expected = {
            "read": len(mine),
            "first": sum(one for one, _ in mine),
            "second": sum(two and not one for one, two in mine),
            "kept": sum(not one and not two for one, two in mine),
        }
        row = found.loc[source].to_dict()
        assert {name: row.get(name, 0) for name in expected} == expected


def labelled(source, labels):
    frame = pd.DataFrame({"original_label": labels})
    return frame.assign(source=source, role="gold", label="neutral", group="sample")


def test_counts_of_parts_add_up_and_survive_json():
    whole, parts = Counts(), Counts()
    for source, labels in (("a", ["1", "2"]), ("b", ["1"]), ("a", ["2", None])):
        frame, part = labelled(source, labels), Counts()
        for counts in (whole, part):
            counts.add("read", frame["source"])
            counts.add_labels(frame)
            counts.drop(frame, frame["original_label"] == "1", "one")
        parts.merge(Counts.from_json(json.loads(json.dumps(part.to_json()))))
    assert parts.to_json() == whole.to_json()
    assert parts.table().to_dict("index") == {
        "a": {"read": 4, "one": 1},
        "b": {"read": 1, "one": 1},
    }
    found = parts.labels().set_index(["source", "original_label"])["texts"].to_dict()
    assert found == {("a", ""): 1, ("a", "1"): 1, ("a", "2"): 2, ("b", "1"): 1}
    assert set(parts.labels()["group"]) == {"sample"}


def test_labels_without_end_are_counted_as_others(monkeypatch):
    monkeypatch.setattr(counts_module, "MOST_LABELS", 3)
    counts = Counts()
    counts.add_labels(labelled("a", [*"aab", *map(str, range(10))]))
    table = counts.labels().set_index("original_label")["texts"]
    assert table.sum() == 13 and len(table) == 4
    assert table["a"] == 2 and table["(others)"] == 9
