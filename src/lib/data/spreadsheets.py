"""Spreadsheets, row by row: a sheet is named `FILE.xlsx:SHEET`, without a name it is the first."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lib.errors import UserError
from lib.parameters import nearest


def split_sheet(path: Path) -> tuple[Path, str | None]:
    """The file and the sheet of `FILE.xlsx:SHEET`; without a sheet the first is meant."""
    found = re.fullmatch(r"(.*\.xlsx):(.+)", path.name, re.IGNORECASE)
    return (path.with_name(found[1]), found[2]) if found else (path, None)


def sheet_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Number and cells, as text, of each row of a sheet that is not empty."""
    with workbook(path) as sheets:
        name = split_sheet(path)[1] or next(iter(sheets), "")
        if name not in sheets:
            raise UserError(
                f"{path}: no sheet {name!r}{nearest(name, sheets)}, all sheets: {', '.join(sheets)}"
            )
        sheets[name].reset_dimensions()  # some programs write wrong ones
        for number, cells in enumerate(sheets[name].iter_rows(values_only=True), 1):
            if any(cell is not None for cell in cells):
                yield number, ["" if cell is None else str(cell) for cell in cells]


@contextlib.contextmanager
def workbook(path: Path) -> Iterator[dict[str, Any]]:
    """The sheets of a spreadsheet by name, to be read row by row."""
    import openpyxl  # slow to import, and few need it

    try:
        with split_sheet(path)[0].open("rb") as file:  # by name it must end in small letters
            book = openpyxl.load_workbook(file, read_only=True, data_only=True)
            yield {sheet.title: sheet for sheet in book.worksheets}
            book.close()
    except UserError:
        raise
    except Exception as error:  # openpyxl raises dozens of kinds
        reason = (str(error).splitlines() or ["no message"])[0][:200]
        raise UserError(f"{path}: not readable as a spreadsheet ({reason})") from error
