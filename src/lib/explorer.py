"""The clusters of a run, to look into: everything that both explorers show.

Read once from the artefacts of steps 01 and 04. `lib.explorer_widget` shows it in JupyterLab,
`lib.explorer_page` as a page of the report.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from lib import LABELS, artifacts, reliability
from lib.cluster_texts import batches, read_sources, read_texts, stratified_sample
from lib.errors import UserError
from lib.kmeans import KMeans
from lib.projection import read_map
from lib.schema import ClusterPurityParams
from lib.spreadsheet import write_csv
from lib.threshold_counts import ThresholdCounts
from lib.words import cluster_words

STEP = "04_cluster_purity"
FILES = ("clusters.parquet", "purity.csv", "kmeans.npz", "umap.parquet")
WORD_TEXTS = 200_000  # texts from which words are counted; more add minutes and change little
WORDS = 12  # per cluster
KINDS = {
    "centre": "nearest to the centre",
    "border": "at the border",
    "unsure": "least sure",
}


@dataclass(frozen=True)
class Explorer:
    """A run's clusters.

    Attributes:
        corpus: folder of the corpus of 01; texts are read from it when they are shown.
        params: of step 04.
        texts: per corpus text, in its order: source (category), audit_label (-1: unknown),
            cluster, distance (to its centre), predicted (class index), confidence, kept.
        table: per cluster, as `lib.purity.purity_table` gives it.
        centroids: float32 [k, d].
        map_rows: int64 [m], the texts of the UMAP view; map_points: float32 [m, 2].
    """

    run_dir: Path
    corpus: Path
    params: ClusterPurityParams
    texts: pd.DataFrame
    table: pd.DataFrame
    centroids: np.ndarray
    map_rows: np.ndarray
    map_points: np.ndarray

    @cached_property
    def thresholds(self) -> ThresholdCounts:
        """What each pair of thresholds keeps; the filter's other options are those of the run."""
        texts, passing = self.texts, self.passing(0.0, 0.0)
        return ThresholdCounts.count(texts, self.purity[texts["cluster"]], passing)

    @property
    def purity(self) -> np.ndarray:
        """What the purity threshold acts on, float64 [k]; NaN for an empty cluster."""
        return self.table[self.params.purity_measure].to_numpy()

    @cached_property
    def words(self) -> list[list[str]]:
        """Characteristic words of every cluster, from up to WORD_TEXTS texts; seconds."""
        assigned = self.texts["cluster"].to_numpy()
        rows = stratified_sample(assigned, WORD_TEXTS, seed=0)
        texts = read_texts(self.corpus, rows)
        return cluster_words(texts, assigned[rows], len(self.table), WORDS)

    def members(self, cluster: int) -> np.ndarray:
        """Rows of a cluster's texts, nearest to the centre first.

        Raises:
            UserError: no cluster has this number.
        """
        if not 0 <= cluster < len(self.table):
            raise UserError(f"cluster {cluster}: the run has clusters 0 to {len(self.table) - 1}")
        starts, order = self._by_cluster
        return order[starts[cluster] : starts[cluster + 1]]

    def examples(self, cluster: int, kind: str, count: int) -> np.ndarray:
        """Rows of up to `count` of its texts; kind: centre, border or unsure (see KINDS)."""
        rows = self.members(cluster)
        if kind == "border":
            rows = rows[::-1]
        elif kind == "unsure":
            confidence = self.texts["confidence"].to_numpy()[rows]
            rows = rows[np.argsort(confidence, kind="stable")]
        return rows[:count]

    def nearest(self, cluster: int, count: int = 5) -> pd.Series:
        """The clusters with the nearest centres: distances by cluster; empty ones do not count."""
        distances = np.linalg.norm(self.centroids - self.centroids[cluster], axis=1)
        distances[self.table["size"].to_numpy() == 0] = np.inf
        distances[cluster] = np.inf
        found = np.argsort(distances, kind="stable")[:count]
        found = found[np.isfinite(distances[found])]
        return pd.Series(distances[found], found)

    def sources(self, cluster: int) -> pd.Series:
        """Texts of a cluster by source, most frequent first, without zeros."""
        counts = pd.Series(self._source_counts[cluster], self.texts["source"].cat.categories)
        return counts[counts > 0].sort_values(ascending=False, kind="stable")

    def by_purity(self, ascending: bool = False) -> np.ndarray:
        """Clusters by purity, equally pure ones by size; empty ones are left out."""
        frame = pd.DataFrame({"purity": self.purity, "size": self.table["size"].to_numpy()})
        frame = frame[frame["size"] > 0]
        return frame.sort_values(["purity", "size"], ascending=[ascending, False]).index.to_numpy()

    def search(self, words: str) -> np.ndarray:
        """Rows of the texts that contain this phrase; case, and е for ё, do not matter; int64."""
        pattern = re.sub("[её]", "[её]", re.escape(words.lower()))
        found, start = [np.empty(0, dtype=np.int64)], 0
        for batch in batches(self.corpus, ["text"]):
            hits = pc.match_substring_regex(batch["text"], pattern, ignore_case=True)
            found.append(start + np.flatnonzero(hits.to_numpy(zero_copy_only=False)))
            start += len(batch)
        return np.concatenate(found)

    def read(self, rows: np.ndarray) -> list[str]:
        """The words of these texts."""
        return read_texts(self.corpus, np.asarray(rows, dtype=np.int64))

    def passing(self, min_purity: float, min_confidence: float) -> np.ndarray:
        """Which texts pass these thresholds and the run's other options, bool [n]."""
        texts, options = self.texts, reliability.options(self.params)
        options |= {"min_purity": min_purity, "min_confidence": min_confidence}
        columns = (texts[name].to_numpy() for name in ("cluster", "predicted", "confidence"))
        return reliability.passes(*columns, self.table, **options)

    def kept_rows(self, min_purity: float, min_confidence: float) -> np.ndarray:
        """Rows of the texts that pass, int64; see `passing`."""
        return np.flatnonzero(self.passing(min_purity, min_confidence))

    def export(self, rows: np.ndarray, path: Path) -> int:
        """Write texts (sorted rows) as CSV for a spreadsheet; see `lib.spreadsheet`.

        Columns: text_id, text, source, cluster, purity, predicted, confidence, kept (by the run),
        audit_label (a name, or nothing).

        Returns:
            The number of texts.
        """
        return write_csv(path, self._rows_to_write(np.sort(rows)))

    def _rows_to_write(self, rows: np.ndarray) -> Iterator[pd.DataFrame]:
        start = 0
        names = dict(enumerate(LABELS))
        for batch in batches(self.corpus, ["text_id", "text"]):
            first, last = np.searchsorted(rows, [start, start + len(batch)])
            here = rows[first:last]
            known = self.texts.iloc[here]
            words = batch.take(pa.array(here - start, pa.int64())).to_pandas()
            yield words.assign(
                source=known["source"].astype(str).to_numpy(),
                cluster=known["cluster"].to_numpy(),
                purity=self.table["purity"].to_numpy()[known["cluster"]],
                predicted=known["predicted"].map(names).to_numpy(),
                confidence=known["confidence"].to_numpy(),
                kept=known["kept"].to_numpy(),
                audit_label=known["audit_label"].map(names).to_numpy(),
            )
            start += len(batch)

    @cached_property
    def _source_counts(self) -> np.ndarray:
        shape = (len(self.table), len(self.texts["source"].cat.categories))
        place = (self.texts["cluster"].to_numpy(), self.texts["source"].cat.codes.to_numpy())
        cells = np.ravel_multi_index(place, shape)
        return np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape)

    @cached_property
    def _by_cluster(self) -> tuple[np.ndarray, np.ndarray]:
        cluster = self.texts["cluster"].to_numpy()
        order = np.lexsort((self.texts["distance"].to_numpy(), cluster))
        return np.searchsorted(cluster[order], np.arange(len(self.table) + 1)), order


def is_ready(run_dir: Path) -> bool:
    """Whether a run has what the explorer shows."""
    done = artifacts.read_manifest(run_dir, STEP) is not None
    return done and all((Path(run_dir) / STEP / name).exists() for name in FILES)


def load(run_dir: Path | str) -> Explorer:
    """Read a run's clusters.

    Raises:
        UserError: step 04 is not complete in this run, or the corpus has changed since.
    """
    run_dir = Path(run_dir).resolve()
    folder = run_dir / STEP
    manifest = artifacts.read_manifest(run_dir, STEP)
    if manifest is None:
        raise UserError(f"{run_dir} has no complete step {STEP}; run it, or change run_dir")
    if missing := [name for name in FILES if not (folder / name).exists()]:
        raise UserError(f"{folder} has no {', '.join(missing)}; run {STEP} again")
    corpus = run_dir / "01_gold_data" / "corpus"
    columns = ["cluster", "distance", "predicted", "confidence", "kept"]
    texts = read_sources(corpus)
    clusters = pd.read_parquet(folder / "clusters.parquet", columns=columns)
    if len(texts) != len(clusters):
        raise UserError(
            f"{corpus} has {len(texts)} texts, but {len(clusters)} have been clustered; "
            f"run {STEP} again"
        )
    table = pd.read_csv(folder / "purity.csv", index_col="cluster", float_precision="round_trip")
    rows, points = read_map(folder / "umap.parquet")
    return Explorer(
        run_dir=run_dir,
        corpus=corpus,
        params=ClusterPurityParams(**manifest["parameters"]),
        texts=pd.concat([texts, clusters], axis=1),
        table=table,
        centroids=KMeans.load(folder / "kmeans.npz").centroids,
        map_rows=rows,
        map_points=points,
    )
