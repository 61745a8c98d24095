"""Text files: unpacked, their encoding detected, each byte kept that is not of it."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from lib.errors import UserError

PACKED = (".gz", ".zip")
ENCODINGS = ("cp1251", "koi8-r", "cp866", "mac-cyrillic")
"""What Russian files come in besides Unicode; the first wins a tie."""
SIGNS = "«»“”„‘’—–…№§€°•·±©®™†‡‰"  # that Russian texts may have beside letters
_UNICODE = "\x80-\xffЀ-ӿ\u2000-\u27ff⭐\ufe0f\U0001f000-\U0001ffff"
"""What UTF-8 of Russian texts has: letters, signs, emoji. Not what cp866 gives by chance: "так" is
three bytes of a Braille pattern."""
BLOCK = 2**16  # bytes that are looked at together


def unpacked(name: str) -> str:
    """The name without `.gz` or `.zip`."""
    return name[: name.rindex(".")] if name.lower().endswith(PACKED) else name


def detect(path: Path) -> str:
    """By byte order mark, zeros of UTF-16, valid UTF-8, or the letters of Russian, in this order.

    Looks at the first bytes that are not ASCII. A file half of whose other bytes are UTF-8 of
    Russian is that, with damage. Letters, because files may be short: on 10 characters of the
    sample they err in 18 of 600 files (16 of mac-cyrillic), on 60 in 1; charset-normalizer, between
    the same encodings, in 197 and in 59.
    """
    with unpacked_bytes(path) as file:
        sample = file.read(BLOCK)
        for mark, name in (
            (codecs.BOM_UTF8, "utf-8-sig"),
            (codecs.BOM_UTF16_LE, "utf-16"),
            (codecs.BOM_UTF16_BE, "utf-16"),
        ):
            if sample.startswith(mark):
                return name
        for offset, name in ((1, "utf-16-le"), (0, "utf-16-be")):
            high = sample[offset::2]  # 0 for Latin letters and signs, 4 for Cyrillic ones
            if high and (high.count(0) + high.count(4)) / len(high) > 0.8:
                return name
        while sample.isascii() and (more := file.read(BLOCK)):
            sample = more
        sample += file.read(BLOCK)
    with contextlib.suppress(UnicodeDecodeError):
        codecs.getincrementaldecoder("utf-8")().decode(sample)  # its end may be cut
        return "utf-8"
    known = "".join(re.findall(f"[{_UNICODE}]", sample.decode("utf-8", errors="ignore")))
    if 2 * len(known.encode()) >= sum(byte > 127 for byte in sample):
        return "utf-8"
    return max(ENCODINGS, key=lambda name: _russian(sample, name))


def _russian(sample: bytes, encoding: str) -> int:
    """How much a text looks like Russian: frequent letters, less what no Russian text has.

    A capital letter of mac-cyrillic is a sign in cp1251, as И and €. What stands beside it tells
    them apart; where nothing does, it is cp1251: files of a Macintosh are rare today.
    """
    text = sample.decode(encoding, errors="replace")
    frequent = sum(map(text.lower().count, "оаетинсрлв"))
    beside = r"[а-яё][А-ЯЁ]|[а-яё]€|(?<!\w)[€†‡‰™‘’][а-яё]"
    if encoding == "mac-cyrillic":
        beside += r"|\d[А-ЯЁ]"  # a price
    wrong = re.findall(rf"{beside}|[^\x00-\x7fА-яЁё\xa0{SIGNS}]", text)
    return frequent - 3 * len(wrong) - (encoding == "mac-cyrillic")


def undecoded(text: str, encoding: str | None) -> str | None:
    """The problem of a text with a byte that its encoding does not have (see `opened`), or whose
    bytes are UTF-8 in a file of another encoding."""
    if text.isascii():
        return None
    if encoding and not codecs.lookup(encoding).name.startswith("utf"):
        with contextlib.suppress(UnicodeError):
            meant = text.encode(encoding, errors="surrogateescape").decode("utf-8")
            # one letter may be two signs by chance, as Ӆ is У…
            certain = re.search("[А-яЁё].*[А-яЁё]|[\U0001f000-\U0001ffff]", meant, re.DOTALL)
            if certain and re.fullmatch(f"[\0-\x7f{_UNICODE}]+", meant):
                return (
                    f"UTF-8 in a file of {encoding.upper()} ({meant.strip()[:20]!r}); write all of "
                    "it in one encoding, best in UTF-8"
                )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        byte = ord(text[error.start]) & 0xFF
        return (
            f"not {(encoding or '').removesuffix('-sig').upper()} (byte 0x{byte:02x}); "
            "save the file as UTF-8"
        )
    return None


@contextlib.contextmanager
def opened(path: Path, encoding: str | None) -> Iterator[IO[str]]:
    """A text file, unpacked; a byte that is not of its encoding becomes a lone surrogate, which
    `errors="surrogateescape"` writes as that byte again."""
    options: dict[str, Any] = {"encoding": encoding, "errors": "surrogateescape", "newline": ""}
    with unpacked_bytes(path) as file, io.TextIOWrapper(file, **options) as text:
        yield text


@contextlib.contextmanager
def unpacked_bytes(path: Path) -> Iterator[IO[bytes]]:
    """The content of a file, unpacked if its name ends in .gz or .zip."""
    name = path.name.lower()
    if not name.endswith(".zip"):
        packed: Any = gzip.open if name.endswith(".gz") else open
        with packed(path, "rb") as file:
            yield file
        return
    with zipfile.ZipFile(path) as archive:
        names = [n for n in archive.namelist() if not re.search(r"(^|/)(__MACOSX/|\.)|/$", n)]
        if len(names) != 1:
            raise UserError(f"{path} holds {len(names)} files, expected one; unpack it")
        with archive.open(names[0]) as file:
            yield file
