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
_ESCAPED_AMPERSANDS = re.compile(
    r"&(?:amp;?|AMP;?|#0*38(?:;|(?!\d))|#[xX]0*26(?:;|(?![\da-fA-F])))+"
)
MOST_ESCAPES = 16
_EMOTICON = re.compile(
    r"""
    (?<![\w:;=])[xXхХ][-']?[DdДД]+(?!\w)                     # xD
    | (?<!\w)[>}]?[:;=][-'`^o~]*[)(\]\[}{|*><@]+             # :-) ;( =] >:( :'(
    | [:;=][-'`^~]*[)(\]\[}{|*@]+                            # the same, right after a word
    | (?<!\d)[:;=][-'`^~]*[DdДPpРрсCcСOoОоЗзSsXxХх3]+(?!\w)  # :D ;P :3 :С, and not 2:3
    | [:;=][-'`^~]*[/\\]+(?![/\w])                           # :/ and not http://
    | (?<!\S)[)(\]\[D]+[-'`^~]*[:;=](?![\w)(])               # (: and D:
    | (?<!\w)[oOоО0]_+[oOоО0.](?!\w)                         # o_O
    | \^+[_.\-]*\^+ | (?<!\w)[>\-тТT=][_.]+[<\-тТT=](?!\w)   # ^_^ >_< -_- T_T
    | <+/?3+                                                 # <3 </3
    | [\u2639\u263a\u2764\U0001f600-\U0001f64f]\ufe0f?       # the emoji of faces, the heart
    """,
    re.VERBOSE,
)
_BRACKETS = re.compile(r"\){2,}|\({2,}")
_BRACKET_PAIR = re.compile(r"(\([^()]*\))|[()]")  # or a bracket that is not of a pair


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


def text_id(normalised: str) -> str:
    """Stable id of a normalised text: its 64-bit BLAKE2, 16 hex digits."""
    return hashlib.blake2b(normalised.encode("utf-8"), digest_size=8).hexdigest()


def strip_emoticons(text: str) -> str:
    """The text without emoticons, for texts whose labels were made from them.

    :-) ;( =D xD o_O ^_^ <3 go, faces, and single or repeated brackets without a partner, which
    stand for a smile or a frown. Pairs of brackets stay.
    """
    while True:
        stripped = _BRACKETS.sub(" ", _EMOTICON.sub(" ", text))
        stripped = _BRACKET_PAIR.sub(lambda match: match[1] or " ", stripped)
        stripped = re.sub(r"[ \t]{2,}", " ", stripped).strip()
        if stripped == text:
            return text
        text = stripped
