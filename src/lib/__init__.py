"""From a big noisy pile of text to a small Russian sentiment model, step by step.

The rooms, in the order of the data; each knows only those above it in this list:

    errors, files, artefacts, metrics, parameters, style    what all rooms stand on
    data/         01  registry of data sets, cleaning, near-duplicates, leak-free splits
    models/           encoders, the embedded one, inference, trimming, export, prediction
    embeddings/   03  the embedding store, PCA, the linear probe
    clusters/     04  K-Means, purity, the filter, words, the map, the explorer
    training/ 02, 05  the trainer, losses, batches by class and cluster, pseudo-labels
    evaluation/   06  base against final, mistakes, calibration, spaces, robustness
    reports/          notebooks as pages, front page, explorer page, comparison of runs
    runs/             steps and their artefacts, fingerprints, the runner, sweeps
    __main__          the command line
"""

import sys

# jsonschema (behind nbformat and plotly) imports it to check addresses in notebooks' metadata, and
# its grammar takes three seconds to build in every process; where it is missing, nothing is checked
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

__version__ = "0.2.0"

LABELS = ("negative", "neutral", "positive")
"""The three classes; a label is an index into this tuple everywhere in the project."""
