"""Emoticons, for texts whose labels were made from them."""

from __future__ import annotations

import re

_EMOTICON = re.compile(
    r"""
    (?<![\w:;=])[xXхХ][-']?[DdД]+(?!\w)                     # xD
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
_RUN = re.compile(r"\){2,}|\({2,}")
_SPACES = re.compile(r"[ \t]{2,}")


def strip(text: str) -> str:
    """The text without emoticons: :-) ;( =D xD o_O ^_^ <3, faces, and single or repeated brackets
    without a partner, which stand for a smile or a frown. Pairs of brackets stay.

    The result has no emoticon: `strip(strip(text)) == strip(text)`.
    """
    while True:
        stripped = _strip_brackets(_RUN.sub(" ", _EMOTICON.sub(" ", text)))
        stripped = _SPACES.sub(" ", stripped).strip()
        if stripped == text:
            return text
        text = stripped


def _strip_brackets(text: str) -> str:
    """Remove round brackets without a partner."""
    if "(" not in text and ")" not in text:
        return text
    lone, opened = [], []
    for place, character in enumerate(text):
        if character == "(":
            opened.append(place)
        elif character == ")":
            if opened:
                opened.pop()
            else:
                lone.append(place)
    characters = list(text)
    for place in lone + opened:
        characters[place] = " "
    return "".join(characters)
