"""Batches: every text in its turn, groups of one class and cluster, the same ones again."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import UserError
from lib.training.batches import (
    BatchSampler,
    ClassClusterBatches,
    LengthBatches,
    apportion,
    minority_shares,
    nearest_clusters,
)

GROUPS, SIZE = 16, 4


@pytest.fixture(scope="module")
def texts() -> pd.DataFrame:
    """1500 texts: half gold (mostly negative), clusters that mix classes."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "label": rng.choice(3, size=1500, p=[0.5, 0.375, 0.125]),
            "cluster": rng.integers(0, 30, 1500),
            "gold": rng.random(1500) < 0.5,
        }
    )


def batches_of(texts: pd.DataFrame, **changes) -> ClassClusterBatches:
    settings = {
        "groups": GROUPS,
        "group_size": SIZE,
        "gold_share": 0.5,
        "seed": 0,
    }
    return ClassClusterBatches(
        texts["label"].to_numpy(),
        texts["cluster"].to_numpy(),
        texts["gold"].to_numpy(),
        **(settings | changes),
    )


@given(st.lists(st.integers(1, 200), min_size=1, max_size=300), st.integers(1, 40))
def test_an_epoch_has_no_text_twice_and_nearly_all(lengths, batch_size):
    batches = LengthBatches(np.array(lengths), batch_size, seed=0)
    for epoch in range(2):
        steps = range(epoch * batches.per_epoch, (epoch + 1) * batches.per_epoch)
        rows = np.concatenate([batches[step] for step in steps])
        assert all(len(batches[step]) == batches.size for step in steps)
        assert len(set(rows.tolist())) == len(rows) > len(lengths) - batches.size


def test_batches_of_like_length_have_little_padding_and_are_mixed():
    lengths = np.random.default_rng(0).integers(5, 100, 2000)
    batches = LengthBatches(lengths, 32, seed=0)
    epoch = [batches[step] for step in range(batches.per_epoch)]
    padded = sum(lengths[rows].max() * len(rows) for rows in epoch)
    assert sum(lengths[rows].sum() for rows in epoch) / padded > 0.95
    means = [lengths[rows].mean() for rows in epoch]
    assert means != sorted(means)
    late = LengthBatches(lengths, 32, seed=0)[len(epoch) + 3]
    assert (batches[len(epoch) + 3] == late).all() and (epoch[3] != late).any()


def test_the_sampler_gives_the_batches_one_after_the_other():
    batches = LengthBatches(np.arange(10), 3, seed=0)
    sampler = BatchSampler(batches, 5)
    assert list(sampler) == np.concatenate([batches[step] for step in range(5)]).tolist()
    assert len(sampler) == 15


def test_what_processes_cannot_divide_begins_again():
    batches = LengthBatches(np.arange(10), 5, seed=0)
    expected = [rows for step in range(2) for rows in [*batches[step], batches[step][0]]]
    for processes in (2, 3, 6):
        assert list(BatchSampler(batches, 2, processes)) == expected


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=8).filter(lambda v: sum(v) > 0.01),
    st.integers(0, 60),
)
def test_apportion_gives_all_seats_and_each_at_least_one(values, more):
    shares = np.array(values) / sum(values)
    seats = len(values) + more
    given_out = apportion(shares, seats)
    assert sum(given_out) == seats
    assert min(given_out) >= 1
    for share, got in zip(shares, given_out, strict=True):  # quota rule of the largest remainder
        assert abs(got - 1 - share * more) < 1 + 1e-9


def test_apportion_by_hand():
    # 7 free seats: 3.5, 2.45, 1.05 -> 3, 2, 1 and the last one to the largest remainder
    assert apportion(np.array([0.5, 0.35, 0.15]), 10) == [5, 3, 2]
    assert apportion(np.array([1.0, 0.0, 0.0]), 3) == [1, 1, 1]


def test_groups_have_one_class_one_cluster_and_one_kind(texts):
    batches = batches_of(texts)
    sizes = texts.groupby(["label", "cluster", "gold"]).size()
    for step in range(50):
        batch = batches[step]
        assert batch.shape == (GROUPS * SIZE,)
        groups = [texts.iloc[rows] for rows in batch.reshape(GROUPS, SIZE)]
        for group in groups:
            assert (group[["label", "cluster", "gold"]].nunique() == 1).all()
            members = sizes[tuple(group.iloc[0])]
            assert group.index.nunique() == SIZE or members < SIZE
        assert {group["label"].iloc[0] for group in groups} == {0, 1, 2}


def test_pseudo_groups_share_clusters_with_the_gold_groups_of_their_class(texts):
    batch = texts.iloc[batches_of(texts)[0]]
    for _, part in batch.groupby("label"):
        gold, pseudo = (set(part[part["gold"] == kind]["cluster"]) for kind in (True, False))
        if gold and pseudo:
            assert gold & pseudo


def test_batches_depend_on_seed_and_step_only(texts):
    first, second = batches_of(texts), batches_of(texts)
    late = second[41]
    for step in range(45):
        batch = first[step]
    assert (first[41] == late).all() and (first[0] == second[0]).all()
    assert (batch != late).any()
    assert (batches_of(texts, seed=1)[41] != late).any()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_gold_share_holds_on_average(texts, share):
    batches = batches_of(texts, gold_share=share)
    gold = np.mean([texts["gold"].to_numpy()[batches[step]].mean() for step in range(400)])
    assert gold == pytest.approx(share, abs=0.02)


def test_classes_are_mixed_as_in_gold(texts):
    expected = texts[texts["gold"]]["label"].value_counts(normalize=True).sort_index()
    batches = batches_of(texts)
    labels = texts["label"].to_numpy()[np.concatenate([batches[step] for step in range(50)])]
    found = np.bincount(labels, minlength=3) / len(labels)
    # whole groups and one at least per class: up to 1.5 of 16 groups away
    np.testing.assert_allclose(found, expected, atol=1.5 / GROUPS)
    assert found[0] > found[1] > found[2] > 0


def test_clusters_are_drawn_by_their_size():
    sizes = {0: 300, 1: 100}
    clusters = np.repeat(list(sizes) * 3, list(sizes.values()) * 3)
    labels = np.repeat([0, 1, 2], 400)
    gold = pd.DataFrame({"label": labels, "cluster": clusters, "gold": True})
    batches = batches_of(gold, groups=9, group_size=2, gold_share=1.0)
    drawn = clusters[np.concatenate([batches[step] for step in range(300)])]
    assert (drawn == 0).mean() == pytest.approx(0.75, abs=0.02)


def test_a_small_cluster_gives_a_text_twice():
    gold = pd.DataFrame({"label": [0, 1, 2], "cluster": [5, 6, 7], "gold": True})
    batches = batches_of(gold, groups=3)
    assert sorted(batches[0].tolist()) == [0] * 4 + [1] * 4 + [2] * 4


def test_without_pseudo_labelled_texts_all_groups_are_gold(texts):
    only_gold = texts[texts["gold"]].reset_index(drop=True)
    batch = batches_of(only_gold, gold_share=0.2)[0]
    assert len(batch) == GROUPS * SIZE and batch.max() < len(only_gold)
    # and one class alone may lack them
    some = texts[texts["gold"] | (texts["label"] != 2)].reset_index(drop=True)
    batches = batches_of(some, gold_share=0.2)
    rows = some.iloc[np.concatenate([batches[step] for step in range(20)])]
    assert rows[rows["label"] == 2]["gold"].all()
    assert not rows[rows["label"] != 2]["gold"].all()


def test_a_class_without_gold_texts_is_an_error(texts):
    absent = texts[~(texts["gold"] & (texts["label"] == 1))].reset_index(drop=True)
    with pytest.raises(UserError, match="gold train has no text of neutral"):
        batches_of(absent)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2)), min_size=1, max_size=60))
def test_minority_shares_are_those_of_texts_outside_the_main_class(rows):
    clusters, labels = (np.array(column) for column in zip(*rows, strict=True))
    shares = minority_shares(labels, clusters, 6)
    frame = pd.DataFrame({"cluster": clusters, "label": labels})
    counts = frame.groupby("cluster")["label"].value_counts().unstack(fill_value=0)
    minority = (counts.sum(axis=1) - counts.max(axis=1)).reindex(range(6), fill_value=0)
    expected = minority if minority.sum() else counts.sum(axis=1).reindex(range(6), fill_value=0)
    np.testing.assert_allclose(shares, expected / expected.sum())


def test_nearest_clusters_begin_with_the_cluster_itself():
    centroids = np.array([[0.0, 0], [1, 0], [5, 0], [6.5, 0]])
    assert nearest_clusters(centroids, 2).tolist() == [[0, 1], [1, 0], [2, 3], [3, 2]]
    assert nearest_clusters(centroids, 9).shape == (4, 4)


def test_hard_batches_take_up_to_half_of_each_class_from_one_region(texts):
    ring = np.array([[(c + i) % 30 for i in (0, 1, -1, 2, -2)] for c in range(30)])
    batches = batches_of(texts, neighbours=ring, gold_share=1.0)
    plain = batches_of(texts, gold_share=1.0)

    def most_in_a_region(batch: np.ndarray) -> float:
        clusters = texts["cluster"].to_numpy()[batch]
        return max(np.isin(clusters, region).mean() for region in ring)

    hard = [most_in_a_region(batches[step]) for step in range(30)]
    easy = [most_in_a_region(plain[step]) for step in range(30)]
    assert min(hard) >= 0.5 and np.mean(easy) < 0.45
    assert max(hard) < 1  # and the rest from anywhere
    assert (batches[7] == batches_of(texts, neighbours=ring, gold_share=1.0)[7]).all()
