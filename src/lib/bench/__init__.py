"""Benchmarks: `python -m lib bench NAME`. Each measures all contestants in one run.

A benchmark is a module with `add_arguments(parser)` and `run(options) -> int` (the exit status).
Peers that are compared with come with `pip install -e ".[bench]"`.
"""

from __future__ import annotations

BENCHMARKS = {
    "corpus": "reading, cleaning, deduplication and writing at any number of texts",
    "embed": "texts per second of the embedding step, against sentence-transformers and pipeline",
    "kmeans": "time and inertia of K-Means, against scikit-learn and fastkmeans",
    "scale": "normalise, PCA, K-Means, purity and filter at millions of simulated vectors",
    "train": "time to the same validation macro-F1, against transformers.Trainer",
    "umap": "time and page size of the map at up to 100,000 points",
}
"""Name of a benchmark's module -> what it measures."""
