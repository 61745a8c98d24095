from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import binomtest, entropy

from lib import LABELS
from lib.clusters.purity import purity_table, wilson_interval

COUNT = st.shared(st.integers(1, 50), key="n")


@given(
    hnp.arrays(np.int64, COUNT, elements=st.integers(0, 5)),
    hnp.arrays(np.float64, st.tuples(COUNT, st.just(3)), elements=st.floats(0.01, 1)),
)
def test_purity_equals_a_count_by_hand(assigned, probabilities):
    probabilities /= probabilities.sum(1, keepdims=True)
    table = purity_table(assigned, probabilities, 6)
    assert len(table) == 6 and table["size"].sum() == len(assigned)
    for cluster in range(6):
        rows = [probabilities[i] for i in range(len(assigned)) if assigned[i] == cluster]
        votes = [int(np.argmax(row)) for row in rows]
        line = table.loc[cluster]
        counts = [votes.count(i) for i in range(3)]
        assert line["size"] == len(rows) and line[list(LABELS)].tolist() == counts
        if not rows:
            assert np.isnan(line[["purity", "purity_lower_bound", "mean_entropy"]]).all()
            continue
        assert line["purity"] == max(counts) / len(rows)
        assert 1 / 3 <= line["purity"] <= 1
        assert counts[int(line["dominant"])] == max(counts)
        assert line["mean_confidence"] == pytest.approx(np.mean([max(row) for row in rows]))
        assert line["mean_entropy"] == pytest.approx(np.mean([entropy(row) for row in rows]))
        bound = binomtest(max(counts), len(rows)).proportion_ci(0.95, method="wilson").low
        assert line["purity_lower_bound"] == pytest.approx(bound, abs=1e-6)
        assert line["purity_lower_bound"] <= line["purity"]


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_intervals_are_those_of_scipy(pair):
    successes, trials = pair
    low, high = wilson_interval(np.array([successes]), np.array([trials]))
    expected = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    assert (low[0], high[0]) == pytest.approx((expected.low, expected.high), abs=1e-6)
    assert 0 <= low[0] <= high[0] <= 1


def test_no_trial_has_no_interval():
    assert np.isnan(wilson_interval(0, 0)).all()


def test_certain_predictions_have_no_entropy():
    table = purity_table(np.zeros(2, int), np.array([[0, 1, 0], [0, 0, 1]], dtype=np.float32), 1)
    assert table["mean_entropy"][0] == 0 and table["mean_confidence"][0] == 1
