"""CSV files for people, who open them in a spreadsheet.

A spreadsheet takes a cell that begins with = + - @ for a formula and runs it, so a text from the
data could send the sheet's content away. Such cells get an apostrophe in front, which spreadsheets
show as part of the text; whoever reads the file by program removes it with `restore`.

Reference: OWASP, "CSV Injection".
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from lib.artifacts import atomic

FORMULA = r"^\s*[=+\-@＝＋－＠]|^[\t\r\n]"  # the wide forms count in East Asian settings
NEUTRALISED = rf"^'(?={FORMULA.replace('^', '')})"


def neutralise(texts: pd.Series) -> pd.Series:
    """The same texts with an apostrophe in front of those that look like a formula."""
    texts = texts.astype(object)
    looks = texts.str.contains(FORMULA, regex=True, na=False)
    return texts.where(~looks, "'" + texts)


def restore(texts: pd.Series) -> pd.Series:
    """Undo `neutralise`."""
    return texts.astype(object).str.replace(NEUTRALISED, "", regex=True)


def write_csv(path: Path, frames: Iterable[pd.DataFrame]) -> int:
    """Write frames with the same columns as one CSV file, atomically; texts are neutralised.

    UTF-8 with a byte order mark, without which Excel shows Cyrillic letters as nonsense.

    Returns:
        The number of rows.
    """
    rows = 0
    with atomic(path) as temporary, temporary.open("w", encoding="utf-8-sig", newline="") as file:
        for number, frame in enumerate(frames):
            texts = frame.select_dtypes(include=["object", "string", "category"])
            safe = frame.assign(**{name: neutralise(texts[name]) for name in texts})
            safe.to_csv(file, index=False, header=number == 0)
            rows += len(frame)
    return rows
