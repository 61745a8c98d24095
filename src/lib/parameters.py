"""The parameters of every step: types, bounds, defaults and meaning.

Defaults are the original report's values, where it gives them (it took confidences as they came,
which `calibrate: false` does). How files and overrides become parameters is in
`lib.runs.parameter_files`; a notebook gets its own with `from_cell`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    WithJsonSchema,
)

from lib.errors import UserError

Value = TypeVar("Value")
Share = Annotated[float, Field(ge=0.0, le=1.0)]


def _all_different(values: list[Value]) -> list[Value]:
    if len(set(values)) < len(values):
        raise ValueError("holds a value twice")
    return values


def _encoding(name: str) -> str:
    try:
        "".encode(name)
    except LookupError as error:
        raise ValueError("no such encoding") from error
    return name


def _delimiter(text: Any) -> Any:
    if isinstance(text, str) and set(text) & set('"\r\n'):
        raise ValueError("a quotation mark or a line break cannot stand between columns")
    return "\t" if text in ("\\t", "tab") else text


LABEL_CHOICES = ("auto", "names", "signs", "codes", "neutral_first", "stars", "ten_point")
CLASSES = ("negative", "neutral", "positive", "none")


def _labels(value: Any) -> str | dict[str, list[str]]:
    """One of LABEL_CHOICES, or the labels of each class as text."""
    if isinstance(value, str):
        if value in LABEL_CHOICES:
            return value
        names = ", ".join(LABEL_CHOICES)
        raise ValueError(f"expected {names} or a mapping{nearest(value, LABEL_CHOICES)}")
    if not isinstance(value, dict) or not set(value) <= set(CLASSES):
        raise ValueError(f"expected a mapping of {', '.join(CLASSES)} to lists of labels")
    given = {k: v if isinstance(v, list) else [v] for k, v in value.items()}
    if any(one is None or isinstance(one, bool) for labels in given.values() for one in labels):
        raise ValueError("YAML reads yes, no, on, off, true, false and null as no text; quote them")
    found = {name: [str(one) for one in labels] for name, labels in given.items()}
    _all_different([label for labels in found.values() for label in labels])
    return found


LocalLabels = Annotated[
    str | dict[str, list[str]],
    PlainValidator(_labels),
    WithJsonSchema({"enum": [*LABEL_CHOICES, "a mapping"]}),
]


class StepParams(BaseModel):
    """What every step has."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    seed: int = Field(0, ge=0, le=2**31 - 1, description="the one source of randomness")

    def only(self, *names: str) -> dict[str, Any]:
        """These parameters by name, for a function that takes them as arguments."""
        return {name: getattr(self, name) for name in names}


class ModelStepParams(StepParams):
    """What every step that runs an encoder has."""

    max_tokens: int = Field(
        256, ge=8, le=8192, description="longer texts are cut; mmBERT allows 8192, e5-small 512"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 where the hardware has it, else float16 on a GPU"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: cuda if present")


class GoldDataParams(StepParams):
    """01: sources in, clean gold and corpus tables out."""

    sources: list[str] = Field(
        ["rusentiment", "clapai_multilingual", "ru_reviews"],
        min_length=1,
        description="names from lib.data.registry; `sample` and `local` need no hub",
    )
    data_dir: str | None = Field(
        None, description="folder of files (CSV, TSV, JSON, Parquet, Excel) for local sources"
    )
    gold_files: list[str] = Field(
        ["*_train.*"],
        description="local: labelled gold files; **/ looks into subfolders, FILE.xlsx:SHEET into a "
        "sheet",
    )
    test_files: list[str] = Field(
        ["*_test.*"], description="local: labelled files that are an official test split"
    )
    corpus_files: list[str] = Field(
        ["*.*"], description="local: all other files; their labels are hidden audit labels"
    )
    text_column: str = Field("text", description="local: the column of the texts")
    label_column: str = Field("label", description="local: that of the labels; corpus needs none")
    source_column: str = Field("source", description="local: says where a row comes from, if any")
    local_labels: LocalLabels = Field(
        "auto",
        description="local: what the labels are: a name of label_choices in registry.yaml, or a "
        "mapping such as {negative: [0], neutral: [1], positive: [2], none: [9]}; auto: what fits "
        "all labels of a file",
    )
    encoding: Annotated[str, AfterValidator(_encoding)] | None = Field(
        None, description="local: of text files, such as cp1251; null: detected"
    )
    delimiter: Annotated[str | None, BeforeValidator(_delimiter)] = Field(
        None,
        min_length=1,
        max_length=1,
        description="local: between columns, one character or tab; null: detected",
    )
    unlabelled_gold: Literal["corpus", "drop"] = Field(
        "corpus", description="rows without a label in gold files: into the corpus, or dropped"
    )
    validation_share: float = Field(
        0.1, gt=0.0, lt=0.5, description="share of the gold texts (without official tests)"
    )
    test_share: float = Field(
        0.15, gt=0.0, lt=0.5, description="the same, for gold sources without an official test"
    )
    near_duplicate_similarity: float = Field(
        0.6, ge=0.3, le=1.0, description="character 3-gram Jaccard from which two texts are one"
    )
    max_gold_train: int | None = Field(
        None, ge=30, description="keep only so many gold train texts (stratified); null: all"
    )
    max_corpus: int | None = Field(
        None, ge=10, description="only so many corpus texts of each source, the first; null: all"
    )


class PretrainedParams(ModelStepParams):
    """What the steps have that may use the pretrained encoder."""

    base_model: str = Field(
        "jhu-clsp/mmBERT-base", description="hub id, local directory, or embedded:e5-small"
    )
    base_revision: str | None = Field(
        None, description="hub revision; null: the newest, resolved once and recorded"
    )


class TrainingParams(PretrainedParams):
    """What both training steps have: the optimiser, and calibration."""

    learning_rate: float = Field(2e-5, gt=0.0, le=1.0, description="peak, encoder")
    head_learning_rate: float = Field(
        1e-3, gt=0.0, le=1.0, description="peak, the last layer and the projection of SupCon"
    )
    freeze_word_embeddings: bool = Field(
        False, description="faster on a CPU: the table is most of a multilingual model"
    )
    tokens_per_batch: int | None = Field(
        None,
        ge=64,
        description="with padding, in memory at a time; the rest of a batch follows; null: 16384",
    )
    gradient_checkpointing: bool = Field(
        False, description="a fraction of the memory for a third more time, per token"
    )
    calibrate: bool = Field(
        True, description="divide the logits by a temperature that fits validation best"
    )
    decision_bias: bool = Field(
        False,
        description="add to the logits what maximises macro-F1 on validation; probabilities are "
        "then no longer calibrated",
    )


class BaseClassifierParams(TrainingParams):
    """02: gold in, the best checkpoint of the base classifier out."""

    start_model: str | None = Field(
        None,
        description="go on from this classifier instead of base_model, such as the final model of "
        "an earlier run: outputs/RUN/05_metric_learning/model",
    )
    pooling: Literal["cls", "mean"] = Field(
        "cls", description="vector of a text, for clusters and SupCon"
    )
    epochs: int = Field(3, ge=1, le=100, description="passes over the gold train texts")
    batch_size: int = Field(32, ge=2, le=4096, description="texts per optimiser step")
    evaluations_per_epoch: int = Field(2, ge=1, le=50, description="points of the F1 curve")


class EmbedCorpusParams(PretrainedParams):
    """03: corpus and base classifier in, embedding store and PCA vectors out."""

    linear_probe: bool = Field(
        False,
        description="a second opinion: labels are the mean of the base classifier and a linear "
        "probe on the pretrained base_model, fitted on gold",
    )
    cluster_space: Literal["base_classifier", "base_model"] = Field(
        "base_classifier",
        description="whose vectors 04 clusters: the classifier's own, or those of the pretrained "
        "encoder, where purity is a second opinion",
    )
    shard_size: int = Field(50_000, ge=10, description="texts per shard of the store")
    tokens_per_batch: int | None = Field(
        None,
        ge=64,
        description="with padding; null: 512 on a CPU (one batch per core), 32768 on a GPU",
    )
    pca_dimensions: int = Field(128, ge=2, le=4096, description="after L2 normalisation")


class ClusterPurityParams(StepParams):
    """04: PCA vectors and predictions in, clusters with purity and the kept texts out."""

    clusters: int = Field(2000, ge=2, le=100_000, description="K of K-Means")
    kmeans_restarts: int = Field(1, ge=1, le=50, description="best of so many starts by inertia")
    kmeans_sample: int = Field(
        512_000, ge=100, description="texts that train the centres; all texts are assigned"
    )
    min_purity: Share = Field(
        0.9,
        description="share of the dominant predicted class, which kept texts share; 0: no demand",
    )
    min_confidence: Share = Field(0.8, description="probability of the predicted class")
    best_share: float = Field(
        1.0,
        gt=0.0,
        le=1.0,
        description="of each predicted class and source, the best; 1: all",
    )
    best_most: int | None = Field(
        None, ge=1, description="at most so many of each predicted class and source; null: all"
    )
    rank_by: Literal["confidence", "confidence_and_purity"] = Field(
        "confidence_and_purity",
        description="what ranks the texts: confidence, or confidence times purity",
    )
    umap_points: int = Field(20_000, ge=50, le=100_000, description="texts in the map")


class MetricLearningParams(TrainingParams):
    """05: gold and pseudo-labels in, the final model out."""

    choose_on: Literal["gold", "audit"] = Field(
        "gold",
        description="what chooses λ and checkpoint: macro-F1 on gold validation, or its mean over "
        "the sources of gold and audit validation",
    )
    start_from: Literal["base_classifier", "base_model"] = Field(
        "base_classifier", description="go on from 02's checkpoint or start from the encoder"
    )
    lambda_class: float = Field(1.0, ge=0.0, le=100.0, description="weight of the cross-entropy")
    lambda_metric: Annotated[
        list[Annotated[float, Field(ge=0.0, le=100.0)]], AfterValidator(_all_different)
    ] = Field(
        [0.0, 0.1, 0.5], min_length=1, description="weights of SupCon to compare on validation"
    )
    temperature: float = Field(0.1, gt=0.0, le=10.0, description="of SupCon")
    hard_mining: bool = Field(
        False,
        description="hard pairs by the clusters: half of each batch from one region of the space, "
        "and only the farthest half of positives and nearest half of negatives count",
    )
    memory_size: int = Field(
        0, ge=0, le=1_000_000, description="texts of earlier batches to compare with; 0: none"
    )
    steps: int | None = Field(
        1000,
        ge=1,
        description="optimiser steps per value of lambda_metric; null: as many texts as two passes "
        "over gold and pseudo-labelled ones",
    )
    batch_groups: int = Field(16, ge=3, le=1024, description="groups per batch")
    group_size: int = Field(
        4, ge=2, le=64, description="texts per group: one class, one cluster, gold or pseudo"
    )
    gold_share: Share = Field(0.5, description="share of gold groups in a batch")
    pseudo_weight: Share = Field(0.5, description="weight of a pseudo-labelled text in the losses")
    soft_labels: Share = Field(
        0.0, description="share of the base's probabilities in a pseudo-labelled text's target"
    )
    heldout_share: float = Field(
        0.1, gt=0.0, lt=0.5, description="share of the kept texts never trained on, for 06"
    )
    learning_rate: float = Field(1e-5, gt=0.0, le=1.0, description="peak, encoder")
    head_learning_rate: float = Field(
        5e-4, gt=0.0, le=1.0, description="peak, the last layer and the projection of SupCon"
    )
    evaluations: int = Field(5, ge=1, le=100, description="points of each validation curve")


class FinalEvalParams(ModelStepParams):
    """06: base and final model and the test texts in, the comparison out."""

    umap_points: int = Field(5_000, ge=50, le=100_000, description="texts in each map")


class RobustnessParams(ModelStepParams):
    """Appendix: the gold test texts, written differently."""

    perturbation_texts: int = Field(500, ge=10, description="gold test texts that are changed")


STEPS: dict[str, type[StepParams]] = {
    "01_gold_data": GoldDataParams,
    "02_base_classifier": BaseClassifierParams,
    "03_embed_corpus": EmbedCorpusParams,
    "04_cluster_purity": ClusterPurityParams,
    "05_metric_learning": MetricLearningParams,
    "06_final_eval": FinalEvalParams,
}
"""The steps in their order, each with its parameters."""
APPENDICES: dict[str, type[StepParams]] = {
    "appendix_robustness": RobustnessParams,
    "appendix_spaces": StepParams,  # quality of both embedding spaces, calibration
}
"""Notebooks that read step 06 and that a run has only if it is asked for them."""
CHAPTERS = STEPS | APPENDICES


def from_cell(step: str, variables: Mapping[str, Any]) -> Any:
    """The validated parameters of a notebook: its `parameters` cell's variables.

    Args:
        step: the step's name.
        variables: `globals()` of the notebook; names that are no parameters are ignored.
    Returns:
        The step's class in CHAPTERS.
    Raises:
        UserError: with one line for each thing that is wrong.
    """
    names = CHAPTERS[step].model_fields
    params, problems = validate(step, {n: variables[n] for n in names if n in variables})
    if params is None:
        raise invalid(problems)
    return params


def validate(step: str, given: dict[str, Any]) -> tuple[StepParams | None, list[str]]:
    """The parameters of a step, or None and what is wrong, a line each."""
    schema = CHAPTERS[step]
    try:
        return schema(**given), []
    except ValidationError as error:
        return None, [_explain(step, detail, schema) for detail in error.errors()]


def invalid(problems: Iterable[str]) -> UserError:
    """The error that names all problems, each once."""
    lines = dict.fromkeys(problems)
    return UserError("invalid parameters:\n" + "\n".join(f"  {line}" for line in lines))


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a message about a name that is not known."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.0)
    return f"; the nearest valid name is {found[0]!r}" if found else ""


def expected(schema: type[StepParams], name: str) -> str:
    """Type and bounds of a parameter, in the words of JSON Schema."""
    facts = schema.model_json_schema()["properties"][name]
    for choice in facts.pop("anyOf", []):  # a type, or null
        facts |= {key: value for key, value in choice.items() if value != "null"}
    about = ("title", "description", "default")
    return ", ".join(f"{key} {value}" for key, value in facts.items() if key not in about)


def _explain(step: str, detail: Any, schema: type[StepParams]) -> str:
    name, *places = map(str, detail["loc"])
    given = detail["input"]
    if name not in schema.model_fields:
        return f"{step}.{name}: no such parameter (given: {given!r})" + nearest(
            name, schema.model_fields
        )
    hint = ""
    if detail["type"] == "literal_error" and isinstance(given, str):
        hint = nearest(given, get_args(schema.model_fields[name].annotation))
    place = f"{step}.{name}" + "".join(f"[{part}]" for part in places)
    message = detail["msg"].removeprefix("Value error, ")
    return f"{place}: {message}, got {given!r}{hint}"
