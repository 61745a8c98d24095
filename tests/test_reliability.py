from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from lib import LABELS
from lib.errors import UserError
from lib.purity import purity_table
from lib.reliability import audit, check_kept, frontier, kept_metrics, most_confident, reliable


def random_predictions(rows: int, clusters: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet([0.5, 0.5, 0.5], size=rows).astype(np.float32)
    return rng.integers(0, clusters, rows), probabilities


@pytest.mark.parametrize("require_dominant", [True, False])
@pytest.mark.parametrize("min_purity, min_confidence", [(0.4, 0.6), (0.5, 0.0), (0.0, 0.9)])
def test_reliable_equals_a_loop(require_dominant, min_purity, min_confidence):
    assigned, probabilities = random_predictions(300, 12, seed=0)
    table = purity_table(assigned, probabilities, 13)  # cluster 12 is empty: purity NaN
    kept = reliable(
        assigned,
        probabilities,
        table,
        min_purity=min_purity,
        min_confidence=min_confidence,
        require_dominant=require_dominant,
    )
    expected = []
    for cluster, row in zip(assigned, probabilities, strict=True):
        line = table.loc[cluster]
        good = line["purity"] >= min_purity and row.max() >= min_confidence
        expected.append(good and (not require_dominant or row.argmax() == line["dominant"]))
    assert kept.tolist() == expected
    assert 0 < kept.sum() < len(kept)


def test_values_exactly_at_the_thresholds_are_kept():
    probabilities = np.array(
        [[0.8, 0.1, 0.1], [0.9, 0.1, 0.0], [0.79, 0.2, 0.01], [0.0, 0.1, 0.9]], dtype=np.float32
    )
    assigned = np.zeros(4, dtype=int)  # one cluster, three of four negative
    table = purity_table(assigned, probabilities, 1)
    settings = {"min_confidence": 0.8, "require_dominant": True}
    kept = reliable(assigned, probabilities, table, min_purity=0.75, **settings)
    assert kept.tolist() == [True, True, False, False]
    assert not reliable(assigned, probabilities, table, min_purity=0.76, **settings).any()


def test_check_kept_names_the_class_that_is_gone():
    predicted = np.array([0, 0, 1, 2])
    check_kept(np.array([True, False, True, True]), predicted)
    with pytest.raises(UserError, match=r"class positive passed.*'negative': 2.*lower min_purity"):
        check_kept(np.array([True, True, True, False]), predicted)
    with pytest.raises(UserError, match="class negative, neutral, positive"):
        check_kept(np.zeros(4, dtype=bool), predicted)


def test_audit_equals_a_loop_and_feeds_the_metrics():
    rng = np.random.default_rng(0)
    predicted = rng.integers(0, 3, 200)
    known = rng.choice([0, 1, 2, -1], 200)
    kept = rng.random(200) < 0.4
    sources = pd.Series(rng.choice(["отзывы", "соцсети", "без меток"], 200))
    known[(sources == "без меток").to_numpy()] = -1
    kept[(sources == "соцсети").to_numpy()] = False
    table = audit(predicted, known, kept, sources)
    assert table["source"].tolist() == ["отзывы", "соцсети"]
    for row in table.itertuples(index=False):
        here = [i for i in range(200) if sources[i] == row.source and known[i] >= 0]
        chosen = [i for i in here if kept[i]]
        assert (row.texts, row.kept) == (len(here), len(chosen))
        assert row.agreement == pytest.approx(np.mean([predicted[i] == known[i] for i in here]))
        if chosen:
            share = np.mean([predicted[i] == known[i] for i in chosen])
            assert row[4] == pytest.approx(share)
        else:
            assert row[4] is None or np.isnan(row[4])

    rows = kept_metrics(predicted, kept, table)
    values = {(row["name"], row["dataset"]): row["value"] for row in rows}
    assert values["kept_share", "corpus"] == pytest.approx(kept.mean())
    assert sum(values[f"kept_{name}", "corpus"] for name in LABELS) == kept.sum()
    assert values["agreement_of_kept", "отзывы"] == pytest.approx(table["agreement of kept"][0])
    assert ("agreement", "соцсети") in values
    assert ("agreement_of_kept", "соцсети") not in values


def test_audit_without_any_audit_label_is_empty():
    nothing = np.array([-1, -1])
    table = audit(np.array([0, 1]), nothing, np.array([True, True]), pd.Series(["а", "б"]))
    assert table.empty and "agreement of kept" in table.columns


@pytest.mark.parametrize(
    "options, removes",
    [
        ({"min_cluster_size": 20}, lambda line: line["size"] < 20),
        ({"max_entropy": 0.7}, lambda line: line["mean_entropy"] > 0.7),
        ({"purity_measure": "purity_lower_bound"}, lambda line: line["purity_lower_bound"] < 0.3),
    ],
)
def test_each_option_removes_the_clusters_that_it_names(options, removes):
    assigned, probabilities = random_predictions(300, 14, seed=1)
    table = purity_table(assigned, probabilities, 14)
    basic = {"min_purity": 0.3, "min_confidence": 0.5, "require_dominant": True}
    before = reliable(assigned, probabilities, table, **basic)
    after = reliable(assigned, probabilities, table, **(basic | options))
    bad = np.array([removes(table.loc[cluster]) for cluster in assigned])
    assert (after == (before & ~bad)).all()
    assert 0 < after.sum() < before.sum()


@pytest.mark.parametrize("measure", ["purity", "purity_lower_bound"])
@pytest.mark.parametrize("require_dominant", [True, False])
def test_the_frontier_equals_the_filter_at_every_cell(measure, require_dominant):
    assigned, probabilities = random_predictions(400, 12, seed=0)
    probabilities[0] = [0.8, 0.1, 0.1]  # exactly at a threshold
    table = purity_table(assigned, probabilities, 13)
    known = np.random.default_rng(0).choice([0, 1, 2, -1], 400)
    predicted, confidence = probabilities.argmax(1), probabilities.max(1)
    options = {"purity_measure": measure, "require_dominant": require_dominant}
    options |= {"min_cluster_size": 25, "max_entropy": 0.75}
    chosen = {"min_purity": 0.47, "min_confidence": 0.66}
    cells = frontier(assigned, probabilities, table, known, **chosen, **options)
    assert not cells.duplicated(["min_purity", "min_confidence"]).any()
    assert cells.loc[cells["chosen"], list(chosen)].to_dict("records") == [chosen]
    assert cells["kept"].nunique() > 8
    for cell in cells.itertuples():
        thresholds = {"min_purity": cell.min_purity, "min_confidence": cell.min_confidence}
        kept = reliable(assigned, probabilities, table, **thresholds, **options)
        assert cell.kept == kept.sum() and cell.kept_share == kept.mean()
        assert [getattr(cell, name) for name in LABELS] == [
            (predicted[kept] == i).sum() for i in range(3)
        ]
        audited = kept & (known >= 0)
        assert cell.audited == audited.sum()
        if not kept.any():
            assert np.isnan(cell.expected_precision)
            continue
        assert cell.expected_precision == pytest.approx(confidence[kept].mean(), rel=1e-5)
        right = int((predicted == known)[audited].sum())
        if not audited.any():
            assert np.isnan([cell.measured_precision, cell.low, cell.high]).all()
            continue
        assert cell.measured_precision == pytest.approx(right / audited.sum())
        interval = binomtest(right, int(audited.sum())).proportion_ci(0.95, method="wilson")
        assert (cell.low, cell.high) == pytest.approx((interval.low, interval.high), abs=1e-6)


def test_the_frontier_without_audit_labels_measures_nothing():
    assigned, probabilities = random_predictions(100, 5, seed=0)
    table = purity_table(assigned, probabilities, 5)
    options = {"min_purity": 0.9, "min_confidence": 0.8, "require_dominant": True}
    cells = frontier(assigned, probabilities, table, np.full(100, -1, dtype=np.int8), **options)
    assert (cells["audited"] == 0).all() and cells["measured_precision"].isna().all()
    assert cells["chosen"].sum() == 1
    kept = cells.pivot(index="min_purity", columns="min_confidence", values="kept").to_numpy()
    assert (np.diff(kept, axis=0) <= 0).all() and (np.diff(kept, axis=1) <= 0).all()


@given(st.integers(1, 200), st.floats(0.01, 1.0), st.integers(0, 50))
def test_the_most_confident_share_of_each_class(count, share, seed):
    rng = np.random.default_rng(seed)
    predicted = rng.integers(0, 3, count)
    confidence = rng.permutation(np.linspace(0.4, 1.0, count))  # no two alike
    kept = most_confident(predicted, confidence, share)
    for label in range(3):
        of_class, chosen = confidence[predicted == label], confidence[kept & (predicted == label)]
        assert len(chosen) == np.ceil(share * len(of_class))
        assert set(chosen) == set(np.sort(of_class)[len(of_class) - len(chosen) :])


def test_texts_as_confident_as_the_last_one_stay():
    kept = most_confident(np.zeros(4, dtype=int), np.array([0.5, 0.9, 0.9, 0.9]), 0.25)
    assert kept.tolist() == [False, True, True, True]
