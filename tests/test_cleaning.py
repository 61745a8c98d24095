import re
import unicodedata

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lib import cleaning
from lib.sources import SAMPLE_DIR
from made_up import EMOJI

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
@settings(max_examples=300)
def test_clean_is_idempotent_and_leaves_no_control_characters(text):
    cleaned = cleaning.clean(text)
    assert cleaned == cleaned.strip()
    assert "  " not in cleaned
    assert not {"\x00", "\n", "\t", "\u200b", "\ufeff", "\u2028", "\x85", "\xa0"} & set(cleaned)
    assert unicodedata.is_normalized("NFC", cleaned)
    assert cleaning.clean(cleaned) == cleaned


@given(texts_of_all_kinds)
@settings(max_examples=300)
def test_normalise_is_idempotent_and_ignores_cleaning(text):
    normalised = cleaning.normalise(text)
    assert cleaning.normalise(normalised) == normalised
    cleaned = cleaning.clean(text)
    assert re.fullmatch("[0-9a-f]{16}", cleaning.text_id(cleaned))
    assert cleaning.text_id(cleaning.normalise(cleaned)) == cleaning.text_id(cleaned)


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
    assert cleaning.clean(raw) == cleaned


RUSSIAN = st.lists(
    st.text("абвгдеёжзийклмнопрстуфхцчшщъыьэюя0123456789", min_size=1, max_size=8),
    min_size=1,
    max_size=6,
)
GLUE = st.sampled_from(
    [" ", ", ", "!!! ", " — ", "… ", " :) ", "_", "\n", *(f" {emoji} " for emoji in EMOJI)]
)


@given(RUSSIAN, st.data())
@settings(max_examples=150)
def test_id_ignores_case_yo_punctuation_and_emoji(tokens, data):
    expected = cleaning.text_id(" ".join(tokens))
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
    assert cleaning.text_id(changed) == expected
    assert cleaning.text_id(cleaning.clean(changed)) == expected


@given(RUSSIAN, RUSSIAN)
@settings(max_examples=150)
def test_ids_are_equal_only_for_equal_words(one, other):
    def same(tokens):
        return " ".join(tokens).replace("ё", "е")

    equal = cleaning.text_id(" ".join(one)) == cleaning.text_id(" ".join(other))
    assert equal == (same(one) == same(other))


def test_texts_of_emoji_and_brackets_stay_distinct():
    texts = [*EMOJI, ":)", ":(", ":((", "👍", "👍👍", "!!!", "???", "❤️🔥"]
    assert len({cleaning.text_id(text) for text in texts}) == len(texts)
    assert cleaning.text_id(": )") == cleaning.text_id(":)")


def test_ids_of_the_sample_do_not_collide():
    texts = [t for name in ("gold", "corpus") for t in pd.read_csv(SAMPLE_DIR / f"{name}.csv").text]
    normalised = {cleaning.normalise(text) for text in texts}
    assert len({cleaning.text_id(text) for text in texts}) == len(normalised)
