"""A look at all files before they are read: format, columns, labels, and what is left out.

All problems are named at once. What the labels of the user's own files mean is decided here: file
by file, the one entry of `label_choices` that has all of its labels.
"""

from __future__ import annotations

import difflib
import itertools
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lib import LABELS
from lib.data import readers, sources
from lib.data.cleaning import clean
from lib.data.gold import no_class
from lib.data.registry import NOTHING, Source, classes_of
from lib.data.sources import Portion, left_out, plain_label, shortened, texts_of
from lib.errors import UserError
from lib.parameters import GoldDataParams

FIRST = 20_000  # rows of each file that are looked at before a run starts
USUAL = {
    "text": "text texts review comment content message body отзыв текст комментарий сообщение",
    "label": "label labels sentiment class rating score stars grade оценка тональность метка класс",
}
"""Parameter `text_column` and so on -> usual names of such columns, for suggestions."""


@dataclass
class _Look:
    """labels: plain label -> its first place; whole: no rows are left to look at."""

    portion: Portion
    labels: dict[str, str] = field(default_factory=dict)
    whole: bool = True

    @property
    def fits(self) -> list[str]:
        """The choices that have all labels; of several, when all rows are known, those all of whose
        labels are there: 1 to 5 are stars, but 6 to 10 may follow."""
        choices = self.portion.source.label_choices
        fits = [name for name in choices if self.labels.keys() <= classes_of(choices[name]).keys()]
        complete = [name for name in fits if self.labels.keys() >= self._all(name)]
        return (self.whole and complete) or fits

    @property
    def complete(self) -> bool:
        """Whether more labels could not tell the choices that fit from each other."""
        return self.whole or all(self.labels.keys() >= self._all(name) for name in self.fits)

    @property
    def more_may_tell(self) -> bool:
        """Whether further rows can decide: not between choices that have the same labels."""
        return len({frozenset(self._all(name)) for name in self.fits}) > 1

    def _all(self, choice: str) -> set[str]:
        return {*classes_of(self.portion.source.label_choices[choice])} - {*NOTHING}


def examine(params: GoldDataParams, most: int | None = None) -> tuple[list[Portion], list[str]]:
    """The portions of a run, each with what its labels mean, and in words what was found.

    Args:
        most: rows of each file that are looked at; None: all.
    Raises:
        UserError: with a line for each file that cannot be used, or whose labels may mean this or
            that; a class that no gold text has.
    """
    found, problems, looks = sources.portions(params), [], {}
    for number, portion in enumerate(found):
        if isinstance(portion.part, Path):
            try:
                looks[number] = _look(portion, most)
            except UserError as error:
                problems.append(f"source {portion.source.name!r}: {error}{_hint(error, portion)}")
    own = [look for look in looks.values() if look.portion.source.label_choices]
    sure = {look.fits[0] for look in own if look.labels and len(look.fits) == 1}
    # what a file may turn out to be, and with it those beside it
    undecided = [x for x in own if x.labels and len(x.fits) > 1 and not x.complete]
    later = {name for look in undecided for name in look.fits}
    notes = []
    for number, look in looks.items():
        if look in own:
            try:
                found[number], words = _decided(look, sure, later)
                notes.append(f"{look.portion.name} ({look.portion.role}): {words}")
            except UserError as error:
                problems.append(f"source {look.portion.source.name!r}: {error}")
    if not problems and (absent := _absent_classes(found, looks)):
        problems.append(str(no_class(absent)))
    if problems:
        raise UserError("\n".join(problems))
    if rest := left_out(params, found):
        notes.append(f"not read: {shortened(rest)}")
    return found, [clean(note) for note in notes]


def _look(portion: Portion, most: int | None) -> _Look:
    look, source = _Look(portion), portion.source
    rows = portion.records(Path())
    for place, row in itertools.islice(rows, most):
        texts_of(source, place, row)
        if source.label_column in row:
            look.labels.setdefault(plain_label(row[source.label_column]), place)
    look.whole = next(rows, None) is None
    choices = [classes_of(labels) for labels in source.label_choices.values()]
    for nothing in NOTHING:
        if not any(classes.get(nothing) for classes in choices):
            look.labels.pop(nothing, None)
    return look


def _decided(look: _Look, sure: set[str], later: set[str]) -> tuple[Portion, str]:
    """The portion with the meaning of its labels, and its description."""
    portion, source = look.portion, look.portion.source
    fits = look.fits
    if not fits:
        raise UserError(_unknown(look))
    # as in the files beside it
    if len(fits) > 1 and len(sure.intersection(fits)) == 1 and not later.intersection(fits):
        fits = [*sure.intersection(fits)]
    labels = source.label_choices[fits[0]]
    words = [_written(portion)]
    if not look.labels:
        words.append("no labels")
    elif len(fits) > 1 and not (later.intersection(fits) and look.more_may_tell):
        raise UserError(
            f"{portion.part}, column {source.label_column}: labels {_some(look.labels)} may be "
            f"{' or '.join(f'{n} ({_meaning(look, source, n)})' for n in fits)}; say which: "
            f"01_gold_data.local_labels: {fits[0]}, or a mapping by hand"
        )
    elif len(fits) > 1:
        words.append(f"labels {_some(look.labels)}, to be decided when all rows are read")
    else:
        words.append(f"labels are {fits[0]} ({_meaning(look, source, fits[0])})")
    decided = replace(portion, source=source.model_copy(update={"labels": labels}))
    return decided, ", ".join(filter(None, words))


def _unknown(look: _Look) -> str:
    """The message about labels that fit nothing; the nearest choice says which are wrong."""
    source = look.portion.source
    known = {name: classes_of(labels) for name, labels in source.label_choices.items()}
    best = max(known, key=lambda name: len(known[name].keys() & look.labels.keys()))
    wrong = [label for label in look.labels if label not in known[best]]
    near = difflib.get_close_matches(wrong[0], [n for n in known[best] if n not in NOTHING], n=1)
    return (
        f"{look.labels[wrong[0]]}, column {source.label_column}: unknown label {wrong[0]!r}"
        f"{f'; the nearest valid name is {near[0]!r}' if near else ''}; labels of the file: "
        f"{_some(look.labels)}; known: {', '.join(known)}. Correct them, or say what they mean: "
        "01_gold_data.local_labels: {negative: […], neutral: […], positive: […], none: […]}"
    )


def _meaning(look: _Look, source: Source, choice: str) -> str:
    classes = classes_of(source.label_choices[choice])
    found = sorted((label for label in look.labels), key=[*classes].index)
    groups = itertools.groupby(found, key=lambda label: classes[label] or "none")
    return "; ".join(f"{_some([*labels])}: {name}" for name, labels in groups)


def _some(labels: Iterable[str]) -> str:
    return shortened(sorted(labels))


def _written(portion: Portion) -> str:
    """Encoding and delimiter of a text file, in words."""
    if not isinstance(portion.part, Path) or readers.extension(portion.name) in ("parquet", "xlsx"):
        return ""
    written = readers.detect(portion.part, portion.needed, portion.source.file_format)
    delimiter = f", delimiter {written.delimiter!r}" if written.delimiter else ""
    return f"{written.encoding}{delimiter}"


def _hint(error: UserError, portion: Portion) -> str:
    """Which parameters would name the columns that were not found."""
    source = portion.source
    if not isinstance(error, readers.MissingColumn) or not source.label_choices:
        return ""
    names = {source.text_columns[0]: "text", source.label_column or "": "label"}
    parts = []
    for column in error.columns:
        kind = names.get(column, "source")
        near: Sequence[str] = [c for c in error.found if c.lower() in USUAL.get(kind, "").split()]
        near = near or difflib.get_close_matches(column, error.found, n=1, cutoff=0.0)
        parts += [f"-p {kind}_column={shlex.quote(name)}" for name in near[:1]]
    return f"; the nearest columns: {' '.join(parts)}" if parts else ""


def _absent_classes(found: list[Portion], looks: dict[int, _Look]) -> list[str]:
    """Classes that certainly no gold text has."""
    classes: set[str | None] = set()
    for number, portion in enumerate(found):
        if portion.role == "corpus":
            continue
        if number not in looks or not looks[number].whole:
            return []
        known = portion.source.classes
        classes |= {known.get(label) for label in looks[number].labels}
    return [name for name in LABELS if name not in classes]
