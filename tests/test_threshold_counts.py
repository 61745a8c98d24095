import time

import numpy as np
import pandas as pd
import pytest

from lib import LABELS, reliability
from lib.purity import purity_table
from lib.threshold_counts import THRESHOLDS, ThresholdCounts, steps

OTHERS = {"require_dominant": True, "min_cluster_size": 3, "purity_measure": "purity"}


def made_up(texts: int, clusters: int, seed: int = 0):
    """A frame of texts, their clusters and probabilities, and the purity table."""
    rng = np.random.default_rng(seed)
    assigned = rng.integers(0, clusters, texts)
    lean = rng.dirichlet([0.3] * 3, clusters)
    probabilities = 0.4 * rng.dirichlet([0.5] * 3, texts) + 0.6 * lean[assigned]
    probabilities = probabilities.astype(np.float32)
    frame = pd.DataFrame(
        {
            "source": pd.Categorical(rng.choice(["а", "б", "в", "г", "д", "е"], texts)),
            "audit_label": rng.integers(-1, 3, texts),
            "predicted": probabilities.argmax(1),
            "confidence": probabilities.max(1),
        }
    )
    return frame, assigned, probabilities, purity_table(assigned, probabilities, clusters)


def count(frame, assigned, probabilities, table):
    passing = reliability.reliable(
        assigned, probabilities, table, min_purity=0.0, min_confidence=0.0, **OTHERS
    )
    return ThresholdCounts.count(frame, table["purity"].to_numpy()[assigned], passing)


@pytest.fixture(scope="module")
def world():
    return made_up(3000, 200)


@pytest.fixture(scope="module")
def counts(world):
    return count(*world)


@pytest.mark.parametrize("purity", [0, 34, 60, 75, 90, 100])
@pytest.mark.parametrize("confidence", [0, 50, 70, 83, 95, 100])
def test_counts_are_those_of_the_filter(world, counts, purity, confidence):
    frame, assigned, probabilities, table = world
    chosen = {"min_purity": purity / 100, "min_confidence": confidence / 100}
    kept = reliability.reliable(assigned, probabilities, table, **chosen, **OTHERS)
    found = counts.kept(purity, confidence)
    assert found.texts == kept.sum()
    assert found.share == pytest.approx(kept.mean())
    expected = pd.crosstab(frame["source"][kept], frame["predicted"][kept])
    expected = expected.reindex(index=counts.sources, columns=range(3), fill_value=0)
    assert found.counts.columns.tolist() == list(LABELS)
    np.testing.assert_array_equal(found.counts, expected)
    if kept.any():
        assert found.expected_precision == pytest.approx(frame["confidence"][kept].mean(), abs=1e-6)
    else:
        assert np.isnan(found.expected_precision)


def test_precision_is_that_of_the_frontier(world, counts):
    frame, assigned, probabilities, table = world
    chosen = {"min_purity": 0.77, "min_confidence": 0.66}
    audit = frame["audit_label"].to_numpy()
    frontier = reliability.frontier(assigned, probabilities, table, audit, **chosen, **OTHERS)
    assert frontier["audited"].max() > 100
    for row in frontier.itertuples():
        found = counts.kept(round(row.min_purity * 100), round(row.min_confidence * 100))
        assert (found.texts, found.audited) == (row.kept, row.audited)
        for name in ("expected_precision", "measured_precision", "low", "high"):
            ours, theirs = getattr(found, name), getattr(row, name)
            assert ours == pytest.approx(theirs, abs=1e-9, nan_ok=True), name


def test_a_value_reaches_its_own_threshold():
    for kind in (np.float32, np.float64):
        values = THRESHOLDS.astype(kind)
        assert steps(values).tolist() == list(range(101))
        assert steps(np.nextafter(values[1:], kind(0))).tolist() == list(range(100))


def test_nothing_passes_is_no_error(world):
    frame, assigned, _, table = world
    none = np.zeros(len(frame), dtype=bool)
    empty = ThresholdCounts.count(frame, table["purity"].to_numpy()[assigned], none)
    assert empty.kept(0, 0).texts == 0 and empty.kept(0, 0).counts.to_numpy().sum() == 0


def test_sliders_answer_in_200_ms_at_100_000_texts():
    """The slowest of 20 positions; the best of three rounds, as other processes disturb."""
    counts = count(*made_up(100_000, 2000))
    rounds = []
    for _ in range(3):
        seconds = []
        for position in range(0, 100, 5):
            started = time.perf_counter()
            counts.kept(position, 100 - position)
            seconds.append(time.perf_counter() - started)
        rounds.append(max(seconds))
    assert min(rounds) < 0.2, rounds
