"""K-Means, cluster purity, and the reliability filter.

The purity of a cluster is the share of its dominant *predicted* class: where neighbours in the
embedding space get one prediction, a single prediction is more to be trusted (Manning, Raghavan,
Schütze 2008, "Introduction to Information Retrieval", section 16.3, with predictions instead of
true classes).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
import pandas as pd

from lib import LABELS
from lib.artifacts import atomic
from lib.errors import UserError

K = len(LABELS)


@dataclass
class KMeans:
    """centroids float32 [k, d]; inertia: mean squared distance of the assigned texts."""

    centroids: np.ndarray
    inertia: float

    def save(self, path: Path) -> None:
        """Write as .npz, atomically."""
        with atomic(path) as temporary:
            np.savez(temporary, centroids=self.centroids, inertia=self.inertia)

    @classmethod
    def load(cls, path: Path) -> KMeans:
        """Read what `save` wrote."""
        with np.load(path) as content:
            return cls(content["centroids"], float(content["inertia"]))

    def assign(self, vectors: np.ndarray, chunk: int = 100_000) -> tuple[np.ndarray, np.ndarray]:
        """Nearest centroid: vectors [n, d] -> cluster int32 [n], distance float32 [n]."""
        index = faiss.IndexFlatL2(self.centroids.shape[1])
        index.add(self.centroids)
        clusters = np.empty(len(vectors), dtype=np.int32)
        distances = np.empty(len(vectors), dtype=np.float32)
        for start in range(0, len(vectors), chunk):
            part = np.ascontiguousarray(vectors[start : start + chunk], dtype=np.float32)
            squared, nearest = index.search(part, 1)
            clusters[start : start + chunk] = nearest[:, 0]
            distances[start : start + chunk] = np.sqrt(np.maximum(squared[:, 0], 0))
        return clusters, distances


def fit_kmeans(
    vectors: np.ndarray,
    clusters: int,
    *,
    iterations: int,
    restarts: int,
    sample: int,
    seed: int,
) -> KMeans:
    """Lloyd's K-Means by faiss on a random sample of the vectors; no cluster is empty.

    Starts are k-means++ (Arthur and Vassilvitskii 2007): random ones get stuck much higher.

    Args:
        vectors: float32 [n, d], may be memory-mapped.
        clusters, iterations, restarts, sample: see `lib.params.ClusterPurityParams`.
    Raises:
        UserError: fewer vectors (or a smaller sample) than clusters.
    """
    count = len(vectors)
    if min(count, sample) < clusters:
        raise UserError(
            f"04_cluster_purity.clusters: {clusters} clusters need at least as many texts; the "
            f"corpus has {count} and kmeans_sample is {sample}; lower clusters or add texts"
        )
    if sample < count:
        rows = np.sort(np.random.default_rng(seed).choice(count, size=sample, replace=False))
        train = np.ascontiguousarray(vectors[rows], dtype=np.float32)
    else:
        train = np.ascontiguousarray(vectors, dtype=np.float32)
    kmeans = faiss.Kmeans(
        train.shape[1],
        clusters,
        niter=iterations,
        nredo=restarts,
        seed=seed,
        init_method=faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS,
        min_points_per_centroid=1,
        max_points_per_centroid=max(1, -(-len(train) // clusters)) + 1,  # the sample is ours
    )
    kmeans.train(train)
    return _without_empty(KMeans(np.asarray(kmeans.centroids), 0.0), vectors)


def _without_empty(kmeans: KMeans, vectors: np.ndarray) -> KMeans:
    """Move the centroids of empty clusters onto the texts farthest from their own centroid.

    With fewer distinct vectors than clusters some stay empty.
    """
    for _ in range(len(kmeans.centroids)):
        assigned, distances = kmeans.assign(vectors)
        sizes = np.bincount(assigned, minlength=len(kmeans.centroids))
        empty = np.flatnonzero(sizes == 0)
        kmeans.inertia = float((distances.astype(np.float64) ** 2).mean())
        if not len(empty) or not distances.any():
            break
        distances[sizes[assigned] == 1] = -1.0  # a text alone in its cluster stays there
        farthest = np.argsort(-distances, kind="stable")[: 20 * len(empty)]
        _, first = np.unique(vectors[farthest], axis=0, return_index=True)  # copies count once
        farthest = farthest[np.sort(first)][: len(empty)]
        kmeans.centroids[empty[: len(farthest)]] = vectors[farthest]
    return kmeans


def purity_table(assigned: np.ndarray, probabilities: np.ndarray, clusters: int) -> pd.DataFrame:
    """One row per cluster.

    Args:
        assigned: int [n], cluster of each text; probabilities: float [n, 3].
    Returns:
        index cluster; size, one count per predicted class, dominant (class index),
        purity in [1/3, 1] (NaN for an empty cluster), mean_confidence.
    """
    predicted = probabilities.argmax(1)
    counts = np.bincount(assigned * K + predicted, minlength=clusters * K).reshape(clusters, K)
    size = counts.sum(1)
    confidence = np.bincount(assigned, weights=probabilities.max(1), minlength=clusters)
    with np.errstate(invalid="ignore", divide="ignore"):
        purity, mean_confidence = counts.max(1) / size, confidence / size
    table = pd.DataFrame(counts, columns=list(LABELS))
    table.insert(0, "size", size)
    table["dominant"] = counts.argmax(1)
    table["purity"] = purity
    table["mean_confidence"] = mean_confidence
    return table.rename_axis("cluster")


def reliable(
    assigned: np.ndarray,
    probabilities: np.ndarray,
    table: pd.DataFrame,
    *,
    min_purity: float,
    min_confidence: float,
    require_dominant: bool,
) -> np.ndarray:
    """Which pseudo-labels to keep, bool [n].

    A text is kept if its cluster is pure, its own prediction confident, and (require_dominant)
    the prediction is the cluster's dominant class.
    """
    predicted = probabilities.argmax(1)
    kept = table["purity"].to_numpy()[assigned] >= min_purity
    kept &= probabilities.max(1) >= min_confidence
    if require_dominant:
        kept &= predicted == table["dominant"].to_numpy()[assigned]
    return kept


def check_kept(kept: np.ndarray, predicted: np.ndarray) -> None:
    """Raises UserError if no text, or no text of some class, passed the filter."""
    counts = np.bincount(predicted[kept], minlength=K)
    if (counts == 0).any():
        absent = [name for name, n in zip(LABELS, counts, strict=True) if n == 0]
        raise UserError(
            f"04_cluster_purity: no text of class {', '.join(absent)} passed the filter (kept: "
            f"{dict(zip(LABELS, counts.tolist(), strict=True))}); lower min_purity or "
            "min_confidence, or change clusters"
        )


def examples(
    frame: pd.DataFrame, table: pd.DataFrame, clusters: list[int], count: int
) -> pd.DataFrame:
    """Clusters with their texts nearest to the centre, for reading.

    Args:
        frame: `text`, `cluster`, `distance` of every text; table: as `purity_table` gives it.
    Returns:
        cluster, size, purity, dominant and `texts` (joined by line breaks).
    """
    chosen = frame[frame["cluster"].isin(clusters)].sort_values("distance", kind="stable")
    texts = chosen.groupby("cluster")["text"].apply(
        lambda t: "\n".join(f"— {x[:160]}" for x in t.head(count))
    )
    rows = table.loc[clusters, ["size", "purity", "dominant"]].copy()
    rows["dominant"] = [LABELS[i] for i in rows["dominant"]]
    rows["texts"] = texts.reindex(clusters)
    return rows.reset_index()


def audit(
    predicted: np.ndarray, audit_label: pd.Series, kept: np.ndarray, sources: pd.Series
) -> pd.DataFrame:
    """How often pseudo-labels agree with audit labels, all against kept, by source.

    Returns:
        source, texts and agreement of all predictions, kept texts and their agreement; empty
        when no text has an audit label.
    """
    known = audit_label.notna().to_numpy()
    right = predicted == audit_label.fillna(-1).to_numpy()
    rows = []
    for source in sorted(sources[known].unique()):
        here = known & (sources == source).to_numpy()
        chosen = here & kept
        rows.append(
            {
                "source": source,
                "texts": int(here.sum()),
                "agreement": float(right[here].mean()),
                "kept": int(chosen.sum()),
                "agreement of kept": float(right[chosen].mean()) if chosen.any() else None,
            }
        )
    columns = ["source", "texts", "agreement", "kept", "agreement of kept"]
    return pd.DataFrame(rows, columns=columns)


def kept_metrics(frame: pd.DataFrame, audit_table: pd.DataFrame) -> list[dict[str, object]]:
    """Rows of metrics.json: share kept overall and per class, and agreement with audit labels."""
    about = {"dataset": "corpus", "split": "corpus"}
    rows = [
        {"name": "kept_share", **about, "texts": len(frame), "value": float(frame["kept"].mean())}
    ]
    for i, name in enumerate(LABELS):
        of_class = frame[frame["predicted"] == i]
        rows.append(
            {
                "name": f"kept_{name}",
                **about,
                "texts": len(of_class),
                "value": int(of_class["kept"].sum()),
            }
        )
    for row in audit_table.itertuples():
        about = {"dataset": row.source, "split": "audit"}
        rows.append({"name": "agreement", **about, "texts": row.texts, "value": row.agreement})
        if row.kept:
            rows.append({"name": "agreement_of_kept", **about, "texts": row.kept, "value": row[-1]})
    return rows
