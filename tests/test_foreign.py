"""Foreign gold: labelled texts in other languages, which train the linear probe only."""

import json

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib import LABELS, corpus, foreign, sources
from lib.cleaning import text_id
from lib.counts import Counts
from lib.errors import UserError
from lib.schema import GoldDataParams
from lib.tables import read_corpus
from made_up import CLASSES, portions, small_world, table

VADER = "1\t2.5\tWhat a day\n2\t-2\tAwful rain\n3\t0.1\tThe bus is here\n"


def rows(texts, labels):
    frame = pd.DataFrame({"text": texts, "label": labels, "source": "f"}, dtype=object)
    return frame.assign(text_id=[text_id(text) for text in texts])


def build(frame, gold=(), max_foreign=None, seed=0):
    counts = Counts()
    ids = pd.DataFrame({"text_id": [text_id(text) for text in gold]}, dtype=object)
    built = foreign.build_foreign(frame, ids, counts, seed=seed, max_foreign=max_foreign)
    return built, counts.table()


@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(CLASSES)), max_size=30),
    st.sets(st.sampled_from("abcdefgh")),
)
def test_one_row_per_text_with_the_one_label_it_has_and_no_gold_text(given_rows, gold):
    built, counts = build(rows([t for t, _ in given_rows], [k for _, k in given_rows]), gold)
    labels = {}
    for text, label in given_rows:
        labels.setdefault(text, set()).add(label)
    expected = {t: min(k) for t, k in labels.items() if len(k) == 1 and t not in gold}
    found = dict(zip(built["text"], built["label"].map(dict(enumerate(LABELS))), strict=True))
    assert found == expected
    assert len(built) == len(found)
    assert counts.to_numpy().sum() == len(given_rows)  # none is lost uncounted


def test_the_limit_keeps_the_shares_of_the_classes_and_depends_on_the_seed():
    frame = rows([f"text {i}" for i in range(400)], ["negative"] * 100 + ["neutral"] * 300)
    built, counts = build(frame, max_foreign=40)
    assert built["label"].value_counts().to_dict() == {0: 10, 1: 30}
    assert counts.loc["f", "over max_foreign"] == 360
    shuffled, _ = build(frame.sample(frac=1, random_state=1), max_foreign=40)
    assert set(shuffled["text"]) == set(built["text"])
    assert set(build(frame, max_foreign=40, seed=1)[0]["text"]) != set(built["text"])


def test_step_01_keeps_foreign_gold_apart(tmp_path):
    gold, other = small_world()
    texts = ["Great stuff!", "это русский текст о погоде", gold["text"].iloc[0], "Muy mal", "bien"]
    strangers = table(texts, "positive", "foreign", "f")
    prepared = corpus.prepare(portions(gold, other, strangers), tmp_path, GoldDataParams())
    found = pd.read_parquet(tmp_path / "foreign.parquet")
    assert found["text"].tolist() == ["Great stuff!", "Muy mal", "bien"]
    assert found.columns.tolist() == foreign.FOREIGN_COLUMNS
    for kept in (pd.read_parquet(tmp_path / "gold.parquet"), read_corpus(tmp_path / "corpus")):
        assert not set(kept["text_id"]) & set(found["text_id"])
    counts = prepared.counts.table().loc["f"]
    assert (counts["read"], counts["Russian"], counts["kept as foreign gold"]) == (5, 2, 3)
    metrics = corpus.count_metrics(
        pd.read_parquet(tmp_path / "gold.parquet"), prepared.counts.table()
    )
    assert {"name": "texts", "dataset": "f", "split": "foreign", "value": 3} in metrics


def test_without_foreign_gold_the_table_is_empty(tmp_path):
    corpus.prepare(portions(*small_world()), tmp_path, GoldDataParams())
    found = pd.read_parquet(tmp_path / "foreign.parquet")
    assert found.empty
    assert found.columns.tolist() == foreign.FOREIGN_COLUMNS


def test_own_files_in_other_languages(tmp_path):
    (tmp_path / "a_train.csv").write_text("text,label\nмне нравится,positive\n", encoding="utf-8")
    (tmp_path / "english.csv").write_text(
        "text,label\nso good,positive\nno label,\n", encoding="utf-8"
    )
    params = GoldDataParams(
        sources=["local"], data_dir=str(tmp_path), foreign_files=["english.csv"]
    )
    (_, frame) = sources.read(params)
    assert frame[["text", "label", "role"]].to_numpy().tolist() == [
        ["so good", "positive", "foreign"]
    ]
    assert frame.attrs["left_out"] == {"english": {"unlabelled": 1}}
    assert json.dumps(sources.fingerprint(params)).count("english.csv (foreign)") == 1


@pytest.mark.parametrize("score", ["", "good", "nan", "inf"])
def test_what_is_no_score_is_named(tmp_path, score):
    path = tmp_path / "tweets_GroundTruth.txt"
    path.write_text(f"{VADER}4\t{score}\tLate again\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"line 4, column score: expected a score, found"):
        list(sources.read(GoldDataParams(sources=["vader_tweets"], data_dir=str(tmp_path))))
