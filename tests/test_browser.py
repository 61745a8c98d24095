"""What is said where there is no browser."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

import browser
import conftest


@pytest.mark.parametrize("there", [False, True])
def test_chromium_is_named_by_its_variable(there, monkeypatch, tmp_path):
    program = tmp_path / "my-chromium"
    if there:
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    monkeypatch.setenv("CHROMIUM", str(program))
    assert browser.find_chromium() == (str(program) if there else None)


def test_without_chromium_nothing_is_found_and_the_picture_is_no_error(
    monkeypatch, tmp_path, capsys
):
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert browser.find_chromium() is None
    assert browser.screenshot(tmp_path / "page.html", tmp_path / "picture.png") == 0
    assert "picture.png is not made: no Chromium found" in capsys.readouterr().err


class Terminal(list):
    """The part of pytest's reporter that the summary uses."""

    def __init__(self, *reasons: str):
        super().__init__()
        self.stats = {"skipped": [SimpleNamespace(longrepr=("file", 1, why)) for why in reasons]}

    def section(self, title: str, **_: bool) -> None:
        self.append(title)

    def line(self, text: str, **_: bool) -> None:
        self.append(text)


def test_the_summary_counts_tests_skipped_for_want_of_a_browser():
    terminal = Terminal(f"Skipped: {browser.SKIPPED}", "Skipped: no GPU", browser.SKIPPED)
    conftest.pytest_terminal_summary(terminal)
    assert terminal == ["browser", f"2 browser tests were SKIPPED: {browser.SKIPPED}"]
    nothing = Terminal("Skipped: no GPU")
    conftest.pytest_terminal_summary(nothing)
    assert nothing == []
