"""Benchmark `umap`: the map of step 04 at any number of simulated texts: time, memory, page size.

Vectors with cluster structure stand for PCA vectors, random Cyrillic words for texts. The figure is
written as the report writes it (plotly's script, 4.6 MB and stored once, not counted).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from lib.bench.memory import peak_memory

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

LETTERS = "аеиоусртнвлкмдп"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command line."""
    parser.add_argument("--points", type=int, default=20_000, help="texts; default 20000")
    parser.add_argument("--dim", type=int, default=128, help="dimensions; default 128")
    parser.add_argument("--clusters", type=int, default=2000, help="default 2000")
    parser.add_argument("--neighbors", type=int, default=15, help="UMAP n_neighbors; default 15")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="keep the figure as HTML in this file")


def run(options: argparse.Namespace) -> int:
    """Measure and print; returns the exit status."""
    import numpy as np

    from lib import cluster_plots, projection, report_chapter, report_page
    from lib.artifacts import machine
    from lib.bench.simulation import Mixture

    mixture = Mixture(options.dim, options.clusters, options.seed)
    parts = list(mixture.chunks(options.points))
    vectors, clusters = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    print(f"{machine()}\n{len(vectors):,} x {options.dim}, {options.neighbors} neighbours")
    projection.umap_points(vectors[:500], options.neighbors, options.seed)  # compiles
    started = time.perf_counter()
    points = projection.umap_points(vectors, options.neighbors, options.seed)
    print(f"UMAP: {time.perf_counter() - started:.1f} s", flush=True)
    started = time.perf_counter()
    figure = cluster_plots.umap_view(points, made_up_texts(clusters, options.seed), "Simulated")
    drawn = report_chapter.plotly_html(json.loads(figure.to_json()), "map")
    print(f"figure: {time.perf_counter() - started:.1f} s, {len(drawn.encode()) / 2**20:.1f} MiB")
    print(f"peak memory: {peak_memory():.2f} GiB")
    if options.out:
        script = report_page.plotly_tag(inline=True)
        page = report_page.page("Simulated", drawn, [], plotly_script=script)
        report_page.write(options.out, page)
    return 0


def made_up_texts(clusters: np.ndarray, seed: int) -> pd.DataFrame:
    """Texts of about 80 characters as `lib.cluster_plots.umap_view` takes them.

    Args:
        clusters: int [n], the cluster of each text.
    """
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(seed)
    count = len(clusters)
    letters = rng.choice(list(LETTERS + "   "), size=(count, 80))
    classes = rng.integers(0, 3, clusters.max() + 1)
    purity = rng.uniform(1 / 3, 1, len(classes))
    return pd.DataFrame(
        {
            "text": ["".join(row) for row in letters],
            "source": "simulated",
            "cluster": clusters,
            "predicted": classes[clusters],
            "confidence": rng.uniform(1 / 3, 1, count),
            "purity": purity[clusters],
        }
    )
