from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lib import LABELS
from lib.artefacts import output_digest
from lib.clusters import explorer
from lib.clusters import filter as filters
from lib.data.tables import read_corpus
from lib.errors import UserError
from lib.files import read_json, restore, write_csv, write_json
from made_up_clusters import write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    write_run(folder, texts=500, clusters=8, map_points=200, best_most=20)
    return explorer.load(folder)


@pytest.fixture(scope="module")
def corpus(run):
    return read_corpus(run.corpus)


def test_members_are_sorted_by_distance_and_cover_every_text_once(run):
    rows = [run.members(cluster) for cluster in range(8)]
    assert sorted(np.concatenate(rows)) == list(range(500))
    for cluster, members in enumerate(rows):
        known = run.texts.iloc[members]
        assert (known["cluster"] == cluster).all()
        assert known["distance"].is_monotonic_increasing
    for unknown in (-1, 8):
        with pytest.raises(UserError, match=f"cluster {unknown}: the run has clusters 0 to 7"):
            run.members(unknown)


@pytest.mark.parametrize(
    ("kind", "column", "ascending"),
    [("centre", "distance", True), ("border", "distance", False), ("unsure", "confidence", True)],
)
def test_examples_are_the_extreme_texts(run, kind, column, ascending):
    part = run.texts[run.texts["cluster"] == 3]
    expected = part.sort_values(column, ascending=ascending)[column].head(7)
    found = run.texts[column].iloc[run.examples(3, kind, 7)]
    assert found.tolist() == expected.tolist()
    assert len(run.examples(3, kind, 10_000)) == len(part)


def test_facts_of_a_cluster(run):
    distances = np.linalg.norm(run.centroids - run.centroids[2], axis=1)
    expected = [c for c in np.argsort(distances) if c != 2][:5]
    assert run.nearest(2).index.tolist() == expected
    np.testing.assert_allclose(run.nearest(2), distances[expected], rtol=1e-6)
    counts = run.texts[run.texts["cluster"] == 1]["source"].astype(str).value_counts()
    assert run.sources(1).to_dict() == counts.to_dict()
    assert set(run.words[0][:2]) == {"банк", "кредит"} and set(run.words[5][:2]) == {
        "отель",
        "пляж",
    }
    assert sorted(run.by_purity()) == list(range(8))
    assert run.table["purity"].iloc[run.by_purity()].is_monotonic_decreasing


@pytest.mark.parametrize("phrase", ["АКТЁР", "актер", "фильм актёр", "(номер", "номер 1", "ничего"])
def test_search_finds_what_a_loop_finds(run, corpus, phrase):
    plain = phrase.lower().replace("ё", "е")
    texts = corpus["text"].str.lower().str.replace("ё", "е")
    expected = [i for i, text in enumerate(texts) if plain in text]
    assert run.search(phrase).tolist() == expected


def test_the_run_s_own_thresholds_keep_what_the_run_kept(run):
    chosen = run.params.min_purity, run.params.min_confidence
    kept = run.texts["kept"].to_numpy()
    assert (run.passing(*chosen) == kept).all()
    found = filters.facts(run.texts, kept)
    assert found["kept"] == kept.sum() > 0
    audited = run.texts[kept & (run.texts["audit_label"] >= 0)]
    right = (audited["audit_label"] == audited["predicted"]).mean()
    assert found["measured_precision"] == pytest.approx(right)


def test_a_frame_holds_what_is_known_and_is_written_without_formulas(run, corpus, tmp_path):
    rows = np.sort(run.members(0))
    found = run.frame(rows)
    write_csv(tmp_path / "cluster_0.csv", found)
    frame = pd.read_csv(tmp_path / "cluster_0.csv")
    assert len(frame) == len(rows)
    assert frame["text"][0].startswith("'=1+1 <script>")
    assert restore(frame["text"]).tolist() == corpus["text"].iloc[rows].tolist()
    assert frame["source"].tolist() == corpus["source"].iloc[rows].tolist()
    known = run.texts.iloc[rows]
    assert frame["predicted"].tolist() == [LABELS[i] for i in known["predicted"]]
    assert frame["kept"].tolist() == known["kept"].tolist()
    names = [LABELS[i] if i >= 0 else None for i in known["audit_label"]]
    assert frame["audit_label"].replace({np.nan: None}).tolist() == names
    np.testing.assert_allclose(frame["confidence"], known["confidence"], rtol=1e-6)
    assert (frame["cluster"] == 0).all()
    np.testing.assert_allclose(frame["purity"], run.table["purity"][0])


def test_what_is_missing_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no complete step 04_cluster_purity; run it"):
        explorer.load(tmp_path)
    folder = write_run(tmp_path / "run", texts=60)
    (folder / "04_cluster_purity" / "clusters.parquet").unlink()
    with pytest.raises(
        UserError, match=r"missing: .*clusters\.parquet.*; run 04_cluster_purity again"
    ):
        explorer.load(folder)


def test_texts_that_were_not_clustered_are_an_error(tmp_path):
    """Also if they are as many as before: clusters would be shown with the words of others."""
    folder = write_run(tmp_path / "run", texts=60)
    first = folder / "01_gold_data" / "manifest.json"
    write_json(first, {"outputs": {"tables/corpus/part-00000.parquet": "0"}})
    second = folder / "04_cluster_purity" / "manifest.json"
    read = {"01_gold_data/tables/corpus": output_digest(read_json(first), "tables/corpus")}
    write_json(second, read_json(second) | {"inputs": read})
    assert len(explorer.load(folder).texts) == 60
    write_json(first, {"outputs": {"tables/corpus/part-00000.parquet": "1"}})
    with pytest.raises(UserError, match="01_gold_data/tables/corpus is no longer what 04_cluster"):
        explorer.load(folder)


def test_empty_clusters_are_left_out(tmp_path):
    step = write_run(tmp_path / "run", texts=60, clusters=4) / "04_cluster_purity"
    table = pd.read_csv(step / "purity.csv", index_col="cluster")
    table.loc[4] = [0, 0, 0, 0, 0, np.nan, np.nan, np.nan, np.nan]
    table.to_csv(step / "purity.csv")
    kmeans = step / "kmeans" / "4" / "kmeans.npz"
    centroids = np.load(kmeans)["centroids"]
    np.savez(kmeans, centroids=np.concatenate([centroids, centroids[:1]]), inertia=1.0)
    run = explorer.load(tmp_path / "run")
    assert 4 not in run.by_purity() and len(run.members(4)) == 0
    assert 4 not in run.nearest(0).index and run.passing(0.0, 0.0).all()
