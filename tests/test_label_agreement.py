"""Labels of texts that gold has twice: which are pairs, and how they are scored."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from lib import LABELS, corpus, label_agreement, tables
from lib.cleaning import text_id
from lib.schema import GoldDataParams
from made_up import CLASSES, portions, small_world, table

FORMS = ["скучаю", "Скучаю", "скучаю!", "СКУЧАЮ...", "ждём", "ждем", "Ждём)", "дом"]


def rows(given_rows):
    frame = pd.DataFrame(given_rows, columns=["text", "label", "group"], dtype=object)
    return frame.assign(source="s", text_id=[text_id(text) for text in frame["text"]])


@given(
    st.lists(
        st.tuples(st.sampled_from(FORMS), st.sampled_from(CLASSES), st.sampled_from("ab")),
        max_size=30,
    )
)
def test_one_pair_for_each_text_that_a_source_has_in_two_forms(given_rows):
    frame = rows(given_rows)
    pairs = label_agreement.labelled_twice(frame)
    assert list(pairs.columns) == tables.TWICE_COLUMNS
    forms = frame.groupby(["group", "text_id"])["text"].nunique()
    assert sorted(pairs["text_id"]) == sorted(forms[forms > 1].index.get_level_values("text_id"))
    assert (pairs["text"] != pairs["other_text"]).all()
    assert [text_id(text) for text in pairs["other_text"]] == pairs["text_id"].tolist()
    known = {(text, LABELS.index(label)) for text, label, _ in given_rows}
    for text, label in (("text", "label"), ("other_text", "other_label")):
        assert set(zip(pairs[text], pairs[label], strict=True)) <= known


def test_a_copied_row_is_no_second_label():
    once = [("скучаю", "positive", "a"), ("скучаю", "negative", "a"), ("Скучаю", "neutral", "b")]
    assert label_agreement.labelled_twice(rows(once)).empty
    (pair,) = label_agreement.labelled_twice(
        rows([*once, ("скучаю!", "neutral", "a")])
    ).itertuples()
    assert (pair.label, pair.other_label) == (LABELS.index("positive"), LABELS.index("neutral"))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Ждём вас.", "ждем вас…", True),
        ("Ждём вас", "Ждём вас!", False),
        ("Ждём вас)", "Ждём вас(", False),
        ("Ждём вас))", "ждём вас )", True),
        ("Ждём вас 😊", "ждём вас 😢", False),
        ("Ждём: вас", "Ждём вас", True),
    ],
)
def test_marks_that_carry_a_mood(one, other, same):
    (pair,) = label_agreement.labelled_twice(
        rows([(one, "neutral", "a"), (other, "neutral", "a")])
    ).itertuples()
    assert pair.same_marks is same


def test_the_score_is_that_of_one_label_as_a_prediction_of_the_other():
    pairs = pd.DataFrame(
        {
            "label": [0, 0, 1, 1, 2, 2, 2, 0],
            "other_label": [0, 1, 1, 1, 2, 0, 2, 0],
            "same_marks": [True, True, True, True, True, False, False, False],
        }
    )
    scored = label_agreement.score(pairs, samples=500, seed=0)
    for split, part in (("labelled twice", pairs), ("twice, same marks", pairs[:5])):
        found = {row["name"]: row for row in scored if row["split"] == split}
        macro_f1 = f1_score(part["label"], part["other_label"], average="macro")
        assert found["macro_f1"]["value"] == pytest.approx(macro_f1)
        assert found["accuracy"]["value"] == accuracy_score(part["label"], part["other_label"])
        assert found["macro_f1"]["texts"] == len(part)
        assert found["macro_f1"]["low"] <= macro_f1 <= found["macro_f1"]["high"]
    swapped = pairs.rename(columns={"label": "other_label", "other_label": "label"})
    both = [label_agreement.score(frame, samples=500, seed=0)[0] for frame in (pairs, swapped)]
    assert both[0]["value"] == pytest.approx(both[1]["value"])  # which label is first is chance


def test_no_pair_gives_no_row():
    assert label_agreement.score(label_agreement.labelled_twice(rows([])), samples=9, seed=0) == []


def test_step_01_keeps_pairs_that_it_drops_from_gold(tmp_path):
    gold, other = small_world()
    text = gold["text"].iloc[0]
    again = table([text.upper() + "!", text + "..."], source="g", role="gold")
    again["label"] = ["negative", "positive"]
    gold = pd.concat([gold, again], ignore_index=True)
    corpus.prepare(portions(gold, other), tmp_path, GoldDataParams())
    pairs = pd.read_parquet(tmp_path / "labelled_twice.parquet")
    assert pairs["text"].tolist() == [text]
    assert pairs["other_text"].tolist() == [text.upper() + "!"]
    assert text_id(text) not in set(pd.read_parquet(tmp_path / "gold.parquet")["text_id"])
