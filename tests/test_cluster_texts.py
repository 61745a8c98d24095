from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib.clusters import texts as cluster_texts
from lib.clusters.purity import purity_table
from lib.clusters.texts import COLUMNS, examples, write_clusters
from lib.data.tables import write_corpus
from lib.errors import UserError


def write_parts(directory: Path, texts: list[str]) -> Path:
    """A corpus in parts of two texts."""
    rows = {"text_id": [f"{i:016x}" for i in range(len(texts))], "text": texts, "source": "s"}
    frame = pd.DataFrame(rows).assign(audit_label=None)
    for start in range(0, len(frame), 2):
        write_corpus(frame[start : start + 2], directory / f"part-{start:05d}.parquet")
    return directory


def test_clusters_are_written_in_the_order_of_the_corpus(tmp_path):
    corpus = write_parts(tmp_path / "corpus", [f"текст {i}" for i in range(50)])
    rng = np.random.default_rng(0)
    assigned = rng.integers(0, 4, 50).astype(np.int32)
    table = purity_table(assigned, rng.dirichlet([1, 1, 1], 50), 4)
    columns = pd.DataFrame(dict.fromkeys(COLUMNS, 0.5) | {"cluster": assigned})
    columns["kept"] = rng.random(50) < 0.5
    write_clusters(tmp_path / "clusters.parquet", corpus, columns, table)
    written = pd.read_parquet(tmp_path / "clusters.parquet")
    assert written["text_id"].tolist() == [f"{i:016x}" for i in range(50)]
    assert written["kept"].tolist() == columns["kept"].tolist()
    for column, of in (("purity", "purity"), ("cluster_size", "size")):
        assert written[column].tolist() == table[of].to_numpy()[assigned].tolist()
    with pytest.raises(UserError, match="50 texts, but 49 have been clustered"):
        write_clusters(tmp_path / "other.parquet", corpus, columns[:49], table)
    assert not (tmp_path / "other.parquet").exists()


def test_examples_are_the_texts_nearest_to_the_centre(tmp_path):
    texts = ["далёкий", "близкий", "средний", "дальний", "чужой", "очень " * 50]
    corpus = write_parts(tmp_path, texts)
    assigned = np.array([4, 4, 4, 4, 2, 1])
    frame = pd.DataFrame({"cluster": assigned, "distance": [0.9, 0.1, 0.5, 0.6, 0.2, 0.3]})
    probabilities = np.eye(3)[[0, 0, 0, 0, 1, 1]]
    table = purity_table(assigned, probabilities, 5)
    words = [[], ["очень"], [], [], ["близкий", "дальний"]]
    shown = examples(corpus, frame, table.loc[[4, 1]], words)
    assert shown["cluster"].tolist() == [4, 1]
    assert shown["dominant"].tolist() == ["negative", "neutral"]
    assert shown["size"].tolist() == [4, 1]
    assert shown["words"].tolist() == ["близкий, дальний", "очень"]
    assert shown["texts"][0] == "— близкий\n— средний\n— дальний"
    assert len(shown["texts"][1]) == cluster_texts.CHARACTERS + 2  # long texts are cut
