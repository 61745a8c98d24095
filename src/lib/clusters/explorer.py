"""The clusters of a run, to look into: everything that both explorers show.

Read once from the artefacts of steps 01 and 04. `lib.clusters.widget` shows it in JupyterLab,
`lib.reports.explorer_page` as a page of the report.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from lib import LABELS, files
from lib.artefacts import changed_inputs, read_manifest
from lib.clusters.filter import best, passes
from lib.clusters.kmeans import KMeans
from lib.clusters.map import read_map
from lib.clusters.texts import COLUMNS
from lib.data.tables import batches, read_sources, read_texts
from lib.errors import UserError
from lib.parameters import ClusterPurityParams

STEP = "04_cluster_purity"
KINDS = {"centre": "nearest to the centre", "border": "at the border", "unsure": "least sure"}


@dataclass(frozen=True)
class Explorer:
    """A run's clusters.

    Attributes:
        corpus: folder of the corpus of 01; texts are read from it when they are shown.
        params: of step 04.
        texts: per corpus text, in its order: source (category), audit_label (-1: unknown),
            cluster, distance (to its centre), predicted (class index), confidence, kept.
        table: per cluster, as `lib.clusters.purity.purity_table` gives it.
        words: characteristic words per cluster; centroids: float32 [k, d].
        map_rows: int64 [m], the texts of the map; map_points: float32 [m, 2].
    """

    run_dir: Path
    corpus: Path
    params: ClusterPurityParams
    texts: pd.DataFrame
    table: pd.DataFrame
    words: list[list[str]]
    centroids: np.ndarray
    map_rows: np.ndarray
    map_points: np.ndarray

    def passing(self, min_purity: float, min_confidence: float) -> np.ndarray:
        """Which texts pass these thresholds and the run's other options, bool [n]."""
        thresholds = {"min_purity": min_purity, "min_confidence": min_confidence}
        return self._best & passes(self.texts, self.table, **thresholds)

    @cached_property
    def _best(self) -> np.ndarray:
        """By rank, which no threshold changes."""
        ranking = self.params.only("best_share", "best_most", "rank_by")
        return best(self.texts, self.table, **ranking)

    def members(self, cluster: int) -> np.ndarray:
        """Rows of a cluster's texts, nearest to the centre first.

        Raises:
            UserError: no cluster has this number.
        """
        if not 0 <= cluster < len(self.table):
            raise UserError(f"cluster {cluster}: the run has clusters 0 to {len(self.table) - 1}")
        return self._by_cluster[cluster]

    @cached_property
    def _by_cluster(self) -> list[np.ndarray]:
        cluster = self.texts["cluster"].to_numpy()
        order = np.lexsort((self.texts["distance"].to_numpy(), cluster))
        return np.split(order, np.searchsorted(cluster[order], np.arange(1, len(self.table))))

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
        distances = pd.Series(np.linalg.norm(self.centroids - self.centroids[cluster], axis=1))
        there = distances[(self.table["size"] > 0).to_numpy()]
        return there.drop(cluster, errors="ignore").sort_values(kind="stable")[:count]

    def sources(self, cluster: int) -> pd.Series:
        """Texts of a cluster by source, most frequent first, without zeros."""
        counts = self.texts["source"].iloc[self.members(cluster)].value_counts()
        return counts[counts > 0]

    def by_purity(self) -> np.ndarray:
        """Clusters, the purest first, equally pure ones by size; empty ones are left out."""
        table = self.table[self.table["size"] > 0]
        return table.sort_values(["purity", "size"], ascending=False).index.to_numpy()

    def search(self, words: str) -> np.ndarray:
        """Rows of the texts that contain this phrase; case, and е for ё, do not matter; int64."""
        pattern = re.sub("[её]", "[её]", re.escape(words.lower()))
        found = [
            pc.match_substring_regex(batch["text"], pattern, ignore_case=True)
            for batch in batches(self.corpus, ["text"])
        ]
        return np.flatnonzero(np.concatenate(found))

    def read(self, rows: np.ndarray) -> list[str]:
        """The words of these texts."""
        return read_texts(self.corpus, np.asarray(rows, dtype=np.int64))

    def frame(self, rows: np.ndarray) -> pd.DataFrame:
        """These texts for people: text, source, cluster, purity, predicted, confidence, kept (by
        the run), audit_label; classes by name."""
        names = dict(enumerate(LABELS))
        known = self.texts.iloc[rows]
        columns = ["text", "source", "cluster", "purity", "predicted", "confidence", "kept"]
        return known.assign(
            text=self.read(rows),
            source=known["source"].astype(str),
            purity=self.table["purity"].to_numpy()[known["cluster"]],
            predicted=known["predicted"].map(names),
            audit_label=known["audit_label"].map(names),
        )[[*columns, "audit_label"]]


def load(run_dir: Path | str) -> Explorer:
    """Read a run's clusters.

    Raises:
        UserError: step 04 is not complete in this run, or the corpus has changed since.
    """
    run_dir = Path(run_dir).resolve()
    if (manifest := read_manifest(run_dir, STEP)) is None:
        raise UserError(f"{run_dir} has no complete step {STEP}; run it, or change run_dir")
    if changed := [f for f in changed_inputs(run_dir, manifest) if f.startswith("01_gold_data")]:
        raise UserError(
            f"{run_dir}: {', '.join(changed)} is no longer what {STEP} has clustered; run it again"
        )
    try:
        return _read(run_dir, ClusterPurityParams(**manifest["parameters"]))
    except FileNotFoundError as error:
        raise UserError(f"missing: {error}; run {STEP} again") from None


def _read(run_dir: Path, params: ClusterPurityParams) -> Explorer:
    folder, corpus = run_dir / STEP, run_dir / "01_gold_data" / "tables" / "corpus"
    clusters = pd.read_parquet(folder / "clusters.parquet", columns=COLUMNS)
    table = pd.read_csv(folder / "purity.csv", index_col="cluster", float_precision="round_trip")
    rows, points = read_map(folder / "map" / "umap.parquet")
    return Explorer(
        run_dir=run_dir,
        corpus=corpus,
        params=params,
        texts=pd.concat([read_sources(corpus), clusters], axis=1),
        table=table,
        words=files.read_json(folder / "words" / "words.json"),
        centroids=KMeans.load(folder / f"kmeans/{params.clusters}/kmeans.npz").centroids,
        map_rows=rows,
        map_points=points,
    )
