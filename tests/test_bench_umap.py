from __future__ import annotations

import re

from lib.__main__ import main


def test_the_figure_is_written_and_its_size_printed(tmp_path, capsys):
    page = tmp_path / "map.html"
    arguments = ["--points", "600", "--dim", "8", "--clusters", "12", "--out", str(page)]
    assert main(["bench", "umap", *arguments]) == 0
    printed = capsys.readouterr().out
    content = page.read_text(encoding="utf-8")
    size = float(re.search(r"figure: .* s, (.*) MiB", printed)[1])
    assert abs(size - len(content.encode()) / 2**20) < 0.06
    assert "600 x 8" in printed and content.startswith("<div")
    assert content.count('"scattergl"') >= 3  # a trace per class
