"""Step 05: gold and pseudo-labelled texts in, a model for each λ_metric out, the best of them kept.

Reference: self-training with pseudo-labels, Lee 2013, "Pseudo-Label: The Simple and Efficient
Semi-Supervised Learning Method for Deep Neural Networks".
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from lib.clusters.kmeans import KMeans
from lib.data.tables import CORPUS_SCHEMA, audit_test, labelled_texts
from lib.data.tables import batches as corpus_batches
from lib.embeddings.pca import PCA
from lib.embeddings.store import read_probabilities
from lib.errors import UserError
from lib.files import atomic, write_parquet
from lib.models.batching import PASSES
from lib.models.encoder import Encoder, hardware, load_classifier, new_classifier
from lib.models.inference import predict
from lib.training.base import CHECKPOINTS, HISTORY, leave, mend
from lib.training.batches import ClassClusterBatches, nearest_clusters
from lib.training.losses import SupCon
from lib.training.trainer import Plan, Texts, fit

TRAIN = [("split", "==", "train")]  # rows of the gold table
PROBABILITIES = ["p0", "p1", "p2"]
LABELLED = ["predicted", "cluster", "confidence", "purity"]  # columns of clusters.parquet
SCHEMA = pa.schema(
    {"text_id": pa.string(), "text": pa.string(), "source": pa.string(), "label": pa.int64()}
    | {"cluster": pa.int32(), "confidence": pa.float32(), "purity": pa.float64()}
    | dict.fromkeys(PROBABILITIES, pa.float32())
)
CHOOSING_TEXTS = 200  # of each source, at every evaluation of every candidate


def write_training_texts(
    folder: Path,
    *,
    corpus: Path,
    embeddings: Path,
    clusters: Path,
    heldout_share: float,
    seed: int,
) -> None:
    """Write the kept corpus texts with their pseudo-labels: pseudo.parquet, heldout.parquet.

    Both have the columns of SCHEMA; p0 to p2 are the probabilities that the label comes from.
    Held-out texts are never trained on. Audit test texts are in neither. Texts pass by: in memory
    each has a few bytes.

    Args:
        corpus, embeddings: folders of 01 and 03; clusters: clusters.parquet of 04. All have the
            same texts in the same order.
    Raises:
        UserError: they have not.
    """
    probabilities = read_probabilities(embeddings)
    labelled = pd.read_parquet(clusters, columns=["text_id", *LABELLED, "kept"])
    ids = labelled.pop("text_id")
    other = UserError(f"{clusters} has other texts than {corpus}; run 03_embed_corpus with --force")
    if len(probabilities) != len(labelled):
        raise other
    labelled[PROBABILITIES] = probabilities
    start = 0
    with contextlib.ExitStack() as stack:
        paths = [folder / f"{name}.parquet" for name in ("heldout", "pseudo")]
        temporary = [stack.enter_context(atomic(path)) for path in paths]
        writers = [stack.enter_context(pq.ParquetWriter(path, SCHEMA)) for path in temporary]
        for batch in corpus_batches(corpus, CORPUS_SCHEMA.names):
            texts = batch.to_pandas().astype({"audit_label": "Int8"})
            rows = slice(start, start + len(texts))
            if not np.array_equal(ids.iloc[rows], texts["text_id"]):
                raise other
            parts = hold_out(pseudo_labelled(texts, labelled.iloc[rows]), heldout_share, seed)
            for writer, part in zip(writers, parts, strict=True):
                writer.write_table(pa.Table.from_pandas(part, SCHEMA, preserve_index=False))
            start += len(texts)


def pseudo_labelled(texts: pd.DataFrame, labelled: pd.DataFrame) -> pd.DataFrame:
    """The kept texts with the columns of SCHEMA; without those of audit test.

    Args:
        texts: columns of the corpus; labelled: LABELLED, kept and PROBABILITIES of the same texts.
    """
    about = labelled.rename(columns={"predicted": "label"}).set_index(texts.index)
    chosen = about["kept"] & ~audit_test(texts)
    return texts[["text_id", "text", "source"]].join(about).loc[chosen, SCHEMA.names]


def hold_out(frame: pd.DataFrame, share: float, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A random share of the texts, and the rest; both keep their order.

    Whether a text is held out depends on its text_id and the seed alone, not on what else is
    kept: with another threshold, no text changes sides.
    """
    keys = (f"{seed} {text_id}".encode() for text_id in frame["text_id"])
    digests = b"".join(hashlib.blake2b(key, digest_size=8).digest() for key in keys)
    held = np.frombuffer(digests, ">u8") / 2**64 < share  # numbers that look random
    return frame[held].reset_index(drop=True), frame[~held].reset_index(drop=True)


def assign_gold(
    folder: Path,
    *,
    gold: Path,
    model: Path,
    pca: Path,
    kmeans: Path,
    max_tokens: int,
    tokens_per_batch: int | None,
    precision: str,
    device: str,
) -> None:
    """Write gold_clusters.parquet: the nearest cluster of each gold train text (text_id, cluster).

    Args:
        gold: gold.parquet of 01; model: whose vectors were clustered; pca: pca.npz of 03; kmeans:
            kmeans.npz of 04.
    """
    frame = pd.read_parquet(gold, filters=TRAIN)
    encoder = load_classifier(model, max_tokens)
    token_ids = encoder.tokenize(frame["text"].tolist())
    on = hardware(precision, device) | {"tokens_per_batch": tokens_per_batch}
    _, pooled = predict(encoder, token_ids, **on, progress="gold texts")
    cluster, _ = KMeans.load(kmeans).assign(PCA.load(pca).transform(pooled))
    found = pd.DataFrame({"text_id": frame["text_id"], "cluster": cluster})
    write_parquet(folder / "gold_clusters.parquet", found)


def training_frame(gold: Path, gold_clusters: Path, pseudo: Path) -> pd.DataFrame:
    """Gold train texts, then pseudo-labelled ones: label, cluster, gold (bool), p0 to p2."""
    train = pd.read_parquet(gold, columns=["text_id", "label"], filters=TRAIN)
    train = train.merge(pd.read_parquet(gold_clusters), "left", on="text_id", validate="m:1")
    rest = pd.read_parquet(pseudo, columns=["label", "cluster", *PROBABILITIES])
    both = [train.drop(columns="text_id").assign(gold=True), rest.assign(gold=False)]
    return pd.concat(both, ignore_index=True)


def read_training_texts(gold: Path, pseudo: Path) -> Iterator[str]:
    """The texts of a `training_frame`, one after the other."""
    yield from pd.read_parquet(gold, columns=["text"], filters=TRAIN)["text"]
    with pq.ParquetFile(pseudo) as file:
        for batch in file.iter_batches(columns=["text"]):
            yield from batch["text"].to_pylist()


def class_cluster_batches(
    frame: pd.DataFrame, kmeans: Path, *, hard_mining: bool, batch_groups: int, **options: Any
) -> ClassClusterBatches:
    """The batches of a `training_frame`.

    Args:
        options: group_size, gold_share and seed of `lib.training.batches.ClassClusterBatches`.
    """
    near = nearest_clusters(KMeans.load(kmeans).centroids, batch_groups) if hard_mining else None
    return ClassClusterBatches(
        frame["label"].to_numpy(np.int64),
        frame["cluster"].to_numpy(np.int64),
        frame["gold"].to_numpy(bool),
        groups=batch_groups,
        neighbours=near,
        **options,
    )


def train_candidate(
    folder: Path,
    *,
    lambda_metric: float,
    lambda_class: float,
    gold: Path,
    corpus: Path,
    gold_clusters: Path,
    pseudo: Path,
    kmeans: Path,
    model: Path,
    base_model: Path | str,
    base_revision: str | None,
    choose_on: str,
    start_from: str,
    max_tokens: int,
    pseudo_weight: float,
    soft_labels: float,
    supcon: dict[str, Any],
    sampling: dict[str, Any],
    training: dict[str, Any],
) -> None:
    """Train one value of λ_metric; its best checkpoint and history.csv are saved in `folder`.

    Args:
        gold, gold_clusters, pseudo, kmeans: files as above; corpus: folder of 01; model: of 02.
        supcon: of `lib.training.losses.SupCon`; sampling: of `class_cluster_batches`;
            training: of `lib.training.trainer.Plan`.
        others: see `lib.parameters.MetricLearningParams`.
    Raises:
        UserError: a memory smaller than a batch, a class without gold texts, or no audit label to
            choose on.
    """
    encoder = load_classifier(model, max_tokens)
    if start_from == "base_model":
        encoder = new_classifier(
            base_model,
            pooling=encoder.pooling,
            max_tokens=max_tokens,
            seed=training["seed"],
            revision=base_revision,
        )
    frame = training_frame(gold, gold_clusters, pseudo)
    batches = class_cluster_batches(frame, kmeans, **sampling)
    if 0 < supcon["memory_size"] < batches.size:
        raise UserError(
            f"05_metric_learning.memory_size: {supcon['memory_size']} is less than a batch of "
            f"{batches.size} texts; take 0, or {batches.size} and more"
        )
    torch.manual_seed(training["seed"])
    loss = SupCon(encoder.hidden_size, **supcon)
    steps = training["steps"] or math.ceil(PASSES * len(frame) / batches.size)
    plan = Plan(**training | {"steps": steps})
    words = read_training_texts(gold, pseudo)
    texts = training_texts(encoder, frame, words, pseudo_weight, soft_labels)
    validation = gold_validation(encoder, gold)
    if choose_on == "audit":
        validation = all_validation(encoder, gold, corpus, training["seed"])
    lambdas = {"lambda_class": lambda_class, "lambda_metric": lambda_metric}
    checkpoints = folder / CHECKPOINTS
    history = fit(encoder, texts, validation, batches, plan, checkpoints, loss, **lambdas)
    leave(folder, encoder, history, {"lambda_metric": lambda_metric, "steps": plan.steps})


def training_texts(
    encoder: Encoder,
    frame: pd.DataFrame,
    words: Iterable[str],
    pseudo_weight: float,
    soft_labels: float,
) -> Texts:
    """The texts of a `training_frame` as the losses need them.

    Gold texts weigh 1, pseudo-labelled ones `pseudo_weight`. Targets of the latter are a mean of
    the label and the probabilities that it comes from, `soft_labels` being the latter's weight.

    Args:
        words: of `read_training_texts`.
    """
    gold = frame["gold"].to_numpy(bool)
    texts = Texts.build(encoder, frame, np.where(gold, 1.0, pseudo_weight), words)
    soft = frame.loc[~gold, PROBABILITIES].to_numpy(np.float32)
    hard = texts.targets[~gold]
    texts.targets[~gold] = hard + np.float32(soft_labels) * (soft - hard)
    return texts


def gold_validation(encoder: Encoder, gold: Path) -> Texts:
    """The gold validation texts."""
    return Texts.build(encoder, pd.read_parquet(gold, filters=[("split", "==", "validation")]))


def all_validation(encoder: Encoder, gold: Path, corpus: Path, seed: int) -> Texts:
    """Up to CHOOSING_TEXTS of each source of gold and audit validation; all sources count alike.

    Raises:
        UserError: no corpus text of audit validation has a label.
    """
    texts = labelled_texts(gold, corpus)
    texts = texts[texts["split"].isin(["validation", "audit validation"])]
    if not (texts["split"] == "audit validation").any():
        raise UserError(
            "05_metric_learning.choose_on: no corpus text has an audit label to choose on; take "
            "choose_on: gold"
        )
    texts = texts.sample(frac=1.0, random_state=seed).groupby("source").head(CHOOSING_TEXTS)
    return replace(Texts.build(encoder, texts), sources=texts["source"].to_numpy())


def choose(
    folder: Path,
    *,
    candidates: dict[str, Path],
    gold: Path,
    calibrate: bool,
    decision_bias: bool,
    max_tokens: int,
    tokens_per_batch: int | None,
    precision: str,
    device: str,
) -> None:
    """Save the best candidate by validation macro-F1, calibrated on gold validation; of equal ones
    the first.

    Args:
        candidates: λ_metric -> folder of `train_candidate`.
    """
    histories = {value: pd.read_csv(path / HISTORY) for value, path in candidates.items()}
    best = max(histories, key=lambda value: histories[value]["validation_macro_f1"].max())
    encoder = load_classifier(candidates[best], max_tokens)
    validation = gold_validation(encoder, gold)
    on = hardware(precision, device) | {"tokens_per_batch": tokens_per_batch}
    about = mend(encoder, validation, on, temperature=calibrate, bias=decision_bias)
    leave(folder, encoder, histories[best], about | {"lambda_metric": float(best)})
