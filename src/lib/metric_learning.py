"""Step 05: the texts to train on, the combined loss `L = λ_class·CE + λ_metric·SupCon`, candidates.

SupCon (or another metric loss) pulls texts of one class together and pushes the others away, on a
normalised projection of the pooled vector that is dropped after training. It needs batches in which
every text has positives: see `lib.class_batches`.

Reference: Khosla et al. 2020, "Supervised Contrastive Learning", arXiv:2004.11362.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from lib import distributed
from lib.artifacts import atomic
from lib.batches import Batch, Texts
from lib.class_batches import ClassClusterBatches
from lib.embedding import read_probabilities
from lib.encoder import Encoder, load_classifier, new_classifier, save_classifier
from lib.metric_losses import MetricLoss
from lib.model import PooledClassifierOutput
from lib.schema import MetricLearningParams
from lib.training import cross_entropy, evaluation_steps, fit


class CombinedLoss(nn.Module):
    """`λ_class·CE + λ_metric·metric loss` of one batch.

    Args:
        hidden_size: d of the pooled vector.
        lambda_metric: weight of the metric loss.
        params: the loss and its settings, the projection's size and its seed.
    """

    def __init__(
        self, hidden_size: int, lambda_metric: float, params: MetricLearningParams
    ) -> None:
        super().__init__()
        torch.manual_seed(params.seed)
        self.projection = nn.Sequential(  # section 3 of the paper
            nn.Linear(hidden_size, hidden_size),
            nn.ReLU(),
            nn.Linear(hidden_size, params.projection_dimensions),
        )
        self.lambda_class, self.lambda_metric = params.lambda_class, lambda_metric
        self.metric = MetricLoss(
            params.metric_loss,
            dimensions=params.projection_dimensions,
            temperature=params.temperature,
            margin=params.margin,
            hard_share=params.hard_share if params.hard_mining else 1.0,
            memory_size=params.memory_size,
        )

    def forward(self, output: PooledClassifierOutput, batch: Batch) -> dict[str, Tensor]:
        """Scalars `class`, `metric` and `total` (the weighted sum)."""
        class_loss = cross_entropy(output, batch)["class"]
        with torch.set_grad_enabled(self.lambda_metric > 0 and torch.is_grad_enabled()):
            projected = self.projection(output.pooled.float())
            metric_loss = self.metric(projected, batch.labels, batch.clusters, batch.weights)
        total = self.lambda_class * class_loss + self.lambda_metric * metric_loss
        return {"class": class_loss, "metric": metric_loss, "total": total}


def pseudo_labelled(texts: pd.DataFrame, clusters: pd.DataFrame) -> pd.DataFrame:
    """The kept corpus texts with their pseudo-label.

    Args:
        texts: text_id, text, source (corpus of 01); clusters: clusters.parquet of 04.
    Returns:
        text_id, text, source, label, cluster, confidence, purity.
    """
    kept = clusters[clusters["kept"]].rename(columns={"predicted": "label"})
    columns = ["text_id", "label", "cluster", "confidence", "purity"]
    return texts[["text_id", "text", "source"]].merge(kept[columns], on="text_id")


def training_texts(
    encoder: Encoder,
    gold: pd.DataFrame,
    pseudo: pd.DataFrame,
    bank: Path,
    params: MetricLearningParams,
) -> Texts:
    """Gold texts, then pseudo-labelled ones, as the loss needs them.

    Args:
        gold: text, label, cluster; pseudo: as `pseudo_labelled` gives it.
        bank: of step 03, for the probabilities that soft labels are.
    Returns:
        Weights: 1 for gold, `pseudo_weight` for pseudo-labelled texts, times confidence and purity
        if `pseudo_weighting` says so. Targets of pseudo-labelled texts: a mean of the label and
        the base's probabilities, `soft_labels` being the weight of the latter.
    """
    weight = np.full(len(pseudo), params.pseudo_weight)
    if params.pseudo_weighting == "confidence_purity":
        weight *= pseudo["confidence"].to_numpy() * pseudo["purity"].to_numpy()
    texts = Texts.build(
        encoder,
        pd.concat([gold, pseudo], ignore_index=True),
        np.concatenate([np.ones(len(gold)), weight]),
    )
    if params.soft_labels:
        soft = read_probabilities(bank, pseudo["text_id"])
        hard = texts.targets[len(gold) :]
        texts.targets[len(gold) :] = hard + params.soft_labels * (soft - hard)
    return texts


def hold_out(frame: pd.DataFrame, share: float, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A random share of the texts, and the rest; both keep their order.

    Whether a text is held out depends on its text_id and the seed alone, not on what else is
    kept: so a text that is held out in one round is in no other round's training texts.
    """
    drawn = frame["text_id"].map(lambda text_id: _uniform(f"{seed} {text_id}")).to_numpy(float)
    held = drawn < share
    return frame[held].reset_index(drop=True), frame[~held].reset_index(drop=True)


def _uniform(text: str) -> float:
    """A number in [0, 1) that looks random and depends on `text` only."""
    digest = hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


def train_candidate(
    lambda_metric: float,
    train: Texts,
    validation: Texts,
    batches: ClassClusterBatches,
    *,
    params: MetricLearningParams,
    base_dir: Path,
    directory: Path,
) -> pd.DataFrame:
    """Train one value of λ_metric and save its best model into `directory`/model.

    A candidate that is already there is not trained again. The projection is not saved.

    Returns:
        The history, see `lib.training.fit`.
    """
    finished = directory / "history.csv"
    if finished.exists():
        return pd.read_csv(finished)
    encoder = starting_point(params, base_dir)
    loss = CombinedLoss(encoder.model.encoder.config.hidden_size, lambda_metric, params)
    history = fit(
        encoder,
        train,
        validation,
        batches,
        params=params,
        steps=params.steps,
        evaluate_at=evaluation_steps(params.steps, params.evaluations),
        state_dir=directory / "state",
        loss=loss,
        loss_module=loss,
        title=f"λ_metric={lambda_metric:g}",
    )
    if distributed.is_main():
        save_classifier(encoder, directory / "model")
        with atomic(finished) as temporary:
            history.to_csv(temporary, index=False)
        shutil.rmtree(directory / "state")
    distributed.wait_for_all()
    return history


def starting_point(params: MetricLearningParams, base_dir: Path) -> Encoder:
    """The model that training starts from: 02's checkpoint, or the pretrained encoder anew."""
    base = load_classifier(base_dir, params.max_tokens)
    if params.start_from == "base_model":
        return new_classifier(
            params.base_model,
            pooling=base.model.config.pooling,
            max_tokens=params.max_tokens,
            seed=params.seed,
            dropout=params.dropout,
            revision=params.base_revision,
            cache_dir=params.cache_dir,
        )
    base.model.dropout.p = params.dropout
    return base
