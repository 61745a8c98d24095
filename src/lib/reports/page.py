"""What all pages share: templates, the way values are written, plotly's script.

A page loads nothing from the network. Templates escape what they are given; only rendered notebooks
and files of this package enter as HTML.
"""

from __future__ import annotations

import base64
from functools import cache
from pathlib import Path
from typing import Any

import plotly
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from lib import files, metrics

TEMPLATES = Path(__file__).parent / "templates"
PLOTLY = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
JSON: dict[str, Any] = {"ensure_ascii": False, "allow_nan": False, "separators": (",", ":")}
"""How data enter a page: Cyrillic letters as UTF-8, not as six bytes each."""


def write(path: Path, template: str, **values: Any) -> None:
    """Write a page, atomically."""
    files.write_text(path, environment().get_template(template).render(values))


@cache
def environment() -> Environment:
    """Jinja with this package's templates and filters."""
    found = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.policies["json.dumps_kwargs"] = JSON
    found.globals |= {"source": source, "plotly": PLOTLY, "with_interval": metrics.with_interval}
    found.filters |= {"count": "{:,}".format, "data_uri": data_uri, "duration": duration}
    return found


def source(path: Path | str) -> Markup:
    """A style or script file as it is: of the templates, or plotly's."""
    return Markup((TEMPLATES / path).read_text(encoding="utf-8"))


def data_uri(picture: Path) -> str:
    """A PNG file inside the page."""
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode('ascii')}"


def duration(seconds: float) -> str:
    """Seconds in words: `4.2 s`, `42 s`, `5 min 02 s`, `3 h 07 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
