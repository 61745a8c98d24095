"""The typed schema of params/*.yaml: names, types, bounds and defaults of every parameter.

A parameter file has one section per step and, above them, values for all steps: a value at the
top level (`seed: 0`) goes to every step that has a parameter of that name; a section's own value
wins. Defaults are the original report's values. Everything is validated once, before a run starts.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from lib.errors import UserError

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class _Loader(yaml.SafeLoader):
    """YAML 1.1 takes 1e-4 for a text; people mean the number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


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
        description="names from the registry in lib.sources; `sample` and `local` need no hub",
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
        ["corpus.en_ru.1m.ru*"],
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
    max_corpus: int | None = Field(
        None, ge=10, description="keep only so many corpus texts per source; null: all"
    )


class TrainingParams(ModelStepParams):
    """What both training steps have: the model they may start from, and the optimiser."""

    base_model: str = Field(
        "jhu-clsp/mmBERT-base", description="hub id, local directory, or embedded:e5-small"
    )
    base_revision: str | None = Field(None, description="hub revision to pin")
    cache_dir: str | None = Field(
        None, description="where the embedded model is unpacked; null: ~/.cache/russian-sentiment"
    )
    learning_rate: float = Field(2e-5, gt=0.0, le=1.0, description="peak, encoder")
    head_learning_rate: float = Field(1e-3, gt=0.0, le=1.0, description="peak, new layers")
    weight_decay: float = Field(0.01, ge=0.0, le=1.0, description="AdamW")
    warmup_share: Share = Field(0.1, description="share of the steps with a rising rate")
    dropout: float = Field(0.1, ge=0.0, lt=1.0, description="before the classification layer")
    freeze_word_embeddings: bool = Field(
        False, description="much faster on a CPU: the table is most of a multilingual model"
    )


class BaseClassifierParams(TrainingParams):
    """02: gold in, the best checkpoint of the base classifier out."""

    pooling: Literal["cls", "mean"] = Field(
        "cls", description="vector of a text: first token, or mean over its tokens"
    )
    epochs: int = Field(3, ge=1, le=100, description="passes over the gold train texts")
    batch_size: int = Field(32, ge=2, le=4096, description="texts")
    evaluations_per_epoch: int = Field(2, ge=1, le=50, description="points of the F1 curve")


class EmbedCorpusParams(ModelStepParams):
    """03: corpus and base classifier in, embedding bank and PCA vectors out."""

    shard_size: int = Field(50_000, ge=10, description="texts per shard of the bank")
    tokens_per_batch: int = Field(8192, ge=64, description="padded tokens per batch")
    pca_dimensions: int = Field(128, ge=2, le=4096, description="after L2 normalisation")


class ClusterPurityParams(StepParams):
    """04: PCA vectors and predictions in, clusters with purity and the kept texts out."""

    clusters: int = Field(2000, ge=2, le=100_000, description="K of K-Means")
    kmeans_iterations: int = Field(25, ge=1, le=1000, description="Lloyd iterations")
    kmeans_restarts: int = Field(1, ge=1, le=50, description="best of so many starts by inertia")
    kmeans_sample: int = Field(
        512_000, ge=100, description="texts that train the centres; all texts are assigned"
    )
    min_purity: Share = Field(0.9, description="share of the dominant predicted class")
    min_confidence: Share = Field(0.8, description="probability of the predicted class")
    require_dominant: bool = Field(
        True, description="drop texts whose prediction is not their cluster's dominant class"
    )
    umap_points: int = Field(20_000, ge=50, le=100_000, description="texts in the map")
    umap_neighbors: int = Field(15, ge=2, le=200, description="UMAP n_neighbors")
    examples: int = Field(3, ge=1, le=20, description="texts shown per cluster in the tables")


class MetricLearningParams(TrainingParams):
    """05: gold and pseudo-labels in, the final model out."""

    lambda_class: float = Field(1.0, ge=0.0, le=100.0, description="weight of the cross-entropy")
    lambda_metric: list[Annotated[float, Field(ge=0.0, le=100.0)]] = Field(
        [0.0, 0.1, 0.5], min_length=1, description="weights of SupCon to compare on validation"
    )
    temperature: float = Field(0.1, gt=0.0, le=10.0, description="SupCon")
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
    pseudo_weight: Share = Field(
        0.5, description="weight of a pseudo-labelled text in the cross-entropy"
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
    border_errors: int = Field(15, ge=1, le=500, description="mistakes shown per model")
    perturbation_texts: int = Field(
        500, ge=10, description="gold test texts that are written differently to see what changes"
    )
    typo_rate: Share = Field(0.05, description="share of letters that typing errors hit")


STEPS: dict[str, type[StepParams]] = {
    "01_gold_data": GoldDataParams,
    "02_base_classifier": BaseClassifierParams,
    "03_embed_corpus": EmbedCorpusParams,
    "04_cluster_purity": ClusterPurityParams,
    "05_metric_learning": MetricLearningParams,
    "06_final_eval": FinalEvalParams,
}
"""The steps in their order, each with its parameter schema."""


@dataclass(frozen=True)
class RunParams:
    """One validated parameter file: the run's name (its folder in outputs/) and all steps."""

    run: str
    steps: dict[str, StepParams]


def load(path: Path | str, overrides: list[str] | None = None) -> RunParams:
    """Read, override and validate a parameter file.

    Args:
        path: the YAML file.
        overrides: `step.name=value` or `name=value` (every step that has it); values are YAML.
    Raises:
        UserError: with one line for each thing that is wrong.
    """
    path = Path(path)
    if not path.exists():
        known = sorted(p.name for p in path.parent.glob("*.yaml"))
        raise UserError(f"parameter file {path} does not exist; in {path.parent}: {known}")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not readable YAML: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected `name: value` lines, found {type(content).__name__}")
    return resolve(content, overrides or [], default_run=path.stem)


def resolve(content: dict[str, Any], overrides: list[str], default_run: str = "run") -> RunParams:
    """Validate the content of a parameter file; see `load`."""
    problems: list[str] = []
    values: dict[str, dict[str, Any]] = {step: {} for step in STEPS}
    sections = {key: value for key, value in content.items() if key in STEPS}
    common = {key: value for key, value in content.items() if key not in STEPS}
    names = [text.removeprefix("run=") for text in overrides if text.startswith("run=")]
    overrides = [text for text in overrides if not text.startswith("run=")]
    run = str([common.pop("run", default_run), *names][-1])
    if not run.replace("-", "").replace("_", "").replace(".", "").isalnum() or run[0] == ".":
        problems.append(f"run: {run!r} is not a folder name; use letters, digits, '-', '_' and '.'")
    for name, value in common.items():
        problems += _set_everywhere(values, str(name), value)
    for step, section in sections.items():
        if not isinstance(section or {}, dict):
            problems.append(f"{step}: expected `name: value` lines, got {section!r}")
            continue
        for name, value in (section or {}).items():
            problems += _set(values, step, str(name), value)
    for override in overrides:
        problems += _apply_override(values, override)
    steps = {}
    for step, given in values.items():
        known = {name: value for name, value in given.items() if name in STEPS[step].model_fields}
        try:
            steps[step] = STEPS[step](**known)
        except ValidationError as error:
            problems += [_explain(step, detail, STEPS[step]) for detail in error.errors()]
    if problems:
        problems = list(dict.fromkeys(problems))
        raise UserError("invalid parameters:\n" + "\n".join(f"  {line}" for line in problems))
    return RunParams(run, steps)


def from_cell(step: str, variables: dict[str, Any]) -> StepParams:
    """The validated parameters of a notebook: its `parameters` cell's variables.

    Args:
        step: the step's name.
        variables: `globals()` of the notebook; names that are no parameters are ignored.
    """
    names = STEPS[step].model_fields
    given = {name: variables[name] for name in names if name in variables}
    return resolve({step: given}, []).steps[step]


def to_yaml(params: RunParams) -> str:
    """The complete parameters as YAML, each with its description and bounds as a comment."""
    lines = [yaml.safe_dump({"run": params.run}, allow_unicode=True).rstrip()]
    for step, values in params.steps.items():
        lines += ["", f"{step}:"]
        for name, field in type(values).model_fields.items():
            value = yaml.safe_dump(getattr(values, name), default_flow_style=True, width=10_000)
            value = value.removesuffix("\n").removesuffix("\n...")
            lines.append(f"  {name}: {value}  # {_expected(field)}; {field.description}")
    return "\n".join(lines) + "\n"


def _apply_override(values: dict[str, dict[str, Any]], override: str) -> list[str]:
    name, equals, text = override.partition("=")
    if not equals:
        return [f"-p {override}: expected name=value"]
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        return [f"-p {override}: the value is not readable YAML ({error})"]
    if "." not in name:
        return _set_everywhere(values, name, value)
    step, name = name.split(".", 1)
    matching = [known for known in STEPS if known == step or known.startswith(step + "_")]
    if len(matching) != 1:
        return [f"-p {override}: no step {step!r}{_nearest(step, STEPS)}"]
    return _set(values, matching[0], name, value)


def _set_everywhere(values: dict[str, dict[str, Any]], name: str, value: Any) -> list[str]:
    holders = [step for step, schema in STEPS.items() if name in schema.model_fields]
    if not holders:
        known = {field for schema in STEPS.values() for field in schema.model_fields}
        return [f"{name}: no such step or parameter{_nearest(name, [*known, *STEPS, 'run'])}"]
    for step in holders:
        values[step][name] = value
    return []


def _set(values: dict[str, dict[str, Any]], step: str, name: str, value: Any) -> list[str]:
    if name not in STEPS[step].model_fields:
        hint = _nearest(name, STEPS[step].model_fields)
        return [f"{step}.{name}: no such parameter (given: {value!r}){hint}"]
    values[step][name] = value
    return []


def _nearest(name: str, known: Any) -> str:
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.0)
    return f"; the nearest valid name is {found[0]!r}" if found else ""


def _explain(step: str, detail: dict[str, Any], schema: type[StepParams]) -> str:
    name = str(detail["loc"][0])
    place = f"{step}.{name}" + "".join(f"[{part}]" for part in detail["loc"][1:] if part != "float")
    expected = _expected(schema.model_fields[name])
    given = detail["input"]
    choices = get_args(schema.model_fields[name].annotation)
    hint = ""
    if detail["type"] == "literal_error" and isinstance(given, str):
        hint = _nearest(given, choices)
    return f"{place}: expected {expected}, got {given!r}{hint}"


def _expected(field: FieldInfo) -> str:
    """Type and bounds of a parameter in words."""
    return _type_in_words(field.annotation) + _bounds(field.metadata)


def _type_in_words(annotation: Any) -> str:
    if get_origin(annotation) is Annotated:
        kind, *metadata = get_args(annotation)
        inner = [m for part in metadata for m in getattr(part, "metadata", [part])]
        return _type_in_words(kind) + _bounds(inner)
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(map(str, get_args(annotation)))
    if get_origin(annotation) is list:
        return f"a list of ({_type_in_words(get_args(annotation)[0])})"
    names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    if annotation in names:
        return names[annotation]
    return " or ".join("null" if a is type(None) else names[a] for a in get_args(annotation))


def _bounds(metadata: list[Any]) -> str:
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<", "min_length": "length >="}
    parts = [
        f"{sign} {getattr(part, name)}"
        for part in metadata
        for name, sign in signs.items()
        if getattr(part, name, None) is not None
    ]
    return " " + " and ".join(parts) if parts else ""
