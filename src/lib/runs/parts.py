"""The parts of every step: what each long computation reads, and which parameters concern it.

This is the dependency table of the process. The notebooks and `python -m lib step` call the same
functions; a part is made only if something that it depends on has changed (`lib.runs.steps`).

A part is a function of another room and its arguments are found by their names: what is given here,
else the step's parameter of that name, else the artefact of that name in ARTEFACTS. Rooms are
imported where they are used: with torch or scikit-learn behind them that takes seconds.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lib.artefacts import read_manifest
from lib.data import corpus, sources
from lib.errors import UserError
from lib.runs.steps import Step

ARTEFACTS = {
    "gold": ("01_gold_data", "tables/gold.parquet"),
    "corpus": ("01_gold_data", "tables/corpus"),
    "model": ("02_base_classifier", "model"),
    "base": ("02_base_classifier", "model"),
    "embeddings": ("03_embed_corpus", "embeddings"),
    "pca": ("03_embed_corpus", "pca/pca.npz"),
    "vectors": ("03_embed_corpus", "pca/reduced.npy"),
    "clusters": ("04_cluster_purity", "clusters.parquet"),
    "final": ("05_metric_learning", "model"),
    "heldout": ("05_metric_learning", "training_texts/heldout.parquet"),
}
"""Argument -> the earlier step's artefact that it is."""
LOCAL_MODELS = ("base_model", "start_model")
TRAINING = (
    "learning_rate",
    "head_learning_rate",
    "freeze_word_embeddings",
    "tokens_per_batch",
    "gradient_checkpointing",
    "seed",
    "precision",
    "device",
)
"""Parameters of both training steps' optimiser, which their functions take as one dict."""


def make(
    step: Step, name: str, function: Callable[..., Any], *, together: bool = False, **given: Any
) -> Path:
    """`step.make` with those arguments of `function` that are not given; see the module."""
    arguments = dict(given)
    for argument in list(inspect.signature(function).parameters)[1:]:  # the first is the folder
        if argument in given:
            continue
        if argument in type(step.params).model_fields:
            arguments[argument] = _parameter(step, argument)
        else:
            arguments[argument] = step.input(*ARTEFACTS[argument])
    return step.make(name, function, together=together, **arguments)


def _parameter(step: Step, name: str) -> Any:
    """A parameter's value; a local model counts by its content, so it is given as a path."""
    value = getattr(step.params, name)
    if name in LOCAL_MODELS and value and (path := Path(value).expanduser()).is_dir():
        return path
    return value


def tables(step: Step) -> Path:
    """01: gold.parquet and corpus/."""
    contents = sources.fingerprint(step.params)
    parameters = step.params.model_dump(mode="json")
    return make(step, "tables", corpus.prepare, parameters=parameters, contents=contents)


def base_model(step: Step) -> Path:
    """02: the base classifier."""
    from lib.training import base

    training = step.params.only(*TRAINING)
    return make(step, "model", base.train, together=True, training=training)


def probe(step: Step) -> Path | None:
    """03: the pretrained encoder with a linear probe; None where neither of them is asked for."""
    from lib.embeddings import probe as probe_

    wanted = step.params.linear_probe or step.params.cluster_space == "base_model"
    return make(step, "probe", probe_.fit) if wanted else None


def embeddings(step: Step) -> Path:
    """03: vectors and probabilities of all corpus texts."""
    from lib.embeddings import store

    return make(step, "embeddings", store.embed, together=True, probe=probe(step))


def pca(step: Step) -> Path:
    """03: the principal components, and the vectors reduced to them."""
    from lib.embeddings import pca as pca_

    dimensions = step.params.pca_dimensions
    vectors = embeddings(step)
    return make(step, "pca", pca_.fit_and_project, embeddings=vectors, dimensions=dimensions)


def kmeans(step: Step) -> Path:
    """04: K-Means."""
    from lib.clusters import kmeans as kmeans_

    p = step.params
    options = {"restarts": p.kmeans_restarts, "sample": p.kmeans_sample}
    return make(step, f"kmeans/{p.clusters}", kmeans_.cluster, **options)


def corpus_map(step: Step, kmeans: Path) -> Path:
    """04: UMAP of a sample in which every cluster has its share."""
    from lib.clusters import map as map_

    assigned, points = kmeans / "assigned.npy", step.params.umap_points
    return make(step, "map", map_.project, assigned=assigned, points=points)


def words(step: Step, kmeans: Path) -> Path:
    """04: the characteristic words of every cluster."""
    from lib.clusters import words as words_

    return make(step, "words", words_.describe, assigned=kmeans / "assigned.npy")


def kmeans_in_use(step: Step) -> Path:
    """The centres that 04 filtered by."""
    manifest = read_manifest(step.run_dir, "04_cluster_purity")
    if manifest is None:
        raise UserError(f"04_cluster_purity is not complete in {step.run_dir}; run it first")
    clusters = manifest["parameters"]["clusters"]
    return step.input("04_cluster_purity", f"kmeans/{clusters}/kmeans.npz")


def gold_clusters(step: Step) -> Path:
    """05: the cluster that is nearest to each gold train text."""
    from lib.training import final

    embedded = read_manifest(step.run_dir, "03_embed_corpus")
    if embedded is not None and embedded["parameters"]["cluster_space"] == "base_model":
        model = step.input("03_embed_corpus", "probe")
    else:
        model = step.input("02_base_classifier", "model")
    return make(step, "gold_clusters", final.assign_gold, kmeans=kmeans_in_use(step), model=model)


def training_texts(step: Step) -> Path:
    """05: the kept texts with their pseudo-labels, to train on and held out."""
    from lib.training import final

    return make(step, "training_texts", final.write_training_texts)


def candidates(step: Step, training_texts: Path, gold_clusters: Path) -> dict[float, Path]:
    """05: a model for each value of `lambda_metric`."""
    from lib.training import final

    p = step.params
    options: dict[str, Any] = {
        "gold_clusters": gold_clusters / "gold_clusters.parquet",
        "pseudo": training_texts / "pseudo.parquet",
        "kmeans": kmeans_in_use(step),
        "supcon": p.only("temperature", "hard_mining", "memory_size"),
        "sampling": p.only("batch_groups", "group_size", "gold_share", "hard_mining", "seed"),
        "training": p.only("steps", "evaluations", *TRAINING),
        "together": True,
    }
    return {
        value: make(
            step, f"candidates/{value:g}", final.train_candidate, lambda_metric=value, **options
        )
        for value in p.lambda_metric
    }


def final_model(step: Step, candidates: dict[float, Path]) -> Path:
    """05: the candidate that is best on validation, calibrated."""
    from lib.training import final

    named = {f"{value:g}": folder for value, folder in candidates.items()}
    return make(step, "model", final.choose, candidates=named)


def predictions(step: Step) -> Path:
    """06: what both models say of gold test and validation, audit texts and held-out ones."""
    from lib.evaluation import comparison

    return make(step, "predictions", comparison.predict)


def spaces(step: Step, predictions: Path) -> Path:
    """06: UMAP of the gold test texts in both models' spaces."""
    from lib.evaluation import spaces as spaces_

    points = step.params.umap_points
    return make(step, "spaces", spaces_.project, predictions=predictions, points=points)


def perturbed(step: Step) -> Path:
    """Appendix: what both models say of gold test texts that are written differently."""
    from lib.evaluation import robustness

    texts = step.params.perturbation_texts
    return make(step, "perturbed", robustness.perturb, texts=texts)


TOGETHER: dict[str, Callable[[Step], Any]] = {
    "02_base_classifier": base_model,
    "03_embed_corpus": embeddings,
    "05_metric_learning": lambda step: candidates(step, training_texts(step), gold_clusters(step)),
}
"""The long part of a step, for several processes: see `python -m lib step`."""
