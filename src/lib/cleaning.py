"""One text: how it is cleaned, how it is compared with others, and its stable id."""

from __future__ import annotations

import hashlib
import html
import re
import unicodedata

_CONTROL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\ufeff\ufffe\ud800-\udfff]"
)
_SPACE = re.compile(r"\s+")
_STRESS = re.compile(r"[\u0300-\u036f]")  # combining marks: за́мок is замок
_NOT_WORD = re.compile(r"[\W_]+")


def clean(text: str) -> str:
    """The text as the model sees it: NFC, HTML entities decoded, no control characters and lone
    surrogates, white space folded. Case, emoji, punctuation and typos stay: they carry
    sentiment."""
    while "&" in text and (decoded := html.unescape(text)) != text:  # some sources escape twice
        text = decoded
    text = unicodedata.normalize("NFC", text)
    if not text.isprintable():  # most texts are, and looking is cheaper than searching
        text = _CONTROL.sub(" ", text)
    return " ".join(text.split())


def normalise(text: str) -> str:
    """The text as duplicates are compared: letters and digits only, lower case, ё as е.

    A text without any letter or digit (emoji, brackets) stays as it is.
    """
    folded = unicodedata.normalize("NFKC", text).lower().replace("ё", "е")
    words = _NOT_WORD.sub(" ", _STRESS.sub("", folded)).strip()
    return words or _SPACE.sub("", text)


def text_id(text: str) -> str:
    """Stable id of a text: 64-bit BLAKE2 of its normalised form, 16 hex digits."""
    return id_of_normalised(normalise(text))


def id_of_normalised(normalised: str) -> str:
    """`text_id` for a text that went through `normalise` already."""
    return hashlib.blake2b(normalised.encode("utf-8"), digest_size=8).hexdigest()
