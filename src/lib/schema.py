"""The schema of a run: the parameters of every step, their types, bounds and meaning.

Defaults are the original report's values, where it gives them (it took confidences as they came,
which `calibrate: false` does). How files and overrides become one of these is in
`lib.params`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class StepParams(BaseModel):
    """What every step has."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    seed: int = Field(0, ge=0, le=2**31 - 1, description="the one source of randomness")


class ModelStepParams(StepParams):
    """What every step that runs an encoder has."""

    max_tokens: int = Field(
        256, ge=8, le=8192, description="longer texts are cut; mmBERT allows 8192, e5-small 512"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 where the processor has it, float32 otherwise"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: cuda if present")


class GoldDataParams(StepParams):
    """01: sources in, clean gold and corpus tables out."""

    sources: list[str] = Field(
        ["rusentiment", "clapai_multilingual", "ru_reviews"],
        min_length=1,
        description="names from the registry in lib.registry; `sample` and `local` need no hub",
    )
    skip_unavailable: bool = Field(
        False, description="go on without data sets that must be fetched and are not there"
    )
    data_dir: str | None = Field(
        None, description="folder of files (CSV, TSV, JSON lines, parquet) for local sources"
    )
    test_files: list[str] = Field(
        ["*_test.*"], description="local: labelled files that are an official test split"
    )
    gold_files: list[str] = Field(["*_train.*"], description="local: labelled gold files")
    foreign_files: list[str] = Field(
        [], description="local: labelled files in other languages, see linear_probe"
    )
    corpus_files: list[str] = Field(
        ["*.*"], description="local: all other files; their labels are hidden audit labels"
    )
    local_labels: Literal["names", "codes", "stars", "ten_point"] = Field(
        "names",
        description="local: labels are negative/neutral/positive, 0/1/2, stars 1-5 or grades 1-10",
    )
    rusentiment_hub_id: str | None = Field(
        None, description="hub copy of RuSentiment; null: its CSV files in data_dir"
    )
    rusentiment_hub_revision: str | None = Field(None, description="hub revision to pin")
    speech_as_neutral: bool = Field(
        False, description="RuSentiment's class speech counts as neutral, not as unlabelled"
    )
    yandex_1m_files: list[str] = Field(
        ["corpus.en_ru.1m.ru"],
        min_length=1,
        description="Yandex 1M: text files in data_dir, one Russian sentence per line",
    )
    unlabelled_gold: Literal["corpus", "drop"] = Field(
        "corpus", description="rows without a label in gold files: into the corpus, or dropped"
    )
    skip_empty_texts: bool = Field(
        False, description="drop and count rows with an empty text instead of stopping"
    )
    validation_share: float = Field(
        0.1, gt=0.0, lt=0.5, description="share of the gold texts (without official tests)"
    )
    test_share: float = Field(
        0.15, gt=0.0, lt=0.5, description="the same, for gold sources without an official test"
    )
    min_characters: int = Field(3, ge=1, le=1000, description="shorter texts are dropped")
    max_characters: int = Field(20_000, ge=100, description="longer texts are dropped")
    near_duplicate_similarity: float = Field(
        0.6, ge=0.3, le=1.0, description="character 3-gram Jaccard from which two texts are one"
    )
    max_gold_train: int | None = Field(
        None, ge=30, description="keep only so many gold train texts (stratified); null: all"
    )
    surplus_gold: Literal["drop", "corpus"] = Field(
        "drop", description="what max_gold_train leaves over: dropped, or corpus with audit labels"
    )
    max_corpus: int | None = Field(
        None, ge=10, description="only so many corpus texts of each source, the first; null: all"
    )
    max_foreign: int | None = Field(
        20_000, ge=30, description="only so many labelled texts in other languages (stratified)"
    )


class PretrainedParams(ModelStepParams):
    """What the steps have that may use the pretrained encoder."""

    base_model: str = Field(
        "jhu-clsp/mmBERT-base", description="hub id, local directory, or embedded:e5-small"
    )
    base_revision: str | None = Field(None, description="hub revision to pin")
    cache_dir: str | None = Field(
        None, description="where the embedded model is unpacked; null: ~/.cache/russian-sentiment"
    )


class TrainingParams(PretrainedParams):
    """What both training steps have: the model they may start from, and the optimiser."""

    learning_rate: float = Field(2e-5, gt=0.0, le=1.0, description="peak, encoder")
    head_learning_rate: float = Field(1e-3, gt=0.0, le=1.0, description="peak, new layers")
    weight_decay: float = Field(0.01, ge=0.0, le=1.0, description="AdamW")
    warmup_share: Share = Field(0.1, description="share of the steps with a rising rate")
    dropout: float = Field(0.1, ge=0.0, lt=1.0, description="before the classification layer")
    freeze_word_embeddings: bool = Field(
        False, description="much faster on a CPU: the table is most of a multilingual model"
    )
    calibrate: bool = Field(
        True, description="fit a temperature on validation, so that 0.8 means right in 80%"
    )


class BaseClassifierParams(TrainingParams):
    """02: gold in, the best checkpoint of the base classifier out."""

    pooling: Literal["cls", "mean"] = Field(
        "cls", description="vector of a text: first token, or mean over its tokens"
    )
    epochs: int = Field(3, ge=1, le=100, description="passes over the gold train texts")
    batch_size: int = Field(32, ge=2, le=4096, description="texts")
    evaluations_per_epoch: int = Field(2, ge=1, le=50, description="points of the F1 curve")


class EmbedCorpusParams(PretrainedParams):
    """03: corpus and base classifier in, embedding bank and PCA vectors out."""

    linear_probe: bool = Field(
        False,
        description="a second opinion: labels are the mean of the base classifier and a linear "
        "probe on the pretrained base_model, fitted on gold and foreign texts",
    )
    shard_size: int = Field(50_000, ge=10, description="texts per shard of the bank")
    tokens_per_batch: int | None = Field(
        None,
        ge=64,
        description="with padding; null: 512 on a CPU (one batch per core), 32768 on a GPU",
    )
    pca_dimensions: int = Field(128, ge=2, le=4096, description="after L2 normalisation")


class ClusterPurityParams(StepParams):
    """04: PCA vectors and predictions in, clusters with purity and the kept texts out."""

    clusters: int = Field(2000, ge=2, le=100_000, description="K of K-Means")
    kmeans_iterations: int = Field(
        100, ge=1, le=1000, description="most Lloyd iterations; it stops when inertia settles"
    )
    kmeans_restarts: int = Field(1, ge=1, le=50, description="best of so many starts by inertia")
    kmeans_sample: int = Field(
        512_000, ge=100, description="texts that train the centres; all texts are assigned"
    )
    compare_clusters: list[Annotated[int, Field(ge=2, le=100_000)]] = Field(
        [], description="numbers of clusters to compare, each by one more run of K-Means"
    )
    purity_measure: Literal["purity", "purity_lower_bound"] = Field(
        "purity", description="what min_purity acts on; the lower bound distrusts small clusters"
    )
    min_purity: Share = Field(0.9, description="share of the dominant predicted class")
    min_confidence: Share = Field(0.8, description="probability of the predicted class")
    confident_share: float = Field(
        1.0, gt=0.0, le=1.0, description="of each predicted class, the most confident ones; 1: all"
    )
    require_dominant: bool = Field(
        True, description="drop texts whose prediction is not their cluster's dominant class"
    )
    max_entropy: float | None = Field(
        None, ge=0.0, le=1.1, description="nats, mean over the cluster's texts; null: any"
    )
    min_cluster_size: int = Field(1, ge=1, description="texts; smaller clusters are dropped")
    umap_points: int = Field(20_000, ge=50, le=100_000, description="texts in the map")
    umap_neighbors: int = Field(15, ge=2, le=200, description="UMAP n_neighbors")
    examples: int = Field(3, ge=1, le=20, description="texts shown per cluster in the tables")


class MetricLearningParams(TrainingParams):
    """05: gold and pseudo-labels in, the final model out."""

    lambda_class: float = Field(1.0, ge=0.0, le=100.0, description="weight of the cross-entropy")
    lambda_metric: list[Annotated[float, Field(ge=0.0, le=100.0)]] = Field(
        [0.0, 0.1, 0.5], min_length=1, description="weights of SupCon to compare on validation"
    )
    metric_loss: Literal["supcon", "triplet", "multi_similarity", "proxy_anchor"] = Field(
        "supcon", description="the metric loss"
    )
    temperature: float = Field(0.1, gt=0.0, le=10.0, description="SupCon")
    margin: float = Field(0.1, ge=0.0, le=2.0, description="triplet and proxy anchor")
    hard_mining: bool = Field(
        False,
        description="hard pairs by the clusters: half of each batch from one region of the space, "
        "and only the hard_share farthest positives and nearest negatives count",
    )
    hard_share: float = Field(0.5, gt=0.0, le=1.0, description="with hard_mining")
    memory_size: int = Field(
        0, ge=0, le=1_000_000, description="texts of earlier batches to compare with; 0: none"
    )
    projection_dimensions: int = Field(128, ge=2, le=4096, description="SupCon's projection")
    start_from: Literal["base_classifier", "base_model"] = Field(
        "base_classifier", description="go on from 02's checkpoint or start from the encoder"
    )
    steps: int = Field(1000, ge=1, description="optimiser steps per value of lambda_metric")
    batch_groups: int = Field(16, ge=3, le=1024, description="groups per batch")
    group_size: int = Field(
        4, ge=2, le=64, description="texts per group: one class, one cluster, gold or pseudo"
    )
    gold_share: Share = Field(0.5, description="share of gold groups in a batch")
    class_mix: Literal["natural", "equal"] = Field(
        "natural", description="classes in a batch as in the gold train texts, or equally"
    )
    pseudo_weight: Share = Field(0.5, description="weight of a pseudo-labelled text in the losses")
    pseudo_weighting: Literal["constant", "confidence_purity"] = Field(
        "constant", description="the weight is multiplied by confidence and purity, or not"
    )
    soft_labels: Share = Field(
        0.0, description="share of the base's probabilities in a pseudo-labelled text's target"
    )
    heldout_share: float = Field(
        0.1, gt=0.0, lt=0.5, description="share of the kept texts never trained on, for 06"
    )
    learning_rate: float = Field(1e-5, gt=0.0, le=1.0, description="peak, encoder")
    head_learning_rate: float = Field(5e-4, gt=0.0, le=1.0, description="peak, new layers")
    evaluations: int = Field(5, ge=1, le=100, description="points of each validation curve")


class FinalEvalParams(ModelStepParams):
    """06: base and final model and the test texts in, the comparison out."""

    bootstrap_samples: int = Field(10_000, ge=100, le=1_000_000, description="resamples of texts")
    umap_points: int = Field(5_000, ge=50, le=100_000, description="texts in each map")
    umap_neighbors: int = Field(15, ge=2, le=200, description="UMAP n_neighbors")
    border_errors: int = Field(
        15, ge=1, le=500, description="mistakes shown per model and pair of classes"
    )
    annotation_confidence: float = Field(
        0.9, ge=0.5, le=1.0, description="of both models, against a label that is likely wrong"
    )
    perturbation_texts: int = Field(
        500, ge=10, description="gold test texts that are written differently to see what changes"
    )
    typo_rate: Share = Field(0.05, description="share of letters that typing errors hit")
    ablations: list[str] = Field(
        [], description="sweeps beside the run to show in 06; none: the repository's own ablation"
    )


STEPS: dict[str, type[StepParams]] = {
    "01_gold_data": GoldDataParams,
    "02_base_classifier": BaseClassifierParams,
    "03_embed_corpus": EmbedCorpusParams,
    "04_cluster_purity": ClusterPurityParams,
    "05_metric_learning": MetricLearningParams,
    "06_final_eval": FinalEvalParams,
}
"""The steps in their order, each with its parameter schema."""
