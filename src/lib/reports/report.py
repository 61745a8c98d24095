"""The report of a run: its executed notebooks as HTML, and a front page.

A folder that opens from disk: styles are inline, pictures embedded, plotly's script lies once
beside the pages. Or a single file with all of it, to send by mail.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

from lib.clusters import explorer
from lib.errors import UserError
from lib.reports import chapters, explorer_page, front, page

log = logging.getLogger(__name__)


def write(run_dir: Path) -> Path:
    """Render what a run has so far into <run_dir>/report; returns the path of index.html.

    Raises:
        UserError: no executed notebook in run_dir.
    """
    values = _values(run_dir)
    run = None
    # where 04 is stale, its clusters and the run's texts do not belong together
    if any(c.manifest and not c.stale for c in values["chapters"] if c.name == explorer.STEP):
        try:
            run = explorer.load(run_dir)
        except UserError as error:
            log.warning("the report has no explorer page: %s", error)
    values["with_explorer"] = run is not None
    target = Path(run_dir) / "report"
    target.mkdir(exist_ok=True)
    shutil.copyfile(page.PLOTLY, target / page.PLOTLY.name)
    if run:
        about = {"explorer": run, "data": explorer_page.page_data(run)}
        page.write(target / "explorer.html", "explorer.html", **about, **values)
    else:
        (target / "explorer.html").unlink(missing_ok=True)
    for chapter in values["chapters"]:
        if chapter.notebook:
            page.write(target / f"{chapter.name}.html", "chapter.html", chapter=chapter, **values)
    page.write(target / "index.html", "index.html", **values)
    return target / "index.html"


def write_single(run_dir: Path) -> Path:
    """Render the same as one HTML file, <run_dir>/report/<run>.html; returns its path.

    Raises:
        UserError: no executed notebook in run_dir.
    """
    values = _values(run_dir, single=True)
    path = Path(run_dir) / "report" / f"{values['run']}.html"
    page.write(path, "single.html", **values)
    return path


def _values(run_dir: Path, single: bool = False) -> dict[str, Any]:
    found = chapters.read(run_dir)
    if not any(chapter.notebook for chapter in found):
        raise UserError(f"{run_dir} has no executed notebook; run something into it first")
    return {
        "run": Path(run_dir).resolve().name,
        "address": ("#{}" if single else "{}.html").format,
        "with_explorer": False,
        **front.values(run_dir, found),
    }
