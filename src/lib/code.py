"""A step's code: its fingerprint, and the commit that it belongs to.

The fingerprint covers the notebook and the library modules that it uses, found by following import
statements, so that a change in a module concerns just the steps that import it, directly or through
others. Comments and layout do not count, nor do the modules that only read and check parameters:
their values are in the fingerprint of the step.
"""

from __future__ import annotations

import ast
import hashlib
import json
import subprocess
from functools import cache, lru_cache
from pathlib import Path

PACKAGE = Path(__file__).parent
PROJECT = PACKAGE.parent.parent
NEUTRAL = {"params", "schema"}
"""Modules that make parameters of files and cells; a new parameter concerns its own step."""


def notebook_path(step: str) -> Path:
    """The source notebook of a step."""
    return PROJECT / "notebooks" / f"{step}.ipynb"


def fingerprint(step: str) -> dict[str, str]:
    """Digest per file: the notebook's code cells and each module of `lib` behind them."""
    cells = json.loads(notebook_path(step).read_text(encoding="utf-8"))["cells"]
    sources = [
        "".join(cell["source"])
        for cell in cells
        if cell["cell_type"] == "code" and "parameters" not in cell["metadata"].get("tags", [])
    ]
    tree = ast.parse("\n".join(sources))
    found = {f"{step}.ipynb": _digest(tree)}
    waiting = _imports(tree)
    while waiting:
        module = waiting.pop()
        if f"{module}.py" not in found:
            tree = _parse(PACKAGE / f"{module}.py")
            found[f"{module}.py"] = _digest(tree)
            waiting |= _imports(tree)
    return dict(sorted(found.items()))


def commit() -> str | None:
    """The checked-out commit, 12 hex digits; None outside a git checkout or without git.

    Where tracked files differ from it, the words `with changes` follow.
    """
    try:
        if Path(_git("rev-parse", "--show-toplevel")).resolve() != PROJECT.resolve():
            return None  # installed somewhere inside another repository
        changed = _git("status", "--porcelain", "--untracked-files=no")
        return _git("rev-parse", "--short=12", "HEAD") + (" with changes" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str:
    # a status may write what it found into git's index: without that, it filters each notebook
    # with a changed time anew (seconds), every time
    command = ["git", "-C", str(PROJECT), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    return done.stdout.strip()


@cache
def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@lru_cache(maxsize=256)  # of a parsed module it is computed once: sweeps ask hundreds of times
def _digest(tree: ast.Module) -> str:
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16]


def _imports(tree: ast.Module) -> set[str]:
    """Names of the lib modules that a module imports at its top level."""
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            package, _, module = node.module.partition(".")
            if package == "lib":
                names |= {module} if module else {alias.name for alias in node.names}
    return {name for name in names - NEUTRAL if (PACKAGE / f"{name}.py").exists()}
