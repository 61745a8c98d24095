import random
import re
import unicodedata

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer

from lib import corpus
from lib.errors import UserError
from lib.params import GoldDataParams
from lib.sources import COLUMNS, SAMPLE_DIR

OPTIONS = GoldDataParams().model_dump(include=set(corpus.PREPARE_OPTIONS))
CLASSES = ("negative", "neutral", "positive")
EMOJI = ["😀", "❤️", "👍🏽", "🔥", "😡", "👨‍👩‍👧"]


# --- independent results to compare with -----------------------------------------------------


def grams(text):
    """Character 3-grams as the parameter's description says, written anew."""
    folded = unicodedata.normalize("NFKC", text).lower().replace("ё", "е")
    letters = "".join(c if c.isalnum() else " " for c in folded)
    padded = f" {' '.join(letters.split())} "
    return {padded[i : i + 3] for i in range(len(padded) - 2)}


def similarities(ones, others):
    """Exact Jaccard of every text of `ones` with every one of `others`, by a sparse product."""
    counter = CountVectorizer(analyzer=grams, binary=True, dtype=np.int32).fit([*ones, *others])
    one, other = counter.transform(ones), counter.transform(others)
    common = (one @ other.T).toarray()
    return common / (one.sum(1).A1[:, None] + other.sum(1).A1[None, :] - common)


def table(texts, label=None, role="corpus", source="s", split=None, group=None):
    """Source rows as lib.sources gives them."""
    frame = pd.DataFrame({"text": list(texts)}, dtype=object)
    frame["label"] = label
    frame["original_label"] = ""
    frame["source"], frame["group"] = source, group or source
    frame["role"], frame["split"] = role, split
    return frame.astype(object)[COLUMNS]


SYLLABLES = re.findall("..", "бавегудожизокалюменупореситуфахоцечушаэн")


def words(rng, count):
    return " ".join("".join(rng.choices(SYLLABLES, k=rng.randint(1, 4))) for _ in range(count))


def distinct_texts(count, seed=0, length=9):
    """Random texts, so long and so many syllables that no two are near-duplicates."""
    rng = random.Random(seed)
    return [words(rng, length) for _ in range(count)]


def small_world(per_class=20, corpus_texts=30, seed=0):
    """Gold with every class and a corpus, all texts unlike each other."""
    texts = distinct_texts(3 * per_class + corpus_texts, seed)
    gold = pd.concat(
        [
            table(texts[i * per_class : (i + 1) * per_class], label, "gold", "g")
            for i, label in enumerate(CLASSES)
        ]
    )
    return gold, table(texts[3 * per_class :], source="c")


def prepare(*frames, **changes):
    gold, unlabelled, counts = corpus.prepare(list(frames), **OPTIONS | changes)
    check_counts(counts, gold, unlabelled)
    return gold, unlabelled, counts


def check_counts(counts, gold, unlabelled):
    """Nothing is lost uncounted: read = kept + dropped, for every source."""
    rest = counts.drop(columns="read")
    assert (counts["read"] == rest.sum(axis=1)).all()
    for column, frame in (("kept as gold", gold), ("kept in corpus", unlabelled)):
        sizes = frame["source"].value_counts().reindex(counts.index, fill_value=0)
        assert (counts[column] == sizes).all()


# --- cleaning and ids ------------------------------------------------------------------------

PIECES = [
    "слово",
    "Ёж",
    "е\u0308ж",
    "и\u0306",
    "ЙОД",
    "№1",
    "ﬁ",
    "½",
    "ß",
    "İ",
    "Σ",
    " ",
    "\n",
    "\t",
    "\u00a0",
    "\u200b",
    "\ufeff",
    "\x00",
    "\x85",
    "!",
    "...",
    "—",
    "_",
    ")))",
    "&",
    "amp;",
    "&lt;",
    "&quot;",
    "&#1078;",
    "&nbsp",
    "#",
    "x",
    ";",
    *EMOJI,
]
pieced = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)
texts_of_all_kinds = st.text(max_size=30) | pieced


@given(texts_of_all_kinds)
@example("&amp;lt;3")
@settings(deadline=None, max_examples=300)
def test_clean_is_idempotent_and_leaves_no_control_characters(text):
    cleaned = corpus.clean(text)
    assert cleaned == cleaned.strip()
    assert "  " not in cleaned
    assert not {"\x00", "\n", "\t", "\u200b", "\ufeff", "\u2028", "\x85", "\xa0"} & set(cleaned)
    assert unicodedata.is_normalized("NFC", cleaned)
    assert corpus.clean(cleaned) == cleaned


@given(texts_of_all_kinds)
@settings(deadline=None, max_examples=300)
def test_normalise_is_idempotent_and_ignores_cleaning(text):
    normalised = corpus.normalise(text)
    assert corpus.normalise(normalised) == normalised
    cleaned = corpus.clean(text)
    assert re.fullmatch("[0-9a-f]{16}", corpus.text_id(cleaned))
    assert corpus.text_id(corpus.normalise(cleaned)) == corpus.text_id(cleaned)


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("  Кафе  «Ёлка»\n\tна углу ", "Кафе «Ёлка» на углу"),
        ("цена &lt; 100 &amp; &quot;скидка&quot; &#128512;", 'цена < 100 & "скидка" 😀'),
        ("и\u0306од е\u0308ж", "йод ёж"),
        ("а\x00б\u200bв\ufeffг\x1fд", "а б в г д"),
        ("ОЧЕНЬ плоха!!! :((( 😡", "ОЧЕНЬ плоха!!! :((( 😡"),
        ("семья 👨‍👩‍👧 и ❤️", "семья 👨‍👩‍👧 и ❤️"),
        ("\n \t", ""),
    ],
)
def test_clean_by_example(raw, cleaned):
    assert corpus.clean(raw) == cleaned


RUSSIAN = st.lists(
    st.text("абвгдеёжзийклмнопрстуфхцчшщъыьэюя0123456789", min_size=1, max_size=8),
    min_size=1,
    max_size=6,
)
GLUE = st.sampled_from(
    [" ", ", ", "!!! ", " — ", "… ", " :) ", "_", "\n", *(f" {emoji} " for emoji in EMOJI)]
)


@given(RUSSIAN, st.data())
@settings(deadline=None, max_examples=150)
def test_id_ignores_case_yo_punctuation_and_emoji(tokens, data):
    expected = corpus.text_id(" ".join(tokens))
    changed = "".join(
        data.draw(
            st.sampled_from(
                [
                    token,
                    token.upper(),
                    token.capitalize(),
                    token.replace("ё", "е"),
                    token.replace("ё", "е\u0308"),
                ]
            )
        )
        + data.draw(GLUE)
        for token in tokens
    )
    assert corpus.text_id(changed) == expected
    assert corpus.text_id(corpus.clean(changed)) == expected


@given(RUSSIAN, RUSSIAN)
@settings(deadline=None, max_examples=150)
def test_ids_are_equal_only_for_equal_words(one, other):
    def same(tokens):
        return " ".join(tokens).replace("ё", "е")

    equal = corpus.text_id(" ".join(one)) == corpus.text_id(" ".join(other))
    assert equal == (same(one) == same(other))


def test_texts_of_emoji_and_brackets_stay_distinct():
    texts = [*EMOJI, ":)", ":(", ":((", "👍", "👍👍", "!!!", "???", "❤️🔥"]
    assert len({corpus.text_id(text) for text in texts}) == len(texts)
    assert corpus.text_id(": )") == corpus.text_id(":)")


def test_ids_of_the_sample_do_not_collide():
    texts = [t for name in ("gold", "corpus") for t in pd.read_csv(SAMPLE_DIR / f"{name}.csv").text]
    normalised = {corpus.normalise(text) for text in texts}
    assert len({corpus.text_id(text) for text in texts}) == len(normalised)


def test_the_same_text_from_two_sources_has_one_id():
    gold, other = small_world()
    shared = other["text"].iloc[0]
    twin = table([shared.upper() + " &#128512;!"], source="another")
    _, kept, counts = prepare(gold, other, twin)
    assert corpus.text_id(shared) in set(kept["text_id"])
    assert kept["text_id"].is_unique
    columns = ["read", "duplicate in corpus", "kept in corpus"]
    assert counts.loc["another", columns].tolist() == [1, 1, 0]


# --- near-duplicates -------------------------------------------------------------------------

FEW_WORDS = st.lists(
    st.sampled_from(["кот", "коты", "спит", "спал", "и", "дом", "домик", "!"]), max_size=7
).map(" ".join)


@given(st.lists(FEW_WORDS, max_size=14), st.sampled_from([0.3, 0.6, 0.9, 1.0]), st.integers(0, 9))
@settings(deadline=None, max_examples=60)
def test_no_pair_is_wrong(texts, threshold, seed):
    pairs = list(corpus.near_duplicate_pairs(texts, threshold, seed))
    assert len(set(pairs)) == len(pairs)
    assert [high for _, high in pairs] == sorted(high for _, high in pairs)
    for low, high in pairs:
        assert 0 <= low < high < len(texts)
        one, other = (corpus.shingles(texts[i]) for i in (low, high))
        assert len(one & other) >= threshold * len(one | other) - 1e-9


@pytest.mark.parametrize("chunk", [corpus.CHUNK, 64], ids=["one chunk", "many chunks"])
def test_pairs_against_all_pairs(monkeypatch, chunk):
    """Exactly brute force's pairs but for the few that LSH misses just above the threshold."""
    monkeypatch.setattr(corpus, "CHUNK", chunk)
    rng = random.Random(0)
    texts = distinct_texts(150)
    for text in texts[:100]:
        tokens = text.split()
        for _ in range(rng.randint(0, 3)):
            tokens[rng.randrange(len(tokens))] = words(rng, 1)
        texts.append(" ".join(tokens))
    rng.shuffle(texts)
    exact = similarities(texts, texts)
    low, high = np.nonzero(np.triu(exact >= 0.6, k=1))
    expected = set(zip(low.tolist(), high.tolist(), strict=True))
    clear = {pair for pair in expected if exact[pair] >= 0.7}
    found = set(corpus.near_duplicate_pairs(texts, 0.6, seed=0))
    assert len(clear) > 40
    assert found <= expected
    assert clear <= found
    assert len(found) >= 0.95 * len(expected)


def test_one_wording_in_other_case_is_a_pair_at_the_highest_threshold():
    texts = ["Ёлка стоит у дома", "совсем другой текст", "ЕЛКА, стоит у дома!!! 🎄"]
    assert list(corpus.near_duplicate_pairs(texts, 1.0, seed=0)) == [(0, 2)]


def test_shingles_and_jaccard_by_hand():
    assert corpus.shingles("Да!") == {" да", "да "}
    assert corpus.shingles("Кот, ёж") == {" ко", "кот", "от ", "т е", " еж", "еж "}
    assert corpus.jaccard(corpus.shingles("кот"), corpus.shingles("коты")) == 2 / 5
    assert corpus.jaccard(frozenset(), frozenset()) == 1.0


# --- splits ----------------------------------------------------------------------------------


def gold_table(sizes, seed=0):
    """Gold rows with ids, `sizes`: (source, label) -> number of rows."""
    frames = []
    for (source, label), size in sizes.items():
        frame = table(distinct_texts(size, f"{seed}{source}{label}"), label, "gold", source)
        frames.append(frame)
    gold = pd.concat(frames, ignore_index=True)
    return gold.assign(text_id=[corpus.text_id(text) for text in gold["text"]])


@given(
    st.dictionaries(
        st.tuples(st.sampled_from("ab"), st.sampled_from(CLASSES)), st.integers(1, 40), min_size=1
    ),
    st.floats(0.05, 0.45),
    st.floats(0.05, 0.45),
    st.integers(0, 5),
    st.randoms(),
)
@settings(deadline=None, max_examples=40)
def test_splits_are_stratified_and_do_not_depend_on_the_order(sizes, validation, test, seed, rng):
    gold = gold_table(sizes)
    split = corpus.split_gold(gold, validation, test, seed)
    assert split.drop(columns="split").equals(gold.drop(columns="split"))
    for (source, label), size in sizes.items():
        group = split[(split["source"] == source) & (split["label"] == label)]["split"]
        assert (group == "test").sum() == round(size * test)
        assert (group == "validation").sum() == round(size * validation)
        assert group.isin(corpus.SPLITS).all()
    order = list(range(len(gold)))
    rng.shuffle(order)
    again = corpus.split_gold(gold.iloc[order].reset_index(drop=True), validation, test, seed)
    assert dict(zip(again["text_id"], again["split"], strict=True)) == (
        dict(zip(split["text_id"], split["split"], strict=True))
    )


def test_another_seed_gives_another_split():
    gold = gold_table({("a", "neutral"): 200})
    zero, one = (corpus.split_gold(gold, 0.2, 0.2, seed)["split"] for seed in (0, 1))
    assert 0.3 < (zero == one).mean() < 0.6  # by chance 0.6² + 0.2² + 0.2² = 0.44


def test_new_texts_do_not_move_many_old_ones():
    """A split by hash: a tenth more texts may shift a border, not reshuffle everything."""
    gold = gold_table({("a", "neutral"): 220})
    whole = corpus.split_gold(gold, 0.2, 0.2, 0)["split"][:200]
    part = corpus.split_gold(gold[:200], 0.2, 0.2, 0)["split"]
    assert (whole == part).mean() > 0.9


def test_an_official_test_split_is_untouched_and_its_source_gets_no_other():
    gold = gold_table({("a", c): 40 for c in CLASSES} | {("b", c): 40 for c in CLASSES})
    official = (gold["source"] == "a") & (gold.index % 4 == 0)
    gold.loc[official, "split"] = "test"
    split = corpus.split_gold(gold, 0.1, 0.25, 0)
    of_a = split["source"] == "a"
    assert ((split["split"] == "test") & of_a).equals(official)
    assert (split[~of_a]["split"] == "test").sum() == 3 * 10
    assert (split[of_a]["split"] == "validation").sum() == 3 * 3


def test_prepare_is_deterministic_and_its_splits_disjoint():
    gold, other = small_world()
    first = prepare(gold, other)
    second = prepare(gold.iloc[::-1], other.iloc[::-1])
    assert first[0]["text_id"].is_unique
    assert not set(first[0]["text_id"]) & set(first[1]["text_id"])
    for one, two in zip(first[:2], second[:2], strict=True):
        one, two = (f.sort_values("text_id").reset_index(drop=True) for f in (one, two))
        pd.testing.assert_frame_equal(one, two)
    assert list(first[0].columns) == corpus.GOLD_COLUMNS
    assert list(first[1].columns) == corpus.CORPUS_COLUMNS
    assert first[0].groupby(["label", "split"]).size().unstack().to_numpy().tolist() == (
        [[3, 15, 2]] * 3  # test 0.15, train, validation 0.1 of 20
    )


# --- what is dropped -------------------------------------------------------------------------


def test_contradicting_labels_go_and_agreeing_ones_become_one():
    gold, other = small_world()
    contested, agreed = distinct_texts(2, seed=99)
    extra = pd.concat(
        [
            table([contested], "positive", "gold", "x"),
            table([contested + "!"], "negative", "gold", "y"),
            table([agreed, agreed.upper()], "neutral", "gold", "x"),
        ]
    )
    kept, _, counts = prepare(gold, other, extra)
    assert corpus.text_id(contested) not in set(kept["text_id"])
    assert (kept["text_id"] == corpus.text_id(agreed)).sum() == 1
    assert counts.loc[["x", "y"], "contradicting labels"].tolist() == [1, 1]
    assert counts.loc["x", "duplicate in gold"] == 1


def test_rows_of_an_official_test_are_never_dropped():
    """Not for length, not as duplicates, not for contradictions: figures stay comparable."""
    gold, other = small_world()
    text = distinct_texts(1, seed=99)[0]
    near = text + " до"
    hard = ["ок", "", "а " * 20_000, text, text, near]
    labels = ["positive", "neutral", "negative", "positive", "negative", "neutral"]
    official = table(hard, labels, "gold", "t", split="test")
    twins = table([text, near.upper()], ["positive", "neutral"], "gold", "t")
    copies = table([text + "!!!"], source="copy")
    kept, unlabelled, counts = prepare(gold, other, copies, twins, official)
    mine = kept[kept["source"] == "t"]
    assert sorted(mine["text"]) == sorted(corpus.clean(text) for text in hard)
    assert set(mine["split"]) == {"test"}
    assert counts.loc["t", "twin of a test text"] == 2
    assert "copy" not in set(unlabelled["source"])


def test_lengths_are_counted_after_cleaning():
    gold, other = small_world()
    texts = ["аб\u200b\n ", "абв", "д" * 100, "е" * 101]
    _, kept, counts = prepare(gold, other, table(texts, source="x"), max_characters=100)
    assert kept[kept["source"] == "x"]["text"].tolist() == ["абв", "д" * 100]
    assert counts.loc["x", ["read", "too short", "too long"]].tolist() == [4, 1, 1]


def test_the_higher_rank_is_kept():
    """A text and its near-duplicate: test beats gold train beats corpus."""
    gold, other = small_world()
    one, two = distinct_texts(2, seed=99)
    official = table([one], "neutral", "gold", "t", split="test")
    train = table([one + " до", two], "neutral", "gold", "t", group="u")
    unlabelled = table([two + " до", two + " ка"], source="x")
    kept, rest, counts = prepare(gold, other, unlabelled, train, official)
    assert kept.loc[kept["source"] == "t", "text"].tolist() == [one, two]
    assert "x" not in set(rest["source"])
    assert counts.loc["t", "near-duplicate of a test text"] == 1
    assert counts.loc["x", "near-duplicate of a train text"] == 2


def test_audit_labels_are_numbers_or_missing():
    gold, other = small_world()
    texts = distinct_texts(4, seed=99)
    _, kept, _ = prepare(gold, other, table(texts, [*CLASSES, None], source="x"))
    found = kept[kept["source"] == "x"].set_index("text")["audit_label"]
    assert [found[text] for text in texts[:3]] == [0, 1, 2]
    assert found[texts[3]] is pd.NA


# --- the leak test ---------------------------------------------------------------------------


def changed_surface(text, rng):
    """The same words in other case, with other punctuation and emoji."""
    tokens = re.findall(r"\w+", text)
    styles = (str.upper, str.lower, str.capitalize)
    glue = [" ", ", ", "!!! ", " — ", "... ", *(f" {emoji} " for emoji in EMOJI)]
    return "".join(rng.choice(styles)(token) + rng.choice(glue) for token in tokens)


def changed_word(text, rng):
    """The text with one small word replaced; None if it has fewer than eight words."""
    tokens = text.split(" ")
    small = [i for i, token in enumerate(tokens) if token.isalpha() and len(token) <= 4]
    if len(re.findall(r"\w+", text)) < 8 or not small:
        return None
    place = rng.choice(small)
    choices = [w for w in ("там", "тут", "вот", "же", "уже") if w != tokens[place].lower()]
    tokens[place] = rng.choice(choices)
    return " ".join(tokens)


@pytest.fixture(scope="module")
def planted():
    """Sample texts with 300 official test texts, and altered copies of these in the corpus."""
    rng = random.Random(0)
    gold, unrelated = (
        pd.read_csv(SAMPLE_DIR / f"{name}.csv").dropna(subset="text") for name in ("gold", "corpus")
    )
    gold = gold[gold["label"].notna()].sample(frac=1, random_state=0)
    tests = gold["text"][:300]
    surface = [changed_surface(text, rng) for text in tests]
    word = [changed for text in tests if (changed := changed_word(text, rng))]
    frames = [
        table(tests, list(gold["label"][:300]), "gold", "official", split="test"),
        table(gold["text"][300:], list(gold["label"][300:]), "gold", "rest"),
        table(surface, source="surface"),
        table(word, source="word"),
        table(unrelated["text"], source="unrelated"),
    ]
    rng.shuffle(frames)
    return tests, word, len(unrelated), prepare(*frames)


def test_every_planted_copy_in_other_case_and_punctuation_goes(planted):
    tests, _, _, (gold, unlabelled, counts) = planted
    assert (gold["source"] == "official").sum() == len(tests) == 300
    assert "surface" not in set(unlabelled["source"])
    assert counts.loc["surface", "read"] == 300


def test_nearly_every_planted_copy_with_one_other_word_goes(planted):
    _, word, _, (_, unlabelled, _) = planted
    assert len(word) >= 100
    assert (unlabelled["source"] == "word").sum() <= 0.05 * len(word)


def test_unrelated_texts_stay(planted):
    _, _, unrelated, (_, _, counts) = planted
    assert unrelated >= 1800
    lost = unrelated - counts.loc["unrelated", "kept in corpus"]
    assert lost <= 0.001 * unrelated


def test_nothing_held_out_is_near_to_what_is_trained_on(planted):
    *_, (gold, unlabelled, _) = planted
    splits = {name: rows["text"].tolist() for name, rows in gold.groupby("split")}
    below = [*splits["train"], *unlabelled["text"]]
    held_out = [*splits["test"], *splits["validation"]]
    assert len(held_out) > 350
    threshold = OPTIONS["near_duplicate_similarity"]
    assert similarities(held_out, below).max() < threshold
    assert similarities(splits["test"], splits["validation"]).max() < threshold


# --- errors and limits -----------------------------------------------------------------------


@pytest.mark.parametrize("absent", CLASSES)
def test_a_class_absent_from_gold(absent):
    gold, other = small_world()
    with pytest.raises(UserError, match=f"no train text of class {absent} "):
        prepare(gold[gold["label"] != absent], other)


def test_a_class_too_small_for_a_split():
    gold, other = small_world()
    few = gold.groupby("label").head(4)
    with pytest.raises(UserError, match="no validation text of class negative, neutral, positive"):
        prepare(few, other)


def test_no_gold_and_no_corpus():
    gold, other = small_world()
    with pytest.raises(UserError, match="no gold text"):
        prepare(other)
    with pytest.raises(UserError, match="no corpus text"):
        prepare(gold)
    with pytest.raises(UserError, match="no corpus text"):
        prepare(gold, table(gold["text"].str.upper(), source="c"))


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
    for split in ("validation", "test"):
        assert (kept["split"] == split).sum() == (whole["split"] == split).sum()


def test_max_corpus_holds_for_each_source():
    gold, other = small_world()
    more = table(distinct_texts(5, seed=99), source="d")
    _, kept, counts = prepare(gold, other, more, max_corpus=10)
    assert kept["source"].value_counts().to_dict() == {"c": 10, "d": 5}
    assert counts.loc["c", "over max_corpus"] == 20


# --- files -----------------------------------------------------------------------------------


def test_tables_survive_writing(tmp_path):
    gold, unlabelled, _ = prepare(*small_world())
    unlabelled.loc[0, "audit_label"] = 2
    corpus.write_gold(gold, tmp_path / "gold.parquet")
    read = pd.read_parquet(tmp_path / "gold.parquet")
    assert read.to_dict("list") == gold.to_dict("list")
    assert str(read["label"].dtype) == "int64"
    for number, part in enumerate((unlabelled[:7], unlabelled[7:])):
        corpus.write_corpus(part, tmp_path / "corpus" / f"part-{number:05}.parquet")
    read = corpus.read_corpus(tmp_path / "corpus")
    assert read.astype(object).equals(unlabelled.astype(object))
    assert str(read["audit_label"].dtype) == "Int8"


def test_count_metrics_add_up():
    gold, unlabelled, _ = prepare(*small_world())
    found = {(m["dataset"], m["split"]): m["value"] for m in corpus.count_metrics(gold, unlabelled)}
    assert found == {
        ("g", "test"): 9,
        ("g", "train"): 45,
        ("g", "validation"): 6,
        ("c", "corpus"): 30,
    }


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.booleans()), min_size=1))
@settings(deadline=None, max_examples=40)
def test_drop_counts(rows):
    """Two drops in a row: every row is counted exactly once, under the first that takes it."""
    frame = pd.DataFrame(rows, columns=["source", "one", "two"])
    counts = corpus.DropCounts()
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
