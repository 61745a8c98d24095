import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib import duplicates
from lib.cleaning import normalise
from made_up import distinct_texts, similarities, words


def pairs_of(texts, similarity, seed):
    return duplicates.near_duplicate_pairs([normalise(t) for t in texts], similarity, seed)


FEW_WORDS = st.lists(
    st.sampled_from(["кот", "коты", "спит", "спал", "и", "дом", "домик", "!"]), max_size=7
).map(" ".join)


@given(st.lists(FEW_WORDS, max_size=14), st.sampled_from([0.3, 0.6, 0.9, 1.0]), st.integers(0, 9))
@settings(max_examples=60)
def test_no_pair_is_wrong(texts, threshold, seed):
    pairs = list(pairs_of(texts, threshold, seed))
    assert len(set(pairs)) == len(pairs)
    assert [high for _, high in pairs] == sorted(high for _, high in pairs)
    for low, high in pairs:
        assert 0 <= low < high < len(texts)
        one, other = (duplicates.shingles(normalise(texts[i])) for i in (low, high))
        assert len(one & other) >= threshold * len(one | other) - 1e-9


@pytest.mark.parametrize("chunk", [duplicates.CHUNK, 64], ids=["one chunk", "many chunks"])
def test_pairs_against_all_pairs(monkeypatch, chunk):
    """Exactly brute force's pairs but for the few that LSH misses just above the threshold."""
    monkeypatch.setattr(duplicates, "CHUNK", chunk)
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
    found = set(pairs_of(texts, 0.6, seed=0))
    assert len(clear) > 40
    assert found <= expected
    assert clear <= found
    assert len(found) >= 0.95 * len(expected)


def test_one_wording_in_other_case_is_a_pair_at_the_highest_threshold():
    texts = ["Ёлка стоит у дома", "совсем другой текст", "ЕЛКА, стоит у дома!!! 🎄"]
    assert list(pairs_of(texts, 1.0, seed=0)) == [(0, 2)]


def test_shingles_and_jaccard_by_hand():
    assert duplicates.shingles("да") == {" да", "да "}
    assert duplicates.shingles("кот еж") == {" ко", "кот", "от ", "т е", " еж", "еж "}
    assert duplicates.jaccard(duplicates.shingles("кот"), duplicates.shingles("коты")) == 2 / 5
    assert duplicates.jaccard(frozenset(), frozenset()) == 1.0


def test_signatures_estimate_the_similarity_without_bias():
    rng = random.Random(0)
    texts = distinct_texts(300, length=20)
    pairs = []
    for text in texts:
        tokens = text.split()
        for place in rng.sample(range(20), rng.randint(0, 20)):
            tokens[place] = words(rng, 1)
        pairs.append((text, " ".join(tokens)))
    ones, others = zip(*pairs, strict=True)
    exact = np.array(
        [
            duplicates.jaccard(duplicates.shingles(one), duplicates.shingles(other))
            for one, other in pairs
        ]
    )
    equal = duplicates.signatures(list(ones), 0) == duplicates.signatures(list(others), 0)
    errors = equal.mean(1) - exact
    deviation = np.sqrt(exact * (1 - exact) / duplicates.VALUES)
    assert exact.min() < 0.2 and exact.max() > 0.9
    assert abs(errors.mean()) < 4 * np.sqrt((deviation**2).sum()) / len(errors)
    assert (np.abs(errors) <= 4.5 * deviation + 1e-9).all()


def test_a_signature_depends_on_its_own_text_and_the_seed_only():
    texts = ["кот", "да", "й", "очень длинный текст " * 50, "😀"]
    together = duplicates.signatures(texts, 0)
    alone = np.concatenate([duplicates.signatures([text], 0) for text in texts])
    assert np.array_equal(together, alone)
    assert (together != duplicates.signatures(texts, 1)).mean() > 0.9
    assert duplicates.signatures([], 0).shape == (0, duplicates.VALUES)


@given(st.lists(st.integers(0, 12), max_size=40), st.sampled_from([4, 16, 32]), st.integers(0, 5))
@settings(max_examples=40)
def test_the_index_finds_equal_signatures_and_no_unlike_ones(numbers, bands, split):
    """Against a plain search: signatures are either equal or agree in no value."""
    values = np.arange(13 * duplicates.VALUES, dtype=np.uint16).reshape(13, -1)
    given_signatures = values[numbers].reshape(-1, duplicates.VALUES)
    index = duplicates.MinHashIndex(len(numbers), bands)
    twins = np.concatenate(
        [
            index.add_new(given_signatures[:split], 0.6),
            index.add_new(given_signatures[split:], 0.6),
        ]
    )
    rows = {}
    expected = []
    for number in numbers:
        expected.append(rows.get(number, -1))
        rows.setdefault(number, len(rows))
    assert twins.tolist() == expected
    assert index.rows == len(rows)
    queries, found = index.candidates(values, 0.6)
    assert dict(zip(queries.tolist(), found.tolist(), strict=True)) == rows


@pytest.mark.parametrize("bands", [duplicates.SENSITIVE, duplicates.COARSE])
def test_the_share_of_pairs_found_is_as_stated(bands):
    """By banding theory 1 - (1 - s^r)^b of the pairs of similarity s share a band."""
    rng = np.random.default_rng(0)
    count, width = 4000, duplicates.VALUES // bands
    for similarity in (0.5, 0.6, 0.8):
        stored = rng.integers(0, 2**16, (count, duplicates.VALUES), dtype=np.uint16)
        changed = rng.random(stored.shape) >= similarity
        asked = np.where(changed, stored ^ np.uint16(1), stored)
        index = duplicates.MinHashIndex(count, bands)
        index.add(stored)
        queries, rows = index.candidates(asked, 0.1)
        assert np.array_equal(queries, rows)
        expected = 1 - (1 - similarity**width) ** bands
        assert len(queries) / count == pytest.approx(expected, abs=0.03)


def test_the_most_similar_text_is_named():
    values = np.arange(duplicates.VALUES, dtype=np.uint16)
    near, nearer = values.copy(), values.copy()
    near[:40] += 1000
    nearer[:20] += 2000
    index = duplicates.MinHashIndex(3, duplicates.SENSITIVE)
    index.add(np.stack([near, nearer]))
    assert index.add_new(values[None], 0.6).tolist() == [1]
    assert index.add_new(values[None], 0.9).tolist() == [-1]


def test_more_texts_than_there_is_room_for_are_refused():
    values = np.arange(3 * duplicates.VALUES, dtype=np.uint16).reshape(3, -1)
    index = duplicates.MinHashIndex(2, duplicates.COARSE)
    index.add(values[:1])
    for call in (index.add, lambda v: index.add_new(v, 0.6)):
        with pytest.raises(ValueError, match=r"1 \+ 2 texts are more than the index holds, 2"):
            call(values[1:])
    assert index.rows == 1
