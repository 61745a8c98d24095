import json

import pandas as pd
import pytest

from lib.data import counts
from lib.data.counts import FATES, LABEL_COLUMNS, count, fates_table, labels_table


def rows(source, labels, fates):
    frame = pd.DataFrame({"original_label": labels, "fate": fates})
    return frame.assign(source=source, role="gold", label="neutral", group="sample")


PARTS = [
    rows("a", ["1", "2"], ["kept as gold", "empty"]),
    rows("b", ["1"], ["kept in corpus"]),
    rows("a", ["2", None], ["kept as gold", "too short"]),
]


def test_counts_of_parts_add_up_and_survive_json():
    found = json.loads(json.dumps(count(PARTS)))
    assert found == count([pd.concat(PARTS)])
    table = fates_table(found)
    assert list(table) == ["read", "empty", "too short", "kept as gold", "kept in corpus"]
    assert table.loc["a"].tolist() == [4, 1, 1, 2, 0]
    assert table.loc["b"].tolist() == [1, 0, 0, 0, 1]
    labels = labels_table(found).set_index(["source", "original_label"])["texts"].to_dict()
    assert labels == {("a", ""): 1, ("a", "1"): 1, ("a", "2"): 2, ("b", "1"): 1}


def test_a_fate_that_is_not_in_the_list_is_an_error():
    with pytest.raises(ValueError, match="eaten"):
        fates_table(count([rows("a", ["1"], ["eaten"])]))
    assert len(set(FATES)) == len(FATES)


def test_labels_without_end_are_counted_as_others(monkeypatch):
    monkeypatch.setattr(counts, "MOST_LABELS", 3)
    found = labels_table(count([rows("a", [*"aab", *map(str, range(10))], "empty")]))
    assert list(found) == [*LABEL_COLUMNS, "texts"]
    table = found.set_index("original_label")["texts"]
    assert table.sum() == 13 and len(table) == 4
    assert table["a"] == 2 and table["(others)"] == 9
