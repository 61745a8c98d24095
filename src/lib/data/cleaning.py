"""One text: how it is cleaned, how it is compared with others, and its stable id."""

from __future__ import annotations

import hashlib
import html
import re
import unicodedata

_CONTROL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufffe"
    r"\ud800-\udfff]"
)
_INSIDE_WORDS = re.compile(r"[\u00ad\u2060]")  # soft hyphen, word joiner
_MAY_BE_MARKS = re.compile(r"[^\w\s\x00-\x7f]{31,}")
_SPACE = re.compile(r"\s+")
_STRESS = re.compile(r"[\u0300-\u036f]")  # combining marks: за́мок is замок
_NOT_WORD = re.compile(r"[\W_]+")
_ESCAPED_AMPERSANDS = re.compile(
    r"&(?:amp;?|AMP;?|#0*38(?:;|(?!\d))|#[xX]0*26(?:;|(?![\da-fA-F])))+"
)
MOST_ESCAPES = 16
LONG = 1000  # characters; longer texts lose marks: NFC takes time squared for many in a row
MOST_MARKS = 30  # combining ones in a row


def clean(text: str) -> str:
    """The text as the model sees it: NFC, HTML entities decoded, no control characters and lone
    surrogates, white space folded. Case, emoji, punctuation and typos stay: they carry
    sentiment."""
    for _ in range(MOST_ESCAPES):  # some sources escape twice; a limit keeps hostile texts linear
        if "&" not in text:
            break
        before, text = text, html.unescape(_ESCAPED_AMPERSANDS.sub("&", text))
        if text == before:
            break
    if not text.isprintable():  # most texts are, and looking is cheaper than searching
        text = _CONTROL.sub(" ", _INSIDE_WORDS.sub("", text))
    if len(text) > LONG:
        text = _MAY_BE_MARKS.sub(_without_many_marks, text)
    return " ".join(unicodedata.normalize("NFC", text).split())


def _without_many_marks(found: re.Match[str]) -> str:
    kept, marks = [], 0
    for character in found[0]:
        marks = marks + 1 if unicodedata.category(character).startswith("M") else 0
        if marks <= MOST_MARKS:
            kept.append(character)
    return "".join(kept)


def normalise(text: str) -> str:
    """The text as duplicates are compared: letters and digits only, lower case, ё as е.

    A text without any letter or digit (emoji, brackets) stays as it is.
    """
    folded = unicodedata.normalize("NFKC", text).lower().replace("ё", "е")
    words = _NOT_WORD.sub(" ", _STRESS.sub("", folded)).strip()
    return words or _SPACE.sub("", text)


def text_id(normalised: str) -> str:
    """Stable id of a normalised text: its 64-bit BLAKE2, 16 hex digits."""
    return hashlib.blake2b(normalised.encode("utf-8"), digest_size=8).hexdigest()
