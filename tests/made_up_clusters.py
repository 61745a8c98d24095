"""The artefacts of steps 01 and 04 from made-up texts and vectors, without a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from lib import files
from lib.clusters import filter as filters
from lib.clusters import purity
from lib.clusters import texts as cluster_texts
from lib.clusters import words as cluster_words
from lib.clusters.kmeans import KMeans
from lib.clusters.map import stratified_sample
from lib.data.tables import write_corpus
from lib.parameters import ClusterPurityParams

HOSTILE = "<script>window.hacked=1</script><img src=x onerror=window.hacked=1>"
TOPICS = ["банк кредит", "фильм актёр", "телефон зарядка", "ресторан обед", "машина двигатель"]
TOPICS += ["отель пляж", "книга автор", "врач больница"]


def made_up_texts(cluster: np.ndarray, rng: np.random.Generator) -> list[str]:
    """A text of each cluster: its topic's words, a word of its own, a few common ones."""
    common = ["вчера", "очень", "просто", "хороший", "плохой", "новый", "сильно", "дорого"]
    drawn = rng.choice(common, (len(cluster), 4)).tolist()
    return [
        f"{TOPICS[c % len(TOPICS)]} слово{c} {' '.join(some)} номер {i}"
        for i, (c, some) in enumerate(zip(cluster, drawn, strict=True))
    ]


def write_run(
    run_dir: Path,
    texts: int = 600,
    clusters: int = 8,
    *,
    map_points: int = 300,
    seed: int = 0,
    words: list[str] | None = None,
    **params: object,
) -> Path:
    """A run folder with what the explorer reads; every cluster has a text, the first is HOSTILE.

    Args:
        texts: their number; words: the texts themselves, made up if not given.
        params: of step 04.
    """
    rng = np.random.default_rng(seed)
    centroids = rng.normal(size=(clusters, 4)).astype(np.float32) * 4
    cluster = np.concatenate([np.arange(clusters), rng.integers(0, clusters, texts - clusters)])
    cluster = cluster.astype(np.int32)
    vectors = (centroids[cluster] + rng.normal(size=(texts, 4))).astype(np.float32)
    probabilities = rng.dirichlet([0.5, 0.5, 0.5], texts)
    lean = rng.dirichlet([0.3, 0.3, 0.3], clusters)  # some clusters are purer than others
    probabilities = (0.3 * probabilities + 0.7 * lean[cluster]).astype(np.float32)
    predicted, confidence = probabilities.argmax(1), probabilities.max(1)
    audit = np.where(rng.random(texts) < 0.3, rng.integers(0, 3, texts), -1)
    right = (audit >= 0) & (rng.random(texts) < 0.6)
    sources = ["отзывы", "соцсети", f"<b>{HOSTILE}</b>"]
    corpus = pd.DataFrame(
        {
            "text_id": [f"{i:016x}" for i in range(texts)],
            "text": words or [f"=1+1 {HOSTILE}", *made_up_texts(cluster[1:], rng)],
            "source": rng.choice(sources, texts, p=[0.6, 0.3, 0.1]),
            "audit_label": pd.Series(np.where(right, predicted, audit)).replace(-1, None),
        }
    )
    folder = run_dir / "01_gold_data" / "tables" / "corpus"
    for number, start in enumerate(range(0, texts, 40_000)):
        write_corpus(corpus[start : start + 40_000], folder / f"part-{number:05d}.parquet")
    thresholds = {"min_purity": 0.6, "min_confidence": 0.5}
    p = ClusterPurityParams(clusters=clusters, **thresholds | params)
    table = purity.purity_table(cluster, probabilities, clusters)
    distance = np.linalg.norm(vectors - centroids[cluster], axis=1)
    columns = {"cluster": cluster, "distance": distance}
    columns |= {"predicted": predicted, "confidence": confidence, "source": corpus["source"]}
    known = pd.DataFrame(columns)
    known["kept"] = filters.passes(known, table, **filters.options(p))
    target = run_dir / "04_cluster_purity"
    cluster_texts.write_clusters(target / "clusters.parquet", folder, known, table)
    table.to_csv(target / "purity.csv")
    kmeans = target / "kmeans" / str(clusters)
    KMeans(centroids, 1.0).save(kmeans / "kmeans.npz")
    np.save(kmeans / "assigned.npy", cluster)
    of_cluster = {"assigned": kmeans / "assigned.npy", "clusters": clusters, "seed": seed}
    cluster_words.describe(target / "words", corpus=folder, **of_cluster)
    shown = np.union1d(stratified_sample(cluster, map_points, seed), [0])
    places = pd.DataFrame({"row": shown, "x": vectors[shown, 0], "y": vectors[shown, 1]})
    files.write_parquet(target / "map" / "umap.parquet", places)
    manifest = {"parameters": p.model_dump(mode="json"), "inputs": {}, "outputs": {}}
    manifest |= {"seconds": 1.0, "peak_memory_mib": 1, "machine": "made up", "finished": "today"}
    files.write_json(target / "manifest.json", manifest)
    return run_dir
