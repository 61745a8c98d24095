from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.cluster_texts import (
    examples,
    read_sources,
    read_texts,
    stratified_sample,
    write_clusters,
)
from lib.errors import UserError
from lib.purity import purity_table
from lib.tables import read_corpus, write_corpus


def corpus_frame(texts: list[str]) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    labels = pd.Series(rng.choice([0, 1, 2, None], len(texts)), dtype="Int8")
    return pd.DataFrame(
        {
            "text_id": [f"{i:016x}" for i in range(len(texts))],
            "text": texts,
            "source": rng.choice(["отзывы", "соцсети", "банки"], len(texts)),
            "audit_label": labels,
        }
    )


def write_parts(directory: Path, frame: pd.DataFrame, size: int) -> Path:
    for number, start in enumerate(range(0, len(frame), size)):
        write_corpus(frame[start : start + size], directory / f"part-{number:05d}.parquet")
    return directory


@pytest.fixture
def corpus(tmp_path, monkeypatch) -> Path:
    """50 texts in parts of 20, read in batches of 8."""
    monkeypatch.setattr("lib.cluster_texts.ROW_GROUP", 8)
    frame = corpus_frame([f"текст {i}" for i in range(50)])
    return write_parts(tmp_path / "corpus", frame, 20)


def test_sources_and_audit_labels_are_those_of_the_corpus(corpus):
    expected = read_corpus(corpus)
    known = read_sources(corpus)
    assert known["source"].astype(str).tolist() == expected["source"].tolist()
    assert known["audit_label"].dtype == np.int8
    assert known["audit_label"].tolist() == expected["audit_label"].fillna(-1).tolist()
    assert known.memory_usage(index=False, deep=True).sum() < 2 * len(known) + 1000


def test_a_corpus_without_texts_is_an_error(tmp_path):
    with pytest.raises(UserError, match="holds no text"):
        read_sources(tmp_path)


@given(rows=st.lists(st.integers(0, 49), max_size=30))
def test_texts_come_in_the_order_asked_for(tmp_path_factory, rows):
    directory = tmp_path_factory.getbasetemp() / "corpus of 50"
    if not directory.exists():
        write_parts(directory, corpus_frame([f"текст {i}" for i in range(50)]), 20)
    assert read_texts(directory, np.array(rows, dtype=int)) == [f"текст {i}" for i in rows]


def test_a_row_outside_the_corpus_is_an_error(corpus):
    with pytest.raises(UserError, match="50 texts, row 50"):
        read_texts(corpus, np.array([3, 50]))


def test_clusters_are_written_in_row_groups(corpus, tmp_path):
    rng = np.random.default_rng(0)
    assigned = rng.integers(0, 4, 50).astype(np.int32)
    table = purity_table(assigned, rng.dirichlet([1, 1, 1], 50), 4)
    columns = {"cluster": assigned, "kept": rng.random(50) < 0.5}
    write_clusters(tmp_path / "clusters.parquet", corpus, columns, table)
    written = pd.read_parquet(tmp_path / "clusters.parquet")
    assert pq.ParquetFile(tmp_path / "clusters.parquet").num_row_groups == 8  # 3 + 3 + 2 batches
    assert written["text_id"].tolist() == read_corpus(corpus)["text_id"].tolist()
    assert written["cluster"].tolist() == assigned.tolist()
    assert written["kept"].tolist() == columns["kept"].tolist()
    for column, of in (("purity", "purity"), ("cluster_size", "size")):
        assert written[column].tolist() == table[of].to_numpy()[assigned].tolist()


@pytest.mark.parametrize("count", [49, 51, 40])
def test_another_number_of_texts_is_an_error_and_leaves_no_file(corpus, tmp_path, count):
    assigned = np.zeros(count, dtype=np.int32)
    table = purity_table(assigned, np.full((count, 3), 1 / 3), 1)
    with pytest.raises(UserError, match=f"50 texts, but {count} have been clustered"):
        write_clusters(tmp_path / "clusters.parquet", corpus, {"cluster": assigned}, table)
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_examples_are_the_texts_nearest_to_the_centre(tmp_path):
    texts = ["далёкий", "близкий", "средний", "чужой", "очень " * 50]
    corpus = write_parts(tmp_path, corpus_frame(texts), 2)
    assigned = np.array([4, 4, 4, 2, 1])
    distances = np.array([0.9, 0.1, 0.5, 0.2, 0.3])
    table = pd.DataFrame(
        {
            "size": [0, 1, 1, 0, 3],
            "purity": [np.nan, 1.0, 1.0, np.nan, 2 / 3],
            "purity_lower_bound": [np.nan, 0.2, 0.2, np.nan, 0.2],
            "dominant": [0, 1, 2, 0, 0],
        }
    ).rename_axis("cluster")
    shown = examples(corpus, assigned, distances, table, [4, 1], count=2)
    assert shown["cluster"].tolist() == [4, 1]
    assert shown["dominant"].tolist() == ["negative", "neutral"]
    assert shown["size"].tolist() == [3, 1]
    assert shown["texts"][0] == "— близкий\n— средний"
    assert len(shown["texts"][1]) <= 165  # long texts are cut


@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=12),
    count=st.integers(1, 400),
    seed=st.integers(0, 1000),
)
def test_a_stratified_sample_gives_every_cluster_its_share(sizes, count, seed):
    assigned = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    rows = stratified_sample(assigned, count, seed)
    assert len(rows) == min(count, len(assigned)) and (np.diff(rows) > 0).all()
    assert (rows == stratified_sample(assigned, count, seed)).all()
    drawn = np.bincount(assigned[rows], minlength=len(sizes))
    if len(sizes) < count < len(assigned):
        assert (drawn >= 1).all()
        # the texts after the first are shared out in proportion, up to rounding
        expected = (count - len(sizes)) * np.array(sizes) / len(assigned)
        assert (np.abs(drawn - 1 - expected) <= 1 + len(sizes) * expected.max() / count + 1).all()


def test_the_seed_decides_which_texts_are_drawn():
    assigned = np.zeros(1000, dtype=int)
    first, other = stratified_sample(assigned, 100, 0), stratified_sample(assigned, 100, 1)
    assert (first != other).any() and len(np.unique(first)) == 100
