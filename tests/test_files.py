"""Files are written whole or not at all, and a folder that is replaced is never lost."""

import os
from unittest import mock

import pandas as pd
import pytest

from lib import files


def test_atomic_replaces_on_success(tmp_path):
    path = tmp_path / "new folder" / "file.txt"
    for content in ("first", "second"):
        with files.atomic(path) as temporary:
            assert temporary.parent == path.parent  # else the replacing would not be atomic
            temporary.write_text(content)
            assert not path.exists() or path.read_text() == "first"
        assert path.read_text() == content
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("before", [None, "old"])
def test_atomic_leaves_nothing_on_failure(tmp_path, error, before):
    path = tmp_path / "file.txt"
    if before:
        path.write_text(before)
    with pytest.raises(error), files.atomic(path) as temporary:
        temporary.write_text("half")
        raise error
    assert [p.read_text() for p in tmp_path.iterdir()] == ([before] if before else [])


def test_an_atomic_folder_is_readable_by_others(tmp_path):
    with files.atomic_folder(tmp_path / "model") as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "weights").write_bytes(b"1")
        (folder / "inner" / "weights").chmod(0o600)
        assert not (tmp_path / "model").exists()
    assert (tmp_path / "model").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "model" / "inner" / "weights").stat().st_mode & 0o777 == 0o644
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("killed_at", [1, 2])
def test_a_kill_while_a_folder_is_replaced_loses_neither(tmp_path, monkeypatch, killed_at):
    old, new = tmp_path / "step", tmp_path / "new"
    for folder, text in ((old, "old"), (new, "new")):
        folder.mkdir()
        (folder / "file").write_text(text)
    calls, replace = [], os.replace

    def killed(*arguments):
        calls.append(arguments)
        if len(calls) == killed_at:
            raise KeyboardInterrupt
        replace(*arguments)

    monkeypatch.setattr(files.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        files.replace_folder(new, old)
    monkeypatch.undo()
    files.recover(old)
    assert (old / "file").read_text() == "old" and (new / "file").read_text() == "new"
    files.replace_folder(new, old)
    assert (old / "file").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["step"]


def test_a_kill_while_the_old_folder_is_removed_leaves_it_to_recover(tmp_path, monkeypatch):
    for name in ("step", "new"):
        files.write_text(tmp_path / name / "file", name)
    removals = mock.Mock(side_effect=[None, KeyboardInterrupt])
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(files.shutil, "rmtree", removals)
        files.replace_folder(tmp_path / "new", tmp_path / "step")
    assert (tmp_path / ".step.old").exists()
    files.recover(tmp_path / "step")
    assert [path.name for path in tmp_path.iterdir()] == ["step"]
    assert (tmp_path / "step" / "file").read_text() == "new"


def test_linked_files_are_the_same_and_replaced_one_by_one(tmp_path):
    source = tmp_path / "a"
    (source / "inner").mkdir(parents=True)
    (source / "inner" / "x").write_text("1")
    files.link_tree(source, tmp_path / "b")
    assert (tmp_path / "b" / "inner" / "x").samefile(source / "inner" / "x")
    files.write_text(tmp_path / "b" / "inner" / "x", "2")
    assert (source / "inner" / "x").read_text() == "1"


def test_json_refuses_what_is_none(tmp_path):
    files.write_json(tmp_path / "x.json", value := {"имя": "ё", "a": [None, True, 10**12]})
    assert files.read_json(tmp_path / "x.json") == value
    with pytest.raises(ValueError):
        files.write_json(tmp_path / "x.json", float("nan"))
    assert files.read_json(tmp_path / "x.json") == value


FORMULAS = ["=1+1", "+7 999", "-5", "@user", " =x", "\tx", "＝1"]
PLAIN = ["текст", "'уже", "a=b", "", "1-2"]


def test_a_spreadsheet_runs_no_text(tmp_path):
    frame = pd.DataFrame({"text": [*FORMULAS, *PLAIN], "number": -1.5})
    files.write_csv(tmp_path / "x.csv", frame)
    assert (tmp_path / "x.csv").read_bytes().startswith(b"\xef\xbb\xbf")
    read = pd.read_csv(tmp_path / "x.csv", keep_default_na=False)
    assert read["text"][: len(FORMULAS)].tolist() == [f"'{text}" for text in FORMULAS]
    assert read["text"][len(FORMULAS) : len(frame)].tolist() == PLAIN
    assert (read["number"] == -1.5).all()
    assert files.restore(read["text"]).tolist() == [*FORMULAS, *PLAIN]
