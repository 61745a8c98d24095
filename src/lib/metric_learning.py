"""The combined loss `L = λ_class·CE + λ_metric·SupCon` and the batches that it needs.

SupCon pulls texts of one class together and pushes the others away, on a normalised projection of
the pooled vector that is dropped after training. It needs batches in which every text has
positives; here positives share the class and, within a group, the cluster.

Reference: Khosla et al. 2020, "Supervised Contrastive Learning", arXiv:2004.11362.
"""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from pytorch_metric_learning.losses import SupConLoss
from torch import Tensor, nn

from lib import LABELS, distributed
from lib.artifacts import atomic
from lib.encoder import Encoder, load_classifier, new_classifier, save_classifier
from lib.errors import UserError
from lib.model import PooledClassifierOutput
from lib.schema import MetricLearningParams
from lib.training import Texts, cross_entropy, evaluation_steps, fit


class CombinedLoss(nn.Module):
    """`λ_class·CE + λ_metric·SupCon` of one batch.

    Args:
        hidden_size: d of the pooled vector.
        projection_dimensions: of the two-layer projection head (section 3 of the paper).
        seed: of the projection's weights.
    """

    def __init__(
        self,
        hidden_size: int,
        *,
        lambda_class: float,
        lambda_metric: float,
        temperature: float,
        projection_dimensions: int,
        seed: int,
    ) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.projection = nn.Sequential(
            nn.Linear(hidden_size, hidden_size),
            nn.ReLU(),
            nn.Linear(hidden_size, projection_dimensions),
        )
        self.lambda_class, self.lambda_metric = lambda_class, lambda_metric
        self.supcon = SupConLoss(temperature=temperature)  # normalises; 0 without positives

    def forward(
        self, output: PooledClassifierOutput, labels: Tensor, weights: Tensor
    ) -> dict[str, Tensor]:
        """Scalars `class`, `metric` and `total` (the weighted sum)."""
        class_loss = cross_entropy(output, labels, weights)["class"]
        with torch.set_grad_enabled(self.lambda_metric > 0 and torch.is_grad_enabled()):
            metric_loss = self.supcon(self.projection(output.pooled.float()), labels)
        total = self.lambda_class * class_loss + self.lambda_metric * metric_loss
        return {"class": class_loss, "metric": metric_loss, "total": total}


class ClassClusterBatches:
    """Batches of groups; a group is `group_size` texts of one class and one cluster.

    Classes get groups by their share among the gold texts (`natural`) or equally; at least one
    each. Of a class's groups `gold_share` are gold, the rest pseudo-labelled. A cluster is drawn
    by its number of texts of that class; pseudo groups take the clusters of the class's gold
    groups where those have pseudo-labelled texts, so positives share class and, where possible,
    cluster. Negatives then come from groups of other classes, which pure clusters make clusters
    of another dominant class.

    Args:
        labels: int [n].
        clusters: int [n], the cluster of each text.
        is_gold: bool [n].
        groups: groups per batch, at least one per class.
        group_size: texts per group; with fewer texts in the cluster some come twice.
        gold_share: in [0, 1].
        class_mix: `natural` or `equal`.
        seed: batch i depends only on (seed, i).
    Raises:
        UserError: a class without any text of the kind that is asked for.
    """

    def __init__(
        self,
        labels: np.ndarray,
        clusters: np.ndarray,
        is_gold: np.ndarray,
        *,
        groups: int,
        group_size: int,
        gold_share: float,
        class_mix: str,
        seed: int,
    ) -> None:
        self.group_size, self.gold_share, self.seed = group_size, gold_share, seed
        gold_counts = np.bincount(labels[is_gold], minlength=len(LABELS))
        if (gold_counts == 0).any():
            absent = [name for name, n in zip(LABELS, gold_counts, strict=True) if n == 0]
            raise UserError(f"05_metric_learning: gold train has no text of {', '.join(absent)}")
        shares = gold_counts / gold_counts.sum() if class_mix == "natural" else np.full(3, 1 / 3)
        self.groups_per_class = apportion(shares, groups)
        self.pools = {
            (label, gold): _Pool(np.flatnonzero((labels == label) & (is_gold == gold)), clusters)
            for label in range(len(LABELS))
            for gold in (True, False)
        }

    def __getitem__(self, step: int) -> np.ndarray:
        """Indices of the texts of batch `step`, int64 [groups * group_size]."""
        rng = np.random.default_rng([self.seed, step])
        chosen: list[np.ndarray] = []
        for label, groups in enumerate(self.groups_per_class):
            gold_pool, pseudo_pool = self.pools[label, True], self.pools[label, False]
            # a fraction of a group is settled by chance, so that the share holds on average
            gold_groups = int(np.floor(groups * self.gold_share + rng.random()))
            if not pseudo_pool:
                gold_groups = groups
            gold_clusters = gold_pool.draw_clusters(gold_groups, rng)
            pseudo_clusters = pseudo_pool.draw_clusters(groups - gold_groups, rng, gold_clusters)
            chosen += gold_pool.draw_texts(gold_clusters, self.group_size, rng)
            chosen += pseudo_pool.draw_texts(pseudo_clusters, self.group_size, rng)
        return np.concatenate(chosen)


class _Pool:
    """Texts of one class and kind, by cluster."""

    def __init__(self, indices: np.ndarray, clusters: np.ndarray) -> None:
        self.members = {
            int(c): indices[clusters[indices] == c] for c in np.unique(clusters[indices])
        }
        sizes = np.array([len(rows) for rows in self.members.values()], dtype=float)
        self.names = np.array(list(self.members), dtype=np.int64)
        self.shares = sizes / sizes.sum() if len(sizes) else sizes

    def __bool__(self) -> bool:
        return bool(self.members)

    def draw_clusters(
        self, count: int, rng: np.random.Generator, preferred: list[int] | None = None
    ) -> list[int]:
        """Clusters by size, the `preferred` ones first where this pool has them."""
        wanted = [c for c in (preferred or []) if c in self.members][:count]
        missing = count - len(wanted)
        if missing:
            wanted += [int(c) for c in rng.choice(self.names, size=missing, p=self.shares)]
        return wanted

    def draw_texts(
        self, clusters: list[int], group_size: int, rng: np.random.Generator
    ) -> list[np.ndarray]:
        """One group per entry; a text comes twice only if its cluster has too few."""
        drawn = []
        for cluster, groups in Counter(clusters).items():
            # one shuffle, repeated if need be: no group holds a text twice unless it must
            shuffled = rng.permutation(self.members[cluster])
            drawn.append(np.resize(shuffled, groups * group_size))
        return drawn


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


def hold_out(frame: pd.DataFrame, share: float, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A random share of each label, and the rest; both keep their order."""
    held = frame.groupby("label").sample(frac=share, random_state=seed).index
    rest = frame.drop(index=held)
    return frame.loc[sorted(held)].reset_index(drop=True), rest.reset_index(drop=True)


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
    loss = CombinedLoss(
        encoder.model.encoder.config.hidden_size,
        lambda_class=params.lambda_class,
        lambda_metric=lambda_metric,
        temperature=params.temperature,
        projection_dimensions=params.projection_dimensions,
        seed=params.seed,
    )
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


def apportion(shares: np.ndarray, seats: int) -> list[int]:
    """Whole seats by share (largest remainder), at least one each.

    Args:
        shares: float [k], summing to 1; seats: at least k.
    """
    free = seats - len(shares)
    exact = np.asarray(shares) * free
    whole = np.floor(exact).astype(int)
    for i in np.argsort(-(exact - whole), kind="stable")[: free - whole.sum()]:
        whole[i] += 1
    return [int(n) + 1 for n in whole]
