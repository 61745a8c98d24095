from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from lib import LABELS
from lib.clusters import filter as filters
from lib.clusters.filter import ALL_AUDIT, best, label_purity, passes
from lib.clusters.purity import purity_table
from lib.errors import UserError


def frame(assigned: np.ndarray, probabilities: np.ndarray, audit_label=-1) -> pd.DataFrame:
    about = {"predicted": probabilities.argmax(1), "confidence": probabilities.max(1)}
    about["source"] = np.resize(["отзывы", "соцсети"], len(assigned))
    return pd.DataFrame({"cluster": assigned, "audit_label": audit_label, **about})


def random_predictions(rows: int, clusters: int, seed: int) -> tuple:
    """Cluster, probabilities and the table of purity; the last cluster is empty."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet([0.5, 0.5, 0.5], size=rows).astype(np.float32)
    assigned = rng.integers(0, clusters, rows)
    return assigned, probabilities, purity_table(assigned, probabilities, clusters + 1)


@pytest.mark.parametrize("min_purity, min_confidence", [(0.4, 0.6), (0.5, 0.0), (0.0, 0.9)])
def test_the_filter_equals_a_loop(min_purity, min_confidence):
    assigned, probabilities, table = random_predictions(300, 12, seed=0)
    options = {"min_purity": min_purity, "min_confidence": min_confidence}
    kept = passes(frame(assigned, probabilities), table, **options)
    expected = []
    for cluster, row in zip(assigned, probabilities, strict=True):
        line = table.loc[cluster]
        pure = line["purity"] >= min_purity and row.argmax() == line["dominant"]
        expected.append(bool((pure or min_purity == 0) and row.max() >= min_confidence))
    assert kept.tolist() == expected
    assert 0 < kept.sum() < len(kept)


def test_values_exactly_at_the_thresholds_are_kept():
    probabilities = np.array(
        [[0.8, 0.1, 0.1], [0.9, 0.1, 0.0], [0.79, 0.2, 0.01], [0.0, 0.1, 0.9]], dtype=np.float32
    )
    assigned = np.zeros(4, dtype=int)  # one cluster, three of four negative
    table = purity_table(assigned, probabilities, 1)
    texts = frame(assigned, probabilities)
    kept = passes(texts, table, min_purity=0.75, min_confidence=0.8)
    assert kept.tolist() == [True, True, False, False]
    assert not passes(texts, table, min_purity=0.76, min_confidence=0.8).any()
    without = passes(texts, table, min_purity=0.0, min_confidence=0.8)
    assert without.tolist() == [True, True, False, True]  # no demand on the cluster at all


@given(
    st.integers(1, 200),
    st.floats(0.01, 1.0),
    st.one_of(st.none(), st.integers(1, 20)),
    st.sampled_from(["confidence", "confidence_and_purity"]),
    st.integers(0, 50),
)
def test_the_best_of_each_class_and_source(count, share, most, rank_by, seed):
    assigned, probabilities, table = random_predictions(count, 6, seed)
    texts = frame(assigned, probabilities)
    kept = best(texts, table, best_share=share, best_most=most, rank_by=rank_by)
    score = texts["confidence"].astype(float)
    if rank_by != "confidence":
        score = score * label_purity(texts, table)
    for _, group in texts.groupby(["predicted", "source"]):
        chosen = kept[group.index]
        assert chosen.sum() == min(np.ceil(share * len(group)), most or count)
        if 0 < chosen.sum() < len(group):
            assert score[group.index][chosen].min() >= score[group.index][~chosen].max()


def test_purity_decides_between_texts_of_like_confidence():
    probabilities = np.array([[0.9, 0.1, 0.0], [0.91, 0.09, 0.0], [0.0, 0.1, 0.9]], np.float32)
    assigned = np.array([0, 1, 1])  # cluster 1 is mixed
    texts = frame(assigned, probabilities).assign(source="отзывы")
    table = purity_table(assigned, probabilities, 2)
    assert best(texts, table, best_share=0.5).tolist() == [True, False, True]
    by_confidence = best(texts, table, best_share=0.5, rank_by="confidence")
    assert by_confidence.tolist() == [False, True, True]


def test_check_kept_names_the_class_that_is_gone():
    predicted = np.array([0, 0, 1, 2])
    filters.check_kept(np.array([True, False, True, True]), predicted)
    with pytest.raises(UserError, match=r"class positive passed.*'negative': 2.*lower min_purity"):
        filters.check_kept(np.array([True, True, True, False]), predicted)
    with pytest.raises(UserError, match="class negative, neutral, positive"):
        filters.check_kept(np.zeros(4, dtype=bool), predicted)


def test_the_frontier_equals_the_filter_at_every_pair():
    assigned, probabilities, table = random_predictions(400, 12, seed=0)
    probabilities[0] = [0.8, 0.1, 0.1]  # exactly at a threshold
    table = purity_table(assigned, probabilities, 13)
    known = np.random.default_rng(0).choice([0, 1, 2, -1], 400)
    predicted, confidence = probabilities.argmax(1), probabilities.max(1)
    others = {"best_share": 0.9, "best_most": 60}
    chosen = {"min_purity": 0.473, "min_confidence": 0.666}
    texts = frame(assigned, probabilities, known)
    found = filters.frontier(texts, table, **chosen, **others)
    assert not found.duplicated(["min_purity", "min_confidence"]).any()
    assert found.loc[found["chosen"], list(chosen)].to_dict("records") == [chosen]
    assert found["kept"].nunique() > 8
    for row in found.itertuples():
        thresholds = {"min_purity": row.min_purity, "min_confidence": row.min_confidence}
        kept = passes(texts, table, **thresholds, **others)
        assert row.kept == kept.sum() and row.kept_share == kept.mean()
        counts = np.bincount(predicted[kept], minlength=3)
        assert [getattr(row, name) for name in LABELS] == counts.tolist()
        audited = kept & (known >= 0)
        assert row.audited == audited.sum()
        if not audited.any():
            assert np.isnan([row.measured_precision, row.low, row.high]).all()
            continue
        assert row.expected_precision == pytest.approx(confidence[kept].mean(), rel=1e-5)
        right = int((predicted == known)[audited].sum())
        assert row.measured_precision == pytest.approx(right / audited.sum())
        interval = binomtest(right, int(audited.sum())).proportion_ci(0.95, method="wilson")
        assert (row.low, row.high) == pytest.approx((interval.low, interval.high), abs=1e-6)


def test_the_frontier_without_audit_labels_measures_nothing():
    *predictions, table = random_predictions(100, 5, seed=0)
    found = filters.frontier(frame(*predictions), table, min_purity=0.9, min_confidence=0.8)
    assert (found["audited"] == 0).all() and found["measured_precision"].isna().all()
    kept = found.pivot(index="min_purity", columns="min_confidence", values="kept").to_numpy()
    assert (np.diff(kept, axis=0) <= 0).all() and (np.diff(kept, axis=1) <= 0).all()


def test_nothing_kept_is_no_error():
    texts = pd.DataFrame({"predicted": [0, 1], "confidence": [0.5, 0.6], "audit_label": [0, -1]})
    found = filters.facts(texts, np.zeros(2, dtype=bool))
    assert found["kept"] == found["kept_share"] == found["audited"] == 0
    unknown = ("expected_precision", "measured_precision", "low", "high")
    assert np.isnan([found[name] for name in unknown]).all()


def test_the_rows_of_metrics_equal_a_loop():
    rng = np.random.default_rng(0)
    predicted, known = rng.integers(0, 3, 200), rng.choice([0, 1, 2, -1], 200)
    kept = rng.random(200) < 0.4
    sources = pd.Series(rng.choice(["отзывы", "соцсети", "без меток"], 200), dtype="category")
    known[(sources == "без меток").to_numpy()] = -1
    kept[(sources == "соцсети").to_numpy()] = False
    rows = filters.kept_metrics(predicted, kept, np.array([True, False, True]))
    texts = pd.DataFrame({"predicted": predicted, "audit_label": known, "source": sources})
    rows += filters.audit(texts.assign(confidence=0.5), kept)
    value = {(row["name"], row["dataset"]): row["value"] for row in rows}
    assert value["kept_share", "corpus"] == pytest.approx(kept.mean())
    assert sum(value[f"kept_{name}", "corpus"] for name in LABELS) == kept.sum()
    assert {source for _, source in value} == {"corpus", "отзывы", "соцсети", ALL_AUDIT}
    assert ("agreement_of_kept", "соцсети") not in value
    for row in rows:
        if row["split"] != "audit":
            continue
        of_kept, whole = row["name"] == "agreement_of_kept", row["dataset"] == ALL_AUDIT
        here = [
            i
            for i in range(200)
            if known[i] >= 0
            and (whole or sources[i] == row["dataset"])
            and (kept[i] or not of_kept)
        ]
        right = sum(predicted[i] == known[i] for i in here)
        interval = binomtest(int(right), len(here)).proportion_ci(0.95, method="wilson")
        expected = [len(here), right / len(here), interval.low, interval.high]
        found = [row[name] for name in ("texts", "value", "low", "high")]
        assert found == pytest.approx(expected, abs=1e-6)
    text = filters.summary(rows)
    assert f"{kept.mean():.1%} of 200 texts kept; 2 of 3 clusters have `min_purity`\n" in text
    assert f"with {value['agreement_of_kept', ALL_AUDIT]:.1%} of the kept ones [" in text


def test_without_audit_labels_there_is_nothing_to_say_of_them():
    predicted, kept = np.array([0, 1, 2]), np.array([True, True, False])
    texts = pd.DataFrame({"predicted": predicted, "source": ["а", "б", "в"], "audit_label": -1})
    assert filters.audit(texts, kept) == []
    rows = filters.kept_metrics(predicted, kept, np.array([True]))
    assert filters.summary(rows).splitlines()[1].startswith("no kept text has an audit label")
