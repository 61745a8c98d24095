"""Files come out as they went in, with labels; what goes wrong is named and loses nothing."""

import io
import json
import os
from unittest import mock

import numpy as np
import pandas as pd
import pytest

from lib import LABELS, __main__
from lib.data.cleaning import clean
from lib.errors import UserError
from lib.models import labelling, sentiment
from lib.models.encoder import new_classifier, save_classifier
from lib.models.labelling import ADDED, label_files
from lib.models.sentiment import SentimentModel
from test_trainer import toy


@pytest.fixture(scope="module")
def model(tiny_bert, tmp_path_factory):
    """A checkpoint with random weights; torch runs it."""
    folder = tmp_path_factory.mktemp("model")
    save_classifier(new_classifier(tiny_bert, pooling="mean", max_tokens=64, seed=0), folder)
    return folder


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    for module in (labelling, sentiment):
        monkeypatch.setattr(module, "PIECE", 7)


def texts(count: int = 30) -> pd.DataFrame:
    frame = pd.DataFrame({"id": range(count), "text": toy(count, 0)["text"]})
    frame.loc[3, "text"] = 'кавычки "внутри", запятая\tи табуляция'
    return frame


WRITERS = {
    "csv": lambda frame, path: frame.to_csv(path, index=False),
    "tsv": lambda frame, path: frame.to_csv(path, index=False, sep="\t"),
    "csv.gz": lambda frame, path: frame.to_csv(path, index=False),
    "jsonl": lambda frame, path: frame.to_json(path, orient="records", lines=True),
    "parquet": lambda frame, path: frame.to_parquet(path),
}
READERS = {
    "csv": pd.read_csv,
    "tsv": lambda path: pd.read_csv(path, sep="\t"),
    "csv.gz": pd.read_csv,
    "jsonl": lambda path: pd.read_json(path, lines=True),
    "parquet": pd.read_parquet,
}


@pytest.mark.parametrize("kind", WRITERS)
def test_rows_and_columns_stay_and_labels_are_added(model, tmp_path, kind):
    frame = texts()
    WRITERS[kind](frame, tmp_path / f"in.{kind}")
    out = tmp_path / f"out.{kind}"
    assert label_files(model, [tmp_path / f"in.{kind}"], out) == [out]
    found = READERS[kind](out)
    pd.testing.assert_frame_equal(found[["id", "text"]], frame, check_dtype=False)
    assert list(found.columns) == ["id", "text", *ADDED]
    expected = SentimentModel(model).predict_proba(frame["text"])
    np.testing.assert_allclose(found[list(ADDED[1:])], expected, atol=1e-4)
    assert found["label"].tolist() == [LABELS[i] for i in expected.argmax(1)]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([f"in.{kind}", out.name])


def test_a_column_of_the_same_name_stays(model, tmp_path):
    texts().assign(label="мой").to_csv(tmp_path / "in.csv", index=False)
    (out,) = label_files(model, [tmp_path / "in.csv"], tmp_path / "out.csv")
    found = pd.read_csv(out)
    assert set(found["label"]) == {"мой"} and set(found["predicted_label"]) <= set(LABELS)


def test_an_interrupted_call_goes_on(model, tmp_path, monkeypatch):
    texts().to_csv(tmp_path / "in.csv", index=False)
    predicted = []
    original = SentimentModel.predict_proba

    def counted(self, given):
        given = list(given)
        if len(predicted) == 14:
            raise KeyboardInterrupt
        predicted.extend(given)
        return original(self, given)

    monkeypatch.setattr(SentimentModel, "predict_proba", counted)
    with pytest.raises(KeyboardInterrupt):
        label_files(model, [tmp_path / "in.csv"], tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()
    monkeypatch.setattr(SentimentModel, "predict_proba", original)
    seen = []
    monkeypatch.setattr(
        SentimentModel,
        "predict_proba",
        lambda self, given: original(self, [seen.append(text) or text for text in given]),
    )
    (out,) = label_files(model, [tmp_path / "in.csv"], tmp_path / "out.csv")
    assert predicted + seen == texts()["text"].tolist()
    expected = original(SentimentModel(model), texts()["text"])
    np.testing.assert_allclose(pd.read_csv(out)[list(ADDED[1:])], expected, atol=1e-4)


def test_broken_rows_are_named_and_not_lost(model, tmp_path, caplog):
    path = tmp_path / "in.csv"
    path.write_text('text,id\nплохо,1\nмного,2,полей\n,3\n"в две\nстроки",4\n', encoding="utf-8")
    with pytest.raises(UserError, match=r"in\.csv, line 3: 3 fields, expected 2 .*--on-error"):
        label_files(model, [path], tmp_path / "out.csv")
    assert list(tmp_path.iterdir()) == [path]
    label_files(model, [path], tmp_path / "out.csv", on_error="empty")
    found = pd.read_csv(tmp_path / "out.csv", dtype=str)
    assert found["id"].tolist() == ["1", "2,полей", "3", "4"]
    assert found["label"].notna().tolist() == [True, False, False, True]
    assert "line 4: no text in column 'text'" in caplog.text
    lines = tmp_path / "in.jsonl"
    lines.write_text('{"text": "плохо"}\n{"text":\n[1]\n{"text": null, "id": 5}\n', "utf-8")
    label_files(model, [lines], tmp_path / "out.jsonl", on_error="empty")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    assert [row["label"] is None for row in rows] == [False, True, True, True]
    assert rows[1]["line"] == '{"text":' and rows[2]["line"] == [1] and rows[3]["id"] == 5


def test_a_file_comes_out_as_it_went_in(model, tmp_path):
    path, out = tmp_path / "in.csv", tmp_path / "out.csv"
    content = "text;id\nплохо;1\n;2\nх".encode("cp1251") + b"\x98;3\n"
    path.write_bytes(content)
    label_files(model, [path], out, on_error="empty")
    lines = out.read_bytes().splitlines()
    assert [line.split(b";")[:2] for line in lines] == [
        line.split(b";") for line in content.splitlines()
    ]
    assert [line.endswith(b";;;;") for line in lines] == [False, False, True, True]


def test_a_row_that_nobody_can_read_is_not_lost(model, tmp_path):
    path, out = tmp_path / "in.csv", tmp_path / "out.csv"
    path.write_text('text,id\n"плохо,1\nхорошо,2\n', encoding="utf-8")
    label_files(model, [path], out, on_error="empty")
    found = pd.read_csv(out, dtype=str)
    assert found["text"].tolist() == ['"плохо,1', "хорошо"]
    assert found["label"].notna().tolist() == [False, True]


@pytest.mark.parametrize(("name", "result"), [("a.xlsx", "a.csv"), ("a.json", "a.jsonl")])
def test_other_formats_come_out_as_text(model, tmp_path, name, result):
    path = tmp_path / name
    rows = [{"id": 1, "text": "плохо \ud800"}, {"id": -2, "text": "хорошо", "by": "@user"}]
    if name == "a.json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    else:
        pd.DataFrame(rows[1:]).to_excel(path, index=False)
    (out,) = label_files(model, [path], tmp_path / result)
    assert label_files(model, [path], tmp_path, force=True) == [out]
    if name == "a.json":
        found = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
        assert [{key: row[key] for key in row if key in rows[1]} for row in found] == rows
    else:
        found = pd.read_csv(out).to_dict("records")
        assert [(row["id"], row["text"], row["by"]) for row in found] == [(-2, "хорошо", "'@user")]
    assert all(row["label"] in LABELS for row in found)


def test_bad_input_is_one_message(model, tmp_path):
    def write(name: str, content: bytes):
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    good = write("good.csv", "text\nплохо\n".encode())
    for file, out, message in (
        (write("empty.csv", b""), "out.csv", "empty.csv: no column 'text'"),
        (write("header.csv", b"text\n"), "out.csv", "header.csv has no rows"),
        (
            write("other.csv", b"review\nx\n"),
            "out.csv",
            "no column 'text'; expected text, found review; .*--text",
        ),
        (write("none.jsonl", b"{}\n"), "out.jsonl", "line 1: no column 'text'.* --text-column; "),
        (write("p.parquet", b"PAR1"), "out.parquet", "p.parquet: not readable after row 0"),
        (tmp_path / "none.csv", "out.csv", "none.csv: no such csv"),
        (good, "out.parquet", r"must end in \.csv"),
        (good, "out.csv.zip", r"must end in \.csv"),
        (good, "good.csv", "good.csv is there already"),
    ):
        with pytest.raises(UserError, match=message):
            label_files(model, [file], tmp_path / out)
    label_files(model, [good], tmp_path / "out.csv")
    with pytest.raises(UserError, match="--force"):
        label_files(model, [good], tmp_path / "out.csv")
    label_files(model, [good], tmp_path / "out.csv", force=True)


@pytest.mark.parametrize("said", [(28, os.strerror(28)), ("8 requested and 4 written",)])
def test_a_full_disk_loses_nothing(model, tmp_path, monkeypatch, said):
    """Python names the reason; numpy, which saves the pieces, only the bytes."""
    texts().to_csv(tmp_path / "in.csv", index=False)
    with monkeypatch.context() as patch:
        patch.setattr(labelling, "_write_lines", mock.Mock(side_effect=OSError(*said)))
        with pytest.raises(UserError, match=rf"cannot be written \({said[-1]}: the disk is full\)"):
            label_files(model, [tmp_path / "in.csv"], tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()
    label_files(model, [tmp_path / "in.csv"], tmp_path / "out.csv")
    assert len(pd.read_csv(tmp_path / "out.csv")) == 30


def test_the_command(model, tmp_path, capsys, monkeypatch):
    texts().to_csv(tmp_path / "a.csv", index=False)
    texts().to_csv(tmp_path / "b.csv", index=False)
    files = [str(tmp_path / "a.csv"), str(tmp_path / "b.csv")]
    assert __main__.main(["predict", str(model), *files, "--out", str(tmp_path / "out")]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.csv", "b.csv"]
    capsys.readouterr()
    assert __main__.main(["predict", str(model), "--text", "плохо\nочень"]) == 0
    label, *probabilities, text = capsys.readouterr().out.rstrip("\n").split("\t")
    assert label in LABELS and text == "плохо очень"
    assert sum(map(float, probabilities)) == pytest.approx(1, abs=2e-4)
    monkeypatch.setattr("sys.stdin", io.StringIO("хорошо\nплохо\n"))
    assert __main__.main(["predict", str(model)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    bytes_ = io.BytesIO("плохо\n".encode("cp1251"))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(bytes_, encoding="utf-8"))
    assert __main__.main(["predict", str(model)]) == 2
    assert "standard input is not UTF-8" in capsys.readouterr().err
    assert __main__.main(["predict", str(tmp_path), "--text", "плохо"]) == 2
    assert __main__.main(["predict", str(model), files[0]]) == 2


def test_what_a_kill_left_is_no_prediction(model, tmp_path, monkeypatch):
    texts().to_parquet(tmp_path / "in.parquet")
    left = tmp_path / ".out.parquet.partial" / ".000001-x1y2.npy"
    original = SentimentModel.predict_proba

    def killed(self, given):
        np.save(left, np.zeros((7, 3), np.float32))
        return original(self, given)

    monkeypatch.setattr(SentimentModel, "predict_proba", killed)
    (out,) = label_files(model, [tmp_path / "in.parquet"], tmp_path / "out.parquet")
    expected = original(SentimentModel(model), texts()["text"])
    np.testing.assert_allclose(pd.read_parquet(out)[list(ADDED[1:])], expected, atol=1e-4)
    with pytest.raises(ValueError, match="more predictions than rows"):
        labelling._write_parquet(tmp_path / "in.parquet", tmp_path / "x", iter(np.zeros((31, 3))))


def test_texts_are_cleaned_as_those_of_training(model):
    given = ["не\u200bплохо &amp;quot;да&amp;quot;\tй\x00", "\u200b", "\ud800"]
    found = SentimentModel(model).predict_proba(given)
    expected = SentimentModel(model).predict_proba([*map(clean, given)])
    assert clean(given[0]) == 'не плохо "да" й' and clean(given[1]) == ""
    np.testing.assert_array_equal(found, expected)


def test_a_very_long_text(model):
    found = SentimentModel(model).predict_proba(["очень плохо " * 100_000, ""])
    assert found.shape == (2, 3) and np.isfinite(found).all()


def test_a_sheet_may_be_labelled_again(model, tmp_path):
    texts(5).to_excel(tmp_path / "a.xlsx", index=False, sheet_name="Лист")
    for force in (False, True):
        label_files(model, [tmp_path / "a.xlsx:Лист"], tmp_path / "out.csv", force=force)
    assert len(pd.read_csv(tmp_path / "out.csv")) == 5


@pytest.mark.parametrize("cut", ["000001.npy", "about.json"])
@pytest.mark.parametrize("size", [0, 5, 150])
def test_what_waits_and_is_damaged_is_made_again(model, tmp_path, monkeypatch, caplog, cut, size):
    texts().to_csv(tmp_path / "in.csv", index=False)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(labelling, "_write_lines", mock.Mock(side_effect=KeyboardInterrupt))
        label_files(model, [tmp_path / "in.csv"], tmp_path / "out.csv")
    path = tmp_path / ".out.csv.partial" / cut
    path.write_bytes(path.read_bytes()[: min(size, path.stat().st_size - 1)])
    label_files(model, [tmp_path / "in.csv"], tmp_path / "out.csv")
    assert f"{path} is damaged" in caplog.text
    expected = SentimentModel(model).predict_proba(texts()["text"])
    np.testing.assert_allclose(
        pd.read_csv(tmp_path / "out.csv")[list(ADDED[1:])], expected, atol=1e-4
    )
