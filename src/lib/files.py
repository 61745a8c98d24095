"""Files: written whole or not at all, told apart by digest, shared by hard links."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lib.errors import UserError

if TYPE_CHECKING:  # half a second in every new process, and an exported model needs none of it
    import pandas as pd

log = logging.getLogger(__name__)

Kind = TypeVar("Kind")

FORMULA = r"^\s*[=+\-@＝＋－＠]|^[\t\r\n]"  # the wide forms count in East Asian settings
NEUTRALISED = rf"^'(?={FORMULA.replace('^', '')})"


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path in the same folder that becomes `path` only if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place only if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield temporary
        make_readable(temporary)
        replace_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def make_readable(folder: Path) -> None:
    """Let others on the machine read a folder and all in it: 0755 and 0644."""
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def replace_folder(new: Path, target: Path) -> None:
    """Put the folder `new` in the place of `target`; a kill in between loses neither.

    The old folder waits as `.<name>.old` until the new one is there; `recover` does the rest.
    """
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        os.replace(target, old)
    os.replace(new, target)
    shutil.rmtree(old, ignore_errors=True)


def recover(target: Path) -> None:
    """Put back the folder that a killed `replace_folder` had moved aside, or finish removing it."""
    old = target.with_name(f".{target.name}.old")
    if target.exists():
        shutil.rmtree(old, ignore_errors=True)
    elif old.exists():
        os.replace(old, target)


def link_tree(source: Path, target: Path) -> None:
    """Make `target` a folder of the same files as `source`: hard links, or copies where none are.

    Files of a run are replaced, never changed in place, so a link stays what it was.
    """

    def link(one: str, other: str) -> None:
        try:
            os.link(one, other)
        except OSError:
            shutil.copy2(one, other)

    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, copy_function=link)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically: UTF-8, indented, keys as given; NaN is refused."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False))


def write_text(path: Path, text: str) -> None:
    """Write a text atomically, as UTF-8."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_parquet(path: Path, frame: pd.DataFrame) -> None:
    """Write a frame as Parquet, atomically, without its index."""
    with atomic(path) as temporary:
        frame.to_parquet(temporary, index=False)


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def read_record(path: Path, kind: type[Kind]) -> Kind | None:
    """Read a JSON file of what can be made again: a dict, a list or a text, as `kind` says.

    Returns:
        None if it is not there, or damaged, which the log says.
    """
    if not path.exists():
        return None
    try:
        if isinstance(found := read_json(path), kind):
            return found
        reason = f"expected a {kind.__name__}, found {json.dumps(found)[:20]}"
    except ValueError as error:
        reason = str(error)
    log.warning("%s is damaged (%s): it counts as not there", path, reason)
    return None


def read_commits(path: Path) -> dict[str, Any]:
    """Read a JSON file of name on the hub -> commit; empty if it is not there.

    Raises:
        UserError: it is damaged.
    """
    try:
        return {**read_json(path)} if path.exists() else {}
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{path} is damaged; remove it, and the newest revision is taken"
        ) from error


def digest(value: Any) -> str:
    """SHA-256 of a JSON-like value, 16 hex digits."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, 16 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def folder_digests(folder: Path) -> dict[str, str]:
    """Path in the folder -> `file_digest`, for all files in it."""
    return {
        file.relative_to(folder).as_posix(): file_digest(file)
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def lengths(folder: Path) -> dict[str, int]:
    """Path in the folder -> bytes, for all files in it."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in found}


def damage(folder: Path, expected: dict[str, int]) -> str | None:
    """The files of a folder that are missing or have another length, in words; None: all whole.

    Args:
        expected: of `lengths`.
    """
    found = []
    for file, size in expected.items():
        path = folder / file
        if not path.exists():
            found.append(f"{path} is missing")
        elif (length := path.stat().st_size) != size:
            found.append(f"{path} is damaged: {length:,} of {size:,} bytes")
    return "; ".join(found) or None


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """Write a frame as CSV for people, atomically, without its index.

    A spreadsheet takes a cell that begins with = + - @ for a formula and runs it, so a text from
    the data could send the sheet's content away: such cells get an apostrophe in front, which
    `restore` takes off. UTF-8 with a byte order mark, without which Excel garbles Cyrillic letters.

    Reference:
        OWASP, "CSV Injection".
    """
    texts = frame.select_dtypes(include=["object", "string", "category"])
    safe = frame.assign(**{str(name): neutralise(texts[name]) for name in texts})
    with atomic(path) as temporary:
        safe.to_csv(temporary, index=False, encoding="utf-8-sig")


def neutralise(texts: pd.Series) -> pd.Series:
    """The same texts with an apostrophe in front of those that look like a formula."""
    texts = texts.astype(object)
    looks = texts.str.contains(FORMULA, regex=True, na=False)
    return texts.where(~looks, "'" + texts)


def restore(texts: pd.Series) -> pd.Series:
    """Undo `neutralise`."""
    return texts.astype(object).str.replace(NEUTRALISED, "", regex=True)
