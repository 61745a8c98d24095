"""The long part of a step in several processes, without Papermill.

    accelerate launch --cpu --num_processes 2 -m lib step 03_embed_corpus params/demo.yaml

Each process executes the code cells of the step's notebook up to the one tagged `long`, which
embeds or trains. What that leaves (shards, training states) is what an interrupted run would leave:
`python -m lib run` then runs the notebook, which finds this work done.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from lib import artifacts, code
from lib.errors import UserError
from lib.schema import StepParams

LONG = "long"


def run_long_part(name: str, run_dir: Path, params: StepParams) -> None:
    """Execute a step's notebook up to its long cell, in this process.

    Raises:
        UserError: the step has no long part, or an earlier step is not complete.
    """
    cells = long_part(name)
    if artifacts.is_current(name, run_dir, params):
        return
    variables = {"__name__": name}
    with _working_directory(code.notebook_path(name).parent):
        for cell in cells:
            if "parameters" in cell["metadata"].get("tags", []):
                variables |= {"run_dir": str(run_dir)} | params.model_dump(mode="json")
            else:
                exec(compile("".join(cell["source"]), f"{name} {cell['id']}", "exec"), variables)


def long_part(name: str) -> list[dict]:
    """The code cells of a step's notebook up to the one tagged `long`.

    Raises:
        UserError: no cell has that tag.
    """
    cells = json.loads(code.notebook_path(name).read_text(encoding="utf-8"))["cells"]
    cells = [cell for cell in cells if cell["cell_type"] == "code"]
    for number, cell in enumerate(cells):
        if LONG in cell["metadata"].get("tags", []):
            return cells[: number + 1]
    raise UserError(f"{name} has no part for several processes; 02, 03 and 05 have")


@contextlib.contextmanager
def _working_directory(path: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(path)
    try:
        yield
    finally:
        os.chdir(before)
