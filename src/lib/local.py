"""Which files of data_dir a local source reads, and in which role."""

from __future__ import annotations

import fnmatch
from collections import Counter
from pathlib import Path

from lib import readers
from lib.errors import SourceUnavailable, UserError
from lib.schema import GoldDataParams
from lib.source import Source

ROLES = ("test", "gold", "foreign", "corpus")


def files(
    params: GoldDataParams, source: Source, others: list[Source] | None = None
) -> list[tuple[Path, str]]:
    """The files of a local source with their roles, in the order of their names.

    A file takes the role that names it in full; else the first role, in the order of ROLES, one
    of whose patterns matches. Names need not say `.gz`.

    Args:
        others: the run's other local sources; files that they declare are theirs.
    Raises:
        SourceUnavailable: a file that the registry declares is not there.
        UserError: no data_dir or no gold file for the user's own files, a named file that is not
            there or has two roles, or a file that is there twice, packed and unpacked.
    """
    folder = _folder(params, source)
    patterns = source.files or {role: tuple(getattr(params, f"{role}_files")) for role in ROLES}
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    if not source.file_format:
        names = [name for name in names if readers.is_readable(name)]
    if source.files:
        _check_declared(source, folder, names)
    else:
        _check_named(folder, names, patterns)
        names = _without_declared(names, patterns, others or [])
    found = [(name, role) for name in names if (role := _role(name, patterns))]
    _check_packed_twice(folder, [name for name, _ in found])
    if not source.files and not any(role == "gold" for _, role in found):
        raise UserError(
            f"01_gold_data.data_dir: no gold file of source {source.name!r}: nothing in {folder} "
            f"matches {list(patterns['gold'])} (files there: {names}); rename the labelled file or "
            "name it with -p 'gold_files=[FILE.csv]'"
        )
    return [(folder / name, role) for name, role in found]


def _folder(params: GoldDataParams, source: Source) -> Path:
    kind = SourceUnavailable if source.files else UserError
    what = f"its files {_expected(source)}" if source.files else "your files"
    if params.data_dir is None:
        raise kind(
            f"01_gold_data.data_dir: the source {source.name!r} needs a folder with {what}; "
            "give it in the parameter file or with -p data_dir=FOLDER"
        )
    folder = Path(params.data_dir).expanduser()
    if not folder.is_dir():
        raise kind(
            f"01_gold_data.data_dir: {folder} is not a folder; the source {source.name!r} needs "
            f"one with {what}"
        )
    return folder


def _expected(source: Source) -> str:
    return ", ".join(pattern for wanted in source.files.values() for pattern in wanted)


def _check_declared(source: Source, folder: Path, names: list[str]) -> None:
    patterns = [pattern for wanted in source.files.values() for pattern in wanted]
    missing = [
        pattern for pattern in patterns if not any(_matches(name, pattern) for name in names)
    ]
    if missing:
        raise SourceUnavailable(
            f"source {source.name!r} has no hub copy: no file {', '.join(missing)} in {folder}; "
            f"fetch it ({source.citation}) and put it there, remove the source from "
            "01_gold_data.sources, or set skip_unavailable to true"
        )


def _check_named(folder: Path, names: list[str], patterns: dict[str, tuple[str, ...]]) -> None:
    """What a user names without `*` must be there, and only once."""
    roles: dict[str, list[str]] = {}
    for role, wanted in patterns.items():
        for name in wanted:
            if not _is_pattern(name):
                roles.setdefault(name, []).append(role)
    for name, given in roles.items():
        parameters = " and ".join(f"{role}_files" for role in given)
        if len(given) > 1:
            raise UserError(
                f"01_gold_data: {name} is listed in {parameters}; a file has one role, remove it "
                "from all but one"
            )
        if name not in names and f"{name}.gz" not in names:
            raise UserError(
                f"01_gold_data.{parameters}: no readable file {name} in {folder} (files there: "
                f"{names}; {', '.join(readers.FORMATS)}, the text ones also as .gz)"
            )


def _without_declared(
    names: list[str], patterns: dict[str, tuple[str, ...]], others: list[Source]
) -> list[str]:
    rest = []
    for name in names:
        owner = next((other for other in others if _role(name, other.files)), None)
        if owner is None:
            rest.append(name)
        elif any(_is_named(name, wanted) for wanted in patterns.values()):
            raise UserError(
                f"01_gold_data: {name} belongs to the source {owner.name!r} and is also listed in "
                f"{', '.join(f'{role}_files' for role in ROLES)}; remove one of them"
            )
    return rest


def _check_packed_twice(folder: Path, names: list[str]) -> None:
    counts = Counter(name.removesuffix(".gz") for name in names)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise UserError(f"{folder} has {twice[0]} and {twice[0]}.gz; remove one of them")


def _role(name: str, patterns: dict[str, tuple[str, ...]]) -> str | None:
    for matches in (_is_named, _is_matched):
        for role, wanted in patterns.items():
            if matches(name, wanted):
                return role
    return None


def _is_named(name: str, wanted: tuple[str, ...]) -> bool:
    return name in wanted or name.removesuffix(".gz") in wanted


def _is_matched(name: str, wanted: tuple[str, ...]) -> bool:
    return any(_matches(name, pattern) for pattern in wanted)


def _matches(name: str, pattern: str) -> bool:
    names = {name, name.removesuffix(".gz")}
    return pattern in names or any(fnmatch.fnmatchcase(each, pattern) for each in names)


def _is_pattern(name: str) -> bool:
    return any(character in name for character in "*?[")
