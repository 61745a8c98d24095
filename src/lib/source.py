"""What an entry of the registry says about a data set."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from lib.readers import Format

Labels = dict[str, str | None]
"""Original label in lower case -> class, or None for a text without a sentiment label."""


@dataclass(frozen=True)
class Source:
    """One data set.

    kind: `hub` (streamed), `local` (files in data_dir) or `sample` (in this package).
    role: `gold` rows are training and test labels; `corpus` rows are unlabelled to the process,
        and their labels, if any, are audit labels that are never trained on; `foreign` rows are
        labelled texts in other languages, from which 03's linear probe learns, too.
    test_split: hub: the official test split, never used for anything else.
    mirror_of: hub: the id of the data set that this one is a copy of.
    files: local: role (test, gold, foreign, corpus) -> file names, each of which may have `*`;
        empty means the run's own patterns.
    file_format: local: how the files are written, if their extension does not say it.
    text_columns: each gives a text of its own, or all together one text if `joined`.
    label_column: None: no sentiment labels, or the file's name is the label (`label_is_file`).
    says_origin: rows may say where they come from, in the columns `source` and `original_label`.
    labels: what the labels mean; any other label stops the run.
    neutral_below: the labels are scores instead, and nearer to 0 than this is neutral.
    optional_labels: parameter -> labels that are added if it is true.
    parameters: field of the entry -> parameter that sets it, see `lib.registry.configured`.
    filters: column -> value that rows must have.
    russian: Russian by construction; if not, cleaning checks the language of each text.
    emoticon_labels: the labels were made from emoticons, so texts lose theirs when read.
    """

    name: str
    kind: Literal["hub", "local", "sample"]
    role: Literal["gold", "corpus", "foreign"]
    hub_id: str = ""
    revision: str | None = None
    config: str | None = None
    splits: tuple[str, ...] = ("train",)
    test_split: str | None = None
    mirror_of: str = ""
    files: dict[str, tuple[str, ...]] = field(default_factory=dict)
    file_format: Format | None = None
    text_columns: tuple[str, ...] = ("text",)
    joined: bool = False
    label_column: str | None = None
    label_is_file: bool = False
    says_origin: bool = False
    labels: Labels = field(default_factory=dict)
    neutral_below: float | None = None
    optional_labels: dict[str, Labels] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)
    filters: dict[str, str] = field(default_factory=dict)
    russian: bool = True
    emoticon_labels: bool = False
    licence: str = "not stated"
    citation: str = ""

    @property
    def columns(self) -> list[str]:
        """The columns that must be there."""
        label = [self.label_column] if self.label_column else []
        return list(dict.fromkeys([*self.text_columns, *label, *self.filters]))

    @property
    def is_own(self) -> bool:
        """Whether it is the user's own files, which can be mended."""
        return self.kind == "local" and not self.files

    @property
    def place(self) -> str:
        """Where it is, in words; for the hub its id and revision."""
        if self.kind == "hub":
            return f"{self.hub_id}@{self.revision[:8] if self.revision else 'unpinned'}"
        return "files in data_dir" if self.kind == "local" else "this package"

    @property
    def mapping(self) -> str:
        """The labels in words: `0 1 = negative; 2 = neutral`."""
        if self.neutral_below is not None:
            return f"score; between -{self.neutral_below} and {self.neutral_below} = neutral"
        originals: dict[str | None, list[str]] = {}
        for original, name in self.labels.items():
            originals.setdefault(name, []).append(original or "(empty)")
        return "; ".join(
            name if names == [name] else f"{' '.join(names)} = {name or 'no label'}"
            for name, names in originals.items()
        )
