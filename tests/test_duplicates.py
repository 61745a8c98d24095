import random
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.data import duplicates
from lib.data.cleaning import normalise
from lib.data.duplicates import COARSE, SENSITIVE, VALUES, earlier_twins
from made_up import distinct_texts, grams, similarities, words


def jaccard(one, other):
    return len(grams(one) & grams(other)) / len(grams(one) | grams(other))


def twins_of(texts, similarity, seed=0, limits=None):
    """Exactly decided twins; each text may have any earlier one."""
    normalised = [normalise(text) for text in texts]
    return earlier_twins(
        duplicates.signatures(normalised, seed),
        np.arange(len(texts)) if limits is None else np.array(limits),
        bands=SENSITIVE,
        similarity=similarity,
        normalised=normalised,
    ).tolist()


def brute_force(exact, threshold, limits):
    """The same from a matrix of exact similarities."""
    twins = []
    for row, limit in enumerate(limits):
        like = [r for r in range(max(limit, 0)) if twins[r] < 0 <= limits[r]]
        twins.append(next((r for r in like if exact[row, r] >= threshold), -1))
    return twins


WORDS = ["кот", "коты", "спит", "спал", "и", "дом", "домик", "!"]
FEW_WORDS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=7).map(" ".join)


@given(
    st.lists(FEW_WORDS.filter(lambda text: text.strip("! ")), max_size=14),
    st.sampled_from([0.3, 0.6, 0.9, 1.0]),
    st.integers(0, 9),
)
@settings(max_examples=60)
def test_no_twin_is_wrong(texts, threshold, seed):
    for row, twin in enumerate(twins := twins_of(texts, threshold, seed)):
        assert -1 <= twin < row
        assert twin < 0 or (twins[twin] < 0 and jaccard(texts[row], texts[twin]) >= threshold)


def test_twins_against_all_pairs():
    """Brute force's twins, with limits and left-out texts, where no similarity is borderline."""
    rng = random.Random(0)
    texts = distinct_texts(150)
    for text in 2 * texts[:100]:
        tokens = text.split()
        for _ in range(rng.randint(0, 4)):
            tokens[rng.randrange(len(tokens))] = words(rng, 1)
        texts.append(" ".join(tokens))
    rng.shuffle(texts)
    exact = similarities(texts, texts)
    for threshold in (0.6, 0.8):
        sure = ~((exact >= threshold) & (exact < threshold + 0.1)).any(1)
        known = [text for text, keep in zip(texts, sure, strict=True) if keep]
        limits = [rng.choice([row, row, row, row // 2, 0, -1]) for row in range(len(known))]
        expected = brute_force(exact[sure][:, sure], threshold, limits)
        assert sum(twin >= 0 for twin in expected) > 10
        assert twins_of(known, threshold, limits=limits) == expected


def test_one_wording_in_other_case_is_a_twin_at_the_highest_threshold():
    texts = ["Ёлка стоит у дома", "совсем другой текст", "ЕЛКА, стоит у дома!!! 🎄"]
    assert twins_of(texts, 1.0) == [-1, -1, 0]


@pytest.mark.parametrize("exact", [True, False])
def test_thousands_of_near_copies_are_all_found(exact):
    texts = [f"очень хороший магазин, всем советую, заказ номер {n:04d}" for n in range(5000)]
    signatures = duplicates.signatures(texts, 0)
    started = time.perf_counter()
    twins = earlier_twins(
        np.concatenate([signatures, signatures]),
        np.arange(10_000),
        bands=SENSITIVE if exact else COARSE,
        similarity=0.6,
        normalised=[*texts, *texts] if exact else None,
    )
    assert time.perf_counter() - started < 10
    assert twins[0] == -1 and (twins[5000:] >= 0).all()
    assert (twins >= 0).sum() >= (9999 if exact else 9900)


def test_a_text_that_has_a_twin_is_nobodys_twin():
    """a ~ b ~ c, but a is unlike c: c stays, since b is gone."""
    values = np.arange(VALUES, dtype=np.uint16)
    middle, last = values.copy(), values.copy()
    middle[:40] += 1000
    last[:80] = [*middle[:40], *(values[40:80] + 2000)]
    signatures = np.stack([values, middle, last])
    find = {"bands": SENSITIVE, "similarity": 0.6}
    assert earlier_twins(signatures, np.arange(3), **find).tolist() == [-1, 0, -1]
    assert earlier_twins(signatures, np.array([-1, 1, 2]), **find).tolist() == [-1, -1, 1]


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
    exact = np.array([jaccard(one, other) for one, other in pairs])
    equal = duplicates.signatures(list(ones), 0) == duplicates.signatures(list(others), 0)
    errors = equal.mean(1) - exact
    deviation = np.sqrt(exact * (1 - exact) / VALUES)
    assert exact.min() < 0.2 and exact.max() > 0.9
    assert abs(errors.mean()) < 4 * np.sqrt((deviation**2).sum()) / len(errors)
    assert (np.abs(errors) <= 4.5 * deviation + 1e-9).all()


def test_a_signature_depends_on_its_own_text_and_the_seed_only():
    texts = ["кот", "да", "й", "очень длинный текст " * 50, "😀"]
    together = duplicates.signatures(texts, 0)
    alone = np.concatenate([duplicates.signatures([text], 0) for text in texts])
    assert np.array_equal(together, alone)
    assert (together != duplicates.signatures(texts, 1)).mean() > 0.9
    assert duplicates.signatures([], 0).shape == (0, VALUES)


@given(st.lists(st.integers(0, 12), max_size=40), st.sampled_from([4, 16, 32]))
@settings(max_examples=40)
def test_equal_signatures_are_found_and_no_unlike_ones(numbers, bands):
    values = np.arange(13 * VALUES, dtype=np.uint16).reshape(13, -1)
    given_signatures = values[numbers].reshape(-1, VALUES)
    twins = earlier_twins(
        given_signatures, np.arange(len(numbers)), bands=bands, similarity=0.6
    ).tolist()
    first = [numbers.index(number) for number in numbers]
    assert twins == [-1 if row == twin else twin for row, twin in enumerate(first)]


@pytest.mark.parametrize("bands", [SENSITIVE, COARSE])
def test_the_share_of_pairs_found_is_as_stated(bands):
    """By banding theory 1 - (1 - s^r)^b of the pairs of similarity s share a band."""
    rng = np.random.default_rng(0)
    count, width = 4000, VALUES // bands
    for similarity in (0.5, 0.6, 0.8):
        stored = rng.integers(0, 2**16, (count, VALUES), dtype=np.uint16)
        changed = rng.random(stored.shape) >= similarity
        asked = np.where(changed, stored ^ np.uint16(1), stored)
        limits = np.repeat([0, count], count)
        both = np.concatenate([stored, asked])
        twins = earlier_twins(both, limits, bands=bands, similarity=0.1)[count:]
        found = twins >= 0
        assert np.array_equal(twins[found], np.flatnonzero(found))
        expected = 1 - (1 - similarity**width) ** bands
        assert found.mean() == pytest.approx(expected, abs=0.03)
