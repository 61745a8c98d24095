"""Which files of data_dir a local source reads, and in which role."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from pathlib import Path

from lib.data import readers
from lib.data.registry import Role, Source
from lib.errors import SourceUnavailable, UserError
from lib.parameters import GoldDataParams

ROLES: tuple[Role, ...] = ("test", "gold", "corpus")


def files(
    params: GoldDataParams, source: Source, others: Iterable[Source] = ()
) -> list[tuple[Path, Role]]:
    """The files of a local source with their roles, in the order of their names.

    A file takes the first of ROLES that names it in full; else the first, one of whose patterns
    matches. Names need not say `.gz`.

    Args:
        others: the run's other sources; files that they declare are theirs.
    Raises:
        SourceUnavailable: a file that the registry declares is not there.
        UserError: no data_dir or no gold file for the user's own files, a named file that is not
            there, or a file that is there twice, packed and unpacked.
    """
    patterns = source.files or {role: getattr(params, f"{role}_files") for role in ROLES}
    wanted = [(pattern, role) for role in ROLES for pattern in patterns.get(role, ())]
    what = ", ".join(pattern for pattern, _ in wanted) if source.files else "your files"
    kind = SourceUnavailable if source.files else UserError
    if params.data_dir is None or not Path(params.data_dir).expanduser().is_dir():
        given = f"{params.data_dir} is not a folder; " if params.data_dir else ""
        raise kind(
            f"01_gold_data.data_dir: {given}the source {source.name!r} needs a folder with {what}; "
            "name it with -p data_dir=FOLDER"
        )
    folder = Path(params.data_dir).expanduser()
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    if not source.file_format:
        names = [name for name in names if readers.is_readable(name)]
    if not source.files:
        taken = [p for other in others for given in other.files.values() for p in given]
        names = [name for name in names if not any(_matches(name, p) for p in taken)]
    found: dict[str, Role] = {}
    for pattern, role in sorted(wanted, key=lambda each: _is_pattern(each[0])):
        mine = [name for name in names if _matches(name, pattern)]
        found |= {name: found.get(name, role) for name in mine}
        if not mine and source.files:
            raise SourceUnavailable(
                f"source {source.name!r} has no hub copy: no file {pattern} in {folder}, it needs "
                f"{what}; fetch them ({source.citation}), remove the source from "
                "01_gold_data.sources, or set skip_unavailable to true"
            )
        if not mine and not _is_pattern(pattern):
            raise UserError(
                f"01_gold_data.{role}_files: no readable file {pattern} in {folder} that is no "
                f"other source's (files there: {names}; formats: {', '.join(readers.FORMATS)})"
            )
    for name in found:
        if f"{name}.gz" in found:
            raise UserError(f"{folder} has {name} and {name}.gz; remove one of them")
    if not source.files and "gold" not in found.values():
        raise UserError(
            f"01_gold_data.data_dir: no gold file of source {source.name!r}: nothing in {folder} "
            f"matches {params.gold_files} (files there: {names}); rename the labelled file or "
            "name it with -p 'gold_files=[FILE.csv]'"
        )
    return [(folder / name, found[name]) for name in sorted(found)]


def _matches(name: str, pattern: str) -> bool:
    names = name, name.removesuffix(".gz")
    return pattern in names or any(fnmatch.fnmatchcase(n, pattern) for n in names)


def _is_pattern(name: str) -> bool:
    return bool(set(name) & set("*?["))
