import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.data import gold as gold_module
from lib.errors import UserError
from made_up import CLASSES, distinct_texts, prepare, small_world, table, text_id


def gold_table(sizes, seed=0):
    """Gold rows with ids, `sizes`: (source, label) -> number of rows."""
    frames = []
    for (source, label), size in sizes.items():
        frame = table(distinct_texts(size, f"{seed}{source}{label}"), label, "gold", source)
        frames.append(frame)
    gold = pd.concat(frames, ignore_index=True)
    return gold.assign(text_id=[text_id(text) for text in gold["text"]])


@given(
    st.dictionaries(
        st.tuples(st.sampled_from("ab"), st.sampled_from(CLASSES)), st.integers(1, 40), min_size=1
    ),
    st.floats(0.05, 0.45),
    st.floats(0.05, 0.45),
    st.integers(0, 5),
    st.randoms(),
)
@settings(max_examples=40)
def test_splits_are_stratified_and_do_not_depend_on_the_order(sizes, validation, test, seed, rng):
    gold = gold_table(sizes)
    split = gold_module.split_gold(gold, validation, test, seed)
    assert split.drop(columns="split").equals(gold.drop(columns="split"))
    assert split["split"].isin(gold_module.SPLITS).all()
    for (source, label), size in sizes.items():
        group = split[(split["source"] == source) & (split["label"] == label)]["split"]
        if size * min(validation, test) >= 0.5:  # sources with fewer count as one
            assert (group == "test").sum() == round(size * test)
            assert (group == "validation").sum() == round(size * validation)
    order = list(range(len(gold)))
    rng.shuffle(order)
    again = gold_module.split_gold(gold.iloc[order].reset_index(drop=True), validation, test, seed)
    assert dict(zip(again["text_id"], again["split"], strict=True)) == (
        dict(zip(split["text_id"], split["split"], strict=True))
    )


def test_sources_of_one_text_each_get_all_splits():
    gold = gold_table({(f"user {number}", "neutral"): 1 for number in range(200)})
    split = gold_module.split_gold(gold.assign(group="local"), 0.1, 0.2, 0)["split"]
    assert split.value_counts().to_dict() == {"train": 140, "test": 40, "validation": 20}


def test_another_seed_gives_another_split():
    gold = gold_table({("a", "neutral"): 200})
    zero, one = (gold_module.split_gold(gold, 0.2, 0.2, seed)["split"] for seed in (0, 1))
    assert 0.3 < (zero == one).mean() < 0.6  # by chance 0.6² + 0.2² + 0.2² = 0.44


def test_new_texts_do_not_move_many_old_ones():
    """A split by hash: a tenth more texts may shift a border, not reshuffle everything."""
    gold = gold_table({("a", "neutral"): 220})
    whole = gold_module.split_gold(gold, 0.2, 0.2, 0)["split"][:200]
    part = gold_module.split_gold(gold[:200], 0.2, 0.2, 0)["split"]
    assert (whole == part).mean() > 0.9


def test_an_official_test_split_is_untouched_and_its_source_gets_no_other():
    gold = gold_table({("a", c): 40 for c in CLASSES} | {("b", c): 40 for c in CLASSES})
    official = (gold["source"] == "a") & (gold.index % 4 == 0)
    gold.loc[official, "split"] = "test"
    split = gold_module.split_gold(gold, 0.1, 0.25, 0)
    of_a = split["source"] == "a"
    assert ((split["split"] == "test") & of_a).equals(official)
    assert (split[~of_a]["split"] == "test").sum() == 3 * 10
    assert (split[of_a]["split"] == "validation").sum() == 3 * 3


@pytest.mark.parametrize("absent", CLASSES)
def test_a_class_absent_from_gold(absent):
    gold, other = small_world()
    with pytest.raises(UserError, match=f"no gold text is {absent}; .* two"):
        prepare(gold[gold["label"] != absent], other)


def test_a_class_too_small_for_a_split():
    gold, other = small_world()
    few = gold.groupby("label").head(4)
    with pytest.raises(UserError, match="no validation text of class negative, neutral, positive"):
        prepare(few, other)


def test_no_gold_and_no_corpus():
    gold, other = small_world()
    with pytest.raises(UserError, match="no gold text is"):
        prepare(other)
    for frames in ([gold], [gold, table(gold["text"].str.upper(), source="c")]):
        kept, corpus, _ = prepare(*frames)
        assert len(kept) == len(gold) and corpus.empty


@pytest.mark.parametrize("limit", [30, 31, 44])
def test_max_gold_train_keeps_the_classes_in_proportion(limit):
    texts = distinct_texts(150)
    gold = pd.concat(
        [
            table(texts[:20], "negative", "gold", "g"),
            table(texts[20:60], "neutral", "gold", "g"),
            table(texts[60:120], "positive", "gold", "g"),
        ]
    )
    other = table(texts[120:], source="c")
    whole, _, _ = prepare(gold, other)
    kept, _, counts = prepare(gold, other, max_gold_train=limit)
    sizes = kept[kept["split"] == "train"]["label"].value_counts().sort_index()
    total = int((whole["split"] == "train").sum())
    assert limit - 3 < sizes.sum() <= limit
    for label, size in whole[whole["split"] == "train"]["label"].value_counts().items():
        assert abs(sizes[label] - size * limit / total) < 1
    assert counts.loc["g", "over max_gold_train"] == total - sizes.sum()


def test_the_seed_chooses_which_gold_texts_stay():
    gold, other = small_world(per_class=60)
    chosen = [
        set(kept.loc[kept["split"] == "train", "text_id"])
        for kept, _, _ in (prepare(gold, other, seed=s, max_gold_train=30) for s in (0, 0, 1))
    ]
    assert chosen[0] == chosen[1] and len(chosen[0] & chosen[2]) < 20
