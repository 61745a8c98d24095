from __future__ import annotations

import re

from lib import report_page
from lib.__main__ import main


def test_the_figure_is_written_and_its_size_printed(tmp_path, capsys):
    page = tmp_path / "map.html"
    arguments = ["--points", "600", "--dim", "8", "--clusters", "12", "--out", str(page)]
    assert main(["bench", "umap", *arguments]) == 0
    printed = capsys.readouterr().out
    content = page.read_text(encoding="utf-8")
    size = float(re.search(r"figure: .* s, (.*) MiB", printed)[1])
    rest = len(content.encode()) - report_page.plotly_script().stat().st_size
    assert abs(size - rest / 2**20) < 0.08
    assert "600 x 8" in printed and content.startswith("<!DOCTYPE html>")
    assert content.count('"scattergl"') >= 3  # a trace per class
