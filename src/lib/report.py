"""The report of a run: its executed notebooks as HTML, and a front page.

A folder that opens from disk: styles are inline, pictures embedded, plotly's script lies once
beside the pages. Or a single file with all of it, to send by mail.
"""

from __future__ import annotations

import html
import shutil
from pathlib import Path

import nbformat

from lib import explorer, explorer_page, report_chapter, report_page
from lib.errors import UserError
from lib.report_chapter import Chapter
from lib.report_front import front_page
from lib.schema import STEPS

FRONT = "index.html"


def write(run_dir: Path) -> Path:
    """Render what a run has so far into <run_dir>/report; returns the path of index.html.

    Raises:
        UserError: no executed notebook in run_dir.
    """
    run_dir = Path(run_dir)
    chapters = _chapters(run_dir)
    target = run_dir / "report"
    target.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(report_page.plotly_script(), target / report_page.PLOTLY)
    names = [chapter.name for chapter in chapters]
    links = navigation(names, with_explorer=explorer.is_ready(run_dir))
    explorer_page.write(run_dir, target, links)
    for place, chapter in enumerate(chapters):
        around = _neighbours(chapters, place)
        body = f"{report_chapter.contents(chapter)}<article>{chapter.body}</article>{around}"
        script = report_page.plotly_tag() if chapter.interactive else ""
        file = f"{chapter.name}.html"
        text = report_page.page(chapter.title, body, links, here=file, plotly_script=script)
        report_page.write(target / file, text)
    body = front_page(run_dir, chapters, lambda name: f"{name}.html")
    text = report_page.page(_title(run_dir), body, links, here=FRONT)
    report_page.write(target / FRONT, text)
    return target / FRONT


def write_single(run_dir: Path) -> Path:
    """Render the same as one HTML file, <run_dir>/report/<run>.html; returns its path.

    Raises:
        UserError: no executed notebook in run_dir.
    """
    run_dir = Path(run_dir)
    chapters = _chapters(run_dir)
    links = [("#front", "front page")] + [(f"#{c.name}", c.name[:2]) for c in chapters]
    parts = [f"<section id='front'>{front_page(run_dir, chapters, lambda n: f'#{n}')}</section>"]
    parts += [
        f"<section class='chapter' id='{c.name}'><h1 class='page'>{html.escape(c.title)}</h1>"
        f"{report_chapter.contents(c)}<article>{c.body}</article></section>"
        for c in chapters
    ]
    interactive = any(chapter.interactive for chapter in chapters)
    script = report_page.plotly_tag(inline=True) if interactive else ""
    text = report_page.page(_title(run_dir), "\n".join(parts), links, plotly_script=script)
    path = run_dir / "report" / f"{run_dir.resolve().name}.html"
    report_page.write(path, text)
    return path


def navigation(steps: list[str], *, with_explorer: bool) -> list[tuple[str, str]]:
    """Address and text of the links on top of every page of a report's folder."""
    links = [(FRONT, "front page"), *((f"{name}.html", name[:2]) for name in steps)]
    return [*links, (explorer_page.NAME, "explorer")] if with_explorer else links


def _chapters(run_dir: Path) -> list[Chapter]:
    paths = {name: run_dir / "notebooks" / f"{name}.ipynb" for name in STEPS}
    chapters = [
        report_chapter.render(name, nbformat.read(path, as_version=4))
        for name, path in paths.items()
        if path.exists()
    ]
    if not chapters:
        raise UserError(f"{run_dir} has no executed notebook; run something into it first")
    return chapters


def _title(run_dir: Path) -> str:
    return f"Run {run_dir.resolve().name}"


def _neighbours(chapters: list[Chapter], place: int) -> str:
    """Links to the previous and the next page, as HTML."""
    before = chapters[place - 1] if place else None
    after = chapters[place + 1] if place + 1 < len(chapters) else None
    links = [(f"{before.name}.html", f"← {before.title}") if before else (FRONT, "← front page")]
    links.append((f"{after.name}.html", f"{after.title} →") if after else (FRONT, "front page →"))
    return (
        "<nav class='neighbours'>"
        + " ".join(
            f"<a rel='{rel}' href='{address}'>{html.escape(text)}</a>"
            for rel, (address, text) in zip(("prev", "next"), links, strict=True)
        )
        + "</nav>"
    )
