from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import binomtest

from lib import LABELS
from lib.purity import entropy, purity_table, wilson_interval


@given(
    hnp.arrays(np.int64, st.shared(st.integers(1, 50), key="n"), elements=st.integers(0, 5)),
    hnp.arrays(
        np.float64,
        st.tuples(st.shared(st.integers(1, 50), key="n"), st.just(3)),
        elements=st.floats(0.01, 1),
    ),
)
def test_purity_equals_a_count_by_hand(assigned, probabilities):
    table = purity_table(assigned, probabilities, 6)
    assert len(table) == 6 and table["size"].sum() == len(assigned)
    for cluster in range(6):
        rows = [probabilities[i] for i in range(len(assigned)) if assigned[i] == cluster]
        votes = [int(np.argmax(row)) for row in rows]
        line = table.loc[cluster]
        assert line["size"] == len(rows)
        assert [line[name] for name in LABELS] == [votes.count(i) for i in range(3)]
        if not rows:
            assert np.isnan(line[["purity", "purity_lower_bound", "mean_entropy"]]).all()
            continue
        assert line["purity"] == max(votes.count(i) for i in range(3)) / len(rows)
        assert 1 / 3 <= line["purity"] <= 1
        assert votes.count(int(line["dominant"])) == max(votes.count(i) for i in range(3))
        assert line["mean_confidence"] == pytest.approx(np.mean([max(row) for row in rows]))
        most = max(votes.count(i) for i in range(3))
        bound = binomtest(most, len(rows)).proportion_ci(0.95, method="wilson").low
        assert line["purity_lower_bound"] == pytest.approx(bound, abs=1e-6)
        entropies = [-sum(p * np.log(p) for p in row) for row in rows]
        assert line["mean_entropy"] == pytest.approx(np.mean(entropies))


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_intervals_are_those_of_scipy(pair):
    successes, trials = pair
    low, high = wilson_interval(np.array([successes]), np.array([trials]))
    expected = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    assert (low[0], high[0]) == pytest.approx((expected.low, expected.high), abs=1e-6)
    assert 0 <= low[0] <= successes / trials <= high[0] <= 1 or successes in (0, trials)


def test_no_trial_has_no_interval():
    low, high = wilson_interval(np.array([0]), np.array([0]))
    assert np.isnan(low).all() and np.isnan(high).all()


def test_the_lower_bound_distrusts_small_clusters():
    assigned = np.repeat([0, 1], [10, 1000])
    probabilities = np.zeros((1010, 3), dtype=np.float32)
    probabilities[:, 0] = 1
    probabilities[[0, *range(10, 110)]] = [0, 0, 1]  # nine of ten, nine hundred of a thousand
    table = purity_table(assigned, probabilities, 2)
    assert table["purity"].tolist() == [0.9, 0.9]
    assert table["purity_lower_bound"][0] < 0.6 and table["purity_lower_bound"][1] > 0.87


def test_entropy_of_certain_and_of_undecided_predictions():
    values = entropy(np.array([[0, 1, 0], [1 / 3] * 3], dtype=np.float32))
    assert values == pytest.approx([0.0, np.log(3)], abs=1e-6)
