"""What all pages of a report share: the HTML around a body, pictures, tables, plotly's script.

A page loads nothing from the network. Everything given as text is escaped here; only what is named
`body` or `inner` is taken for HTML.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable
from pathlib import Path

import plotly

from lib import artifacts

FOLDER = Path(__file__).parent
PLOTLY = "plotly.min.js"

Links = Iterable[tuple[str, str]]
"""Address and text of each link of a page's navigation."""


def page(title: str, body: str, links: Links, *, here: str = "", plotly_script: str = "") -> str:
    """A whole page.

    Args:
        title: text of the heading and of the browser's tab; body: HTML of the page.
        links: navigation; here: address of the page itself, which is marked there.
        plotly_script: HTML that loads plotly, if the body has figures: see `plotly_tag`.
    """
    style = (FOLDER / "report.css").read_text(encoding="utf-8")
    script = (FOLDER / "report.js").read_text(encoding="utf-8")
    shown = html.escape(title)
    return (
        "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{shown}</title><style>{style}</style>{plotly_script}<script>{script}</script>"
        f"</head><body><header><nav>{_navigation(links, here)}</nav>"
        "<button type='button' id='code-toggle' hidden>Show code</button>"
        "<button type='button' id='theme-toggle' hidden>Dark</button></header>"
        f"<main><h1 class='page'>{shown}</h1>\n{body}\n</main></body></html>\n"
    )


def plotly_tag(inline: bool = False) -> str:
    """The script element that loads plotly: from the file beside the page, or its whole text."""
    if not inline:
        return f"<script src='{PLOTLY}'></script>"
    return f"<script>{plotly_script().read_text(encoding='utf-8')}</script>"


def plotly_script() -> Path:
    """Plotly's script as its package ships it."""
    return Path(plotly.__file__).parent / "package_data" / PLOTLY


def picture(png: bytes, title: str, reading: str) -> str:
    """A PNG as a figure with its title and a sentence on how to read it."""
    data = base64.b64encode(png).decode("ascii")
    return (
        f"<figure><div class='picture'><img alt='{html.escape(title)}' "
        f"src='data:image/png;base64,{data}'></div><figcaption><strong>{html.escape(title)}."
        f"</strong> <em>How to read it:</em> {html.escape(reading)}</figcaption></figure>"
    )


def table(header: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A table of plain texts."""
    return inner_table(header, [[html.escape(str(cell)) for cell in row] for row in rows])


def inner_table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table whose cells are HTML already."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in header)
    body = "".join(f"<tr>{''.join(f'<td>{inner}</td>' for inner in row)}</tr>\n" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def write(path: Path, text: str) -> None:
    """Write a page, atomically."""
    with artifacts.atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _navigation(links: Links, here: str) -> str:
    marked = " aria-current='page'"
    return " ".join(
        f"<a href='{html.escape(address)}'{marked if address == here else ''}>"
        f"{html.escape(text)}</a>"
        for address, text in links
    )
