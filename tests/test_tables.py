import numpy as np
import pandas as pd
import pytest

from lib import LABELS
from lib.data import corpus as preparation
from lib.data import sources, tables
from lib.errors import UserError
from lib.parameters import GoldDataParams


@pytest.fixture
def corpus(tmp_path):
    """Three parts, one of them empty; every second text has an audit label."""
    frame = pd.DataFrame(
        {
            "text_id": [f"{number:016x}" for number in range(6)],
            "text": [f"текст <b>{number}</b>\n" for number in range(6)],
            "source": list("aabbca"),
            "audit_label": pd.array([0, None, 1, None, 2, None], dtype="Int8"),
        }
    )
    for number, part in enumerate((frame[:2], frame[:0], frame[2:])):
        tables.write_corpus(part, tmp_path / f"part-{number:05d}.parquet")
    return frame, tmp_path


def test_a_corpus_survives_writing(corpus):
    frame, directory = corpus
    read = tables.read_corpus(directory)
    assert read.astype(object).equals(frame.astype(object))
    assert str(read["audit_label"].dtype) == "Int8"
    batches = list(tables.batches(directory, ["text_id"]))
    assert [text_id for batch in batches for text_id in batch["text_id"].to_pylist()] == (
        frame["text_id"].tolist()
    )


def test_only_texts_with_an_audit_label_are_read(corpus):
    _, directory = corpus
    audited = tables.read_corpus(directory, audited=True)
    assert audited["audit_label"].tolist() == [0, 1, 2] and audited.index.tolist() == [0, 1, 2]


def test_sources_and_texts_without_the_rest(corpus):
    frame, directory = corpus
    sources = tables.read_sources(directory)
    assert sources["source"].tolist() == frame["source"].tolist()
    assert str(sources["source"].dtype) == "category"
    # labels of audit test stay hidden
    assert tables.audit_test(frame).tolist() == [False, False, True, False, True, False]
    assert sources["audit_label"].tolist() == [0, -1, -1, -1, -1, -1]
    assert sources["audit_label"].dtype == np.int8
    rows = np.array([5, 0, 3, 0])
    assert tables.read_texts(directory, rows) == frame["text"][rows].tolist()
    assert tables.read_texts(directory, rows[:0]) == []


def test_labelled_files_alone_leave_no_corpus_and_that_is_said(tmp_path):
    lines = [f"текст{i} слово{i * i},{LABELS[i % 3]}" for i in range(60)]
    (tmp_path / "a_train.csv").write_text("\n".join(["text,label", *lines]), encoding="utf-8")
    params = GoldDataParams(sources=["local"], data_dir=str(tmp_path))
    given = {"parameters": params.model_dump(mode="json"), "contents": sources.fingerprint(params)}
    out = tmp_path / "out"
    out.mkdir()
    preparation.prepare(out, **given)
    with pytest.raises(UserError, match=r"out/corpus has no texts, and 03 needs.* --to 02"):
        tables.read_sources(out / "corpus")
