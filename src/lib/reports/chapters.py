"""The chapters of a run: what it holds of each, and whether that belongs together.

A report never mixes without saying so. A chapter is *stale* if something that it read is no longer
what the run holds, or comes from a stale chapter; its page is *foreign* if the executed notebook
shows another execution than the one that left the artefacts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import count
from pathlib import Path

import nbformat
from markupsafe import Markup
from nbconvert import HTMLExporter

from lib.artefacts import Manifest, changed_inputs, executed_notebook, read_manifest
from lib.files import digest
from lib.parameters import APPENDICES, CHAPTERS, STEPS
from lib.reports.page import JSON, TEMPLATES


@dataclass(frozen=True)
class Chapter:
    """One step or appendix of a run.

    Attributes:
        manifest: of its artefacts; None if it is not complete.
        path: of its executed notebook, which need not be there.
        changed: what it read and the run no longer holds so, as `step/file`.
        late: the stale chapters that it read.
        mend: name of the first chapter to run again.
    """

    name: str
    manifest: Manifest | None
    path: Path
    changed: list[str]
    late: list[str]
    mend: str

    @property
    def number(self) -> str:
        """`04`, or the word of an appendix."""
        return self.name[:2] if self.name in STEPS else self.name.removeprefix("appendix_")

    @property
    def stale(self) -> bool:
        """Whether it was computed from what the run no longer holds."""
        return bool(self.changed or self.late)

    @property
    def command(self) -> str:
        """What to add to `python -m lib run …` to mend it."""
        first = min(self.mend, list(STEPS)[-1])[:2]  # what is current is skipped
        return f"--from {first}" + (" --appendix" if self.name in APPENDICES else "")

    @cached_property
    def notebook(self) -> nbformat.NotebookNode | None:
        """The executed notebook, if there is one."""
        return nbformat.read(self.path, as_version=4) if self.path.exists() else None

    @cached_property
    def foreign(self) -> bool:
        """Whether the notebook is of another execution than the artefacts."""
        shown = self.notebook and self.notebook.metadata.get("manifest")
        return bool(shown and self.manifest) and shown != digest(self.manifest)

    @cached_property
    def title(self) -> str:
        """The notebook's first heading."""
        first = self.notebook.cells[0].source if self.notebook else self.name
        return first.splitlines()[0].lstrip("# ").strip()

    @cached_property
    def body(self) -> Markup:
        """The notebook as HTML."""
        notebook, heading = self.notebook or nbformat.v4.new_notebook(), self.title
        for number, cell in enumerate(notebook.cells):
            cell.id = f"{self.name}-{number}"  # several chapters may share a page
            if cell.cell_type == "markdown":
                heading = [heading, *re.findall(r"^##+ (.+)$", cell.source, re.MULTILINE)][-1]
            cell.metadata["alt"] = f"Figure: {heading}"
        text, _ = _exporter().from_notebook_node(notebook)
        numbers = count()
        return Markup(re.sub("<h2>", lambda _: f'<h2 id="{self.name}-{next(numbers)}">', text))

    @cached_property
    def headings(self) -> list[tuple[str, str]]:
        """(id, text) of the second-level headings, in order."""
        found = re.findall(r'<h2 id="(.*?)">(.*?)</h2>', self.body, re.DOTALL)
        return [(identity, Markup(text).striptags()) for identity, text in found]


def read(run_dir: Path) -> list[Chapter]:
    """The steps of a run in their order, then the appendices that it has."""
    found: dict[str, Chapter] = {}
    for name in CHAPTERS:
        path = executed_notebook(run_dir, name)
        if name in APPENDICES and not path.exists():
            continue
        manifest = read_manifest(run_dir, name)
        changed = changed_inputs(run_dir, manifest) if manifest else []
        inputs = manifest["inputs"] if manifest else []
        upstream = {file.partition("/")[0] for file in inputs} & set(found)
        late = sorted(step for step in upstream if found[step].stale)
        begun = [found[step].mend for step in late]
        begun += [step for step in upstream if found[step].manifest is None]
        found[name] = Chapter(name, manifest, path, changed, late, min([name, *begun]))
    return list(found.values())


@cache
def _exporter() -> HTMLExporter:
    exporter = HTMLExporter(
        template_file=str(TEMPLATES / "notebook.html.j2"),
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        exclude_anchor_links=True,  # the contents lead to the headings
    )
    exporter.environment.policies["json.dumps_kwargs"] = JSON
    return exporter
