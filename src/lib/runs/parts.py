"""The parts of every step: what each long computation reads, and which parameters concern it.

This is the dependency table of the process. The notebooks and `python -m lib step` call the same
functions; a part is made only if something that it names here has changed (`lib.runs.steps`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lib.clusters import kmeans as kmeans_
from lib.clusters import map as map_
from lib.clusters import words as words_
from lib.data import corpus, sources
from lib.embeddings import pca as pca_
from lib.runs.steps import Step

HARDWARE = ("max_tokens", "precision", "device")
RATES = ("learning_rate", "head_learning_rate", "freeze_word_embeddings")
TRAINING = (*RATES, "seed", "precision", "device")


def tables(step: Step) -> Path:
    """01: gold.parquet and corpus/."""
    contents = sources.fingerprint(step.params)
    parameters = step.params.model_dump(mode="json")
    return step.make("tables", corpus.prepare, parameters=parameters, contents=contents)


def base_model(step: Step) -> Path:
    """02: the base classifier."""
    from lib.training import base

    p = step.params
    return step.make(
        "model",
        base.train,
        together=True,
        gold=step.input("01_gold_data", "tables/gold.parquet"),
        start_model=Path(p.start_model) if p.start_model else None,
        **_pretrained(p),
        **p.only("pooling", "max_tokens", "epochs", "batch_size"),
        **p.only("evaluations_per_epoch", "calibrate"),
        training=p.only(*TRAINING),
    )


def probe(step: Step) -> Path | None:
    """03: the linear probe; None without `linear_probe`."""
    from lib.embeddings import probe as probe_

    if not step.params.linear_probe:
        return None
    return step.make(
        "probe",
        probe_.fit,
        gold=step.input("01_gold_data", "tables/gold.parquet"),
        model=step.input("02_base_classifier", "model"),
        **_pretrained(step.params),
        **step.params.only("seed", *HARDWARE),
    )


def embeddings(step: Step) -> Path:
    """03: vectors and probabilities of all corpus texts."""
    from lib.embeddings import store

    return step.make(
        "embeddings",
        store.embed,
        together=True,
        corpus=step.input("01_gold_data", "tables/corpus"),
        model=step.input("02_base_classifier", "model"),
        probe=probe(step),
        **step.params.only("shard_size", "tokens_per_batch", *HARDWARE),
    )


def pca(step: Step) -> Path:
    """03: the principal components, and the vectors reduced to them."""
    return step.make(
        "pca",
        pca_.fit_and_project,
        embeddings=embeddings(step),
        dimensions=step.params.pca_dimensions,
    )


def kmeans(step: Step) -> Path:
    """04: K-Means."""
    p = step.params
    return step.make(
        f"kmeans/{p.clusters}",
        kmeans_.cluster,
        vectors=step.input("03_embed_corpus", "pca/reduced.npy"),
        restarts=p.kmeans_restarts,
        sample=p.kmeans_sample,
        **p.only("clusters", "seed"),
    )


def corpus_map(step: Step, kmeans: Path) -> Path:
    """04: UMAP of a sample in which every cluster has its share."""
    return step.make(
        "map",
        map_.project,
        vectors=step.input("03_embed_corpus", "pca/reduced.npy"),
        assigned=kmeans / "assigned.npy",
        points=step.params.umap_points,
        seed=step.params.seed,
    )


def words(step: Step, kmeans: Path) -> Path:
    """04: the characteristic words of every cluster."""
    return step.make(
        "words",
        words_.describe,
        corpus=step.input("01_gold_data", "tables/corpus"),
        assigned=kmeans / "assigned.npy",
        **step.params.only("clusters", "seed"),
    )


def gold_clusters(step: Step) -> Path:
    """05: the cluster that is nearest to each gold train text, in the base model's space."""
    from lib.training import final

    return step.make(
        "gold_clusters",
        final.assign_gold,
        gold=step.input("01_gold_data", "tables/gold.parquet"),
        model=step.input("02_base_classifier", "model"),
        pca=step.input("03_embed_corpus", "pca/pca.npz"),
        kmeans=kmeans_in_use(step),
        **step.params.only(*HARDWARE),
    )


def training_texts(step: Step) -> Path:
    """05: the kept texts with their pseudo-labels, to train on and held out."""
    from lib.training import final

    return step.make(
        "training_texts",
        final.write_training_texts,
        corpus=step.input("01_gold_data", "tables/corpus"),
        embeddings=step.input("03_embed_corpus", "embeddings"),
        clusters=step.input("04_cluster_purity", "clusters.parquet"),
        **step.params.only("heldout_share", "seed"),
    )


def candidates(step: Step, training_texts: Path, gold_clusters: Path) -> dict[float, Path]:
    """05: a model for each value of `lambda_metric`."""
    from lib.training import final

    p = step.params
    options: dict[str, Any] = {
        "gold": step.input("01_gold_data", "tables/gold.parquet"),
        "gold_clusters": gold_clusters / "gold_clusters.parquet",
        "pseudo": training_texts / "pseudo.parquet",
        "kmeans": kmeans_in_use(step),
        "model": step.input("02_base_classifier", "model"),
        **_pretrained(p),
        **p.only("lambda_class", "start_from", "max_tokens", "pseudo_weight", "soft_labels"),
        "supcon": p.only("temperature", "hard_mining", "memory_size"),
        "sampling": p.only("batch_groups", "group_size", "gold_share", "hard_mining", "seed"),
        "training": p.only("steps", "evaluations", *TRAINING),
    }
    return {
        value: step.make(
            f"candidates/{value:g}",
            final.train_candidate,
            together=True,
            lambda_metric=value,
            **options,
        )
        for value in p.lambda_metric
    }


def final_model(step: Step, candidates: dict[float, Path]) -> Path:
    """05: the candidate that is best on validation, calibrated."""
    from lib.training import final

    return step.make(
        "model",
        final.choose,
        candidates={f"{value:g}": folder for value, folder in candidates.items()},
        gold=step.input("01_gold_data", "tables/gold.parquet"),
        **step.params.only("calibrate", *HARDWARE),
    )


def predictions(step: Step) -> Path:
    """06: what both models say of gold test and validation, audit texts and held-out ones."""
    from lib.evaluation import comparison

    return step.make(
        "predictions",
        comparison.predict,
        gold=step.input("01_gold_data", "tables/gold.parquet"),
        corpus=step.input("01_gold_data", "tables/corpus"),
        heldout=step.input("05_metric_learning", "training_texts/heldout.parquet"),
        **_both_models(step),
        **step.params.only(*HARDWARE),
    )


def spaces(step: Step, predictions: Path) -> Path:
    """06: UMAP of the gold test texts in both models' spaces."""
    from lib.evaluation import spaces as spaces_

    return step.make(
        "spaces",
        spaces_.project,
        predictions=predictions,
        points=step.params.umap_points,
        seed=step.params.seed,
    )


def perturbed(step: Step) -> Path:
    """Appendix: what both models say of gold test texts that are written differently."""
    from lib.evaluation import robustness

    return step.make(
        "perturbed",
        robustness.perturb,
        gold=step.input("01_gold_data", "tables/gold.parquet"),
        texts=step.params.perturbation_texts,
        **_both_models(step),
        **step.params.only("seed", *HARDWARE),
    )


def _candidates_alone(step: Step) -> dict[float, Path]:
    """05 up to its models."""
    return candidates(step, training_texts(step), gold_clusters(step))


TOGETHER: dict[str, Callable[[Step], Any]] = {
    "02_base_classifier": base_model,
    "03_embed_corpus": embeddings,
    "05_metric_learning": _candidates_alone,
}
"""The long part of a step, for several processes: see `python -m lib step`."""


def _pretrained(p: Any) -> dict[str, Any]:
    """The base model: a local directory counts by its content, so it is given as a path."""
    local = Path(p.base_model).expanduser()
    return {
        "base_model": local if local.is_dir() else p.base_model,
        "base_revision": p.base_revision,
    }


def kmeans_in_use(step: Step) -> Path:
    """The centres that 04 filtered by."""
    from lib.artefacts import read_manifest
    from lib.errors import UserError

    manifest = read_manifest(step.run_dir, "04_cluster_purity")
    if manifest is None:
        raise UserError(f"04_cluster_purity is not complete in {step.run_dir}; run it first")
    clusters = manifest["parameters"]["clusters"]
    return step.input("04_cluster_purity", f"kmeans/{clusters}/kmeans.npz")


def _both_models(step: Step) -> dict[str, Any]:
    return {
        "base": step.input("02_base_classifier", "model"),
        "final": step.input("05_metric_learning", "model"),
    }
