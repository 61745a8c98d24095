"""Spreadsheets, row by row: a sheet is named `FILE.xlsx:SHEET`, without a name it is the first."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from lib.errors import UserError
from lib.parameters import nearest

_MERGED = re.compile(rb"<(?:\w+:)?mergeCell\s[^>]*?ref=[\"']([A-Z]+\d+:[A-Z]+\d+)[\"']")
_ESCAPE = re.compile("_x(?!D[89A-F])([0-9A-F]{4})_", re.IGNORECASE)  # but of half a character


def split_sheet(path: Path) -> tuple[Path, str | None]:
    """The file and the sheet of `FILE.xlsx:SHEET`; without a sheet the first is meant."""
    found = re.fullmatch(r"(.*\.xlsx):(.+)", path.name, re.IGNORECASE)
    return (path.with_name(found[1]), found[2]) if found else (path, None)


def sheet_rows(path: Path, whole: Collection[str] = ()) -> Iterator[tuple[int, list[str]]]:
    """Number and cells, as text, of each row of a sheet that is not empty.

    Args:
        whole: columns, named in the first such row, that have a cell for each row.
    Raises:
        UserError: no such sheet, it is not readable, or cells of these columns are merged.
    """
    with workbook(path) as sheets:
        name = split_sheet(path)[1] or next(iter(sheets), "")
        if name not in sheets:
            raise UserError(
                f"{path}: no sheet {name!r}{nearest(name, sheets)}, all sheets: {', '.join(sheets)}"
            )
        sheets[name].reset_dimensions()  # some programs write wrong ones
        for number, cells in enumerate(sheets[name].iter_rows(values_only=True), 1):
            if any(cell is not None for cell in cells):
                texts = ["" if cell is None else _text(cell) for cell in cells]
                if whole:
                    _check_merged(path, sheets[name], number, texts, whole)
                    whole = ()
                yield number, texts


def _text(cell: Any) -> str:
    """A cell as text; Excel writes a carriage return as _x000D_."""
    text = str(cell)
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text) if "_x" in text else text


def _check_merged(
    path: Path, sheet: Any, first: int, names: list[str], whole: Collection[str]
) -> None:
    """Raises UserError if cells are merged over rows below the first, of which one has the value.

    openpyxl says nothing of it in a sheet that it reads row by row.
    """
    from openpyxl.utils.cell import range_boundaries

    with sheet._get_source() as file:  # an end of a block is looked at again with the next one
        rest, ranges = b"", set()
        for block in iter(lambda: file.read(2**16), b""):
            ranges.update(_MERGED.findall(rest + block))
            rest = (rest + block)[-200:]
    for cells in sorted(map(bytes.decode, ranges)):
        left, top, right, bottom = range_boundaries(cells)
        merged = [n for n in names[left - 1 : right] if n.strip() in whole]
        if merged and top < bottom and top > first:
            raise UserError(
                f"{path}: cells {cells} of column {merged[0]!r} are merged, so that only row {top} "
                "has the value; unmerge them and fill every row"
            )


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
