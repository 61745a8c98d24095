from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest

from lib.clusters.filter import label_purity, reliable
from lib.clusters.purity import purity_table
from lib.clusters.thresholds import THRESHOLDS, ThresholdCounts, steps

OTHERS = {"min_cluster_size": 3, "confident_share": 0.95}


def made_up(texts: int, clusters: int):
    """A frame of texts, their clusters and probabilities, and the table of purity."""
    rng = np.random.default_rng(0)
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
    passing = reliable(assigned, probabilities, table, min_purity=0, min_confidence=0, **OTHERS)
    purity = label_purity(assigned, frame["predicted"].to_numpy(), table)
    return ThresholdCounts.count(frame, purity, passing)


def test_counts_are_those_of_the_filter():
    world = made_up(3000, 200)
    frame, assigned, probabilities, table = world
    counts = count(*world)
    for purity in (0, 34, 60, 75, 90, 100):
        for confidence in (0, 50, 70, 83, 95, 100):
            chosen = {"min_purity": purity / 100, "min_confidence": confidence / 100}
            kept = reliable(assigned, probabilities, table, **chosen, **OTHERS)
            found = counts.kept(purity, confidence)
            assert found.texts == kept.sum() and found.share == pytest.approx(kept.mean())
            expected = pd.crosstab(frame["source"][kept], frame["predicted"][kept])
            expected = expected.reindex(index=counts.sources, columns=range(3), fill_value=0)
            np.testing.assert_array_equal(found.counts, expected)
            audited = frame[kept & (frame["audit_label"] >= 0)]
            assert found.audited == len(audited)
            if len(audited):
                mean = frame["confidence"][kept].mean()
                assert found.expected_precision == pytest.approx(mean, abs=1e-6)
                right = (audited["predicted"] == audited["audit_label"]).mean()
                assert found.measured_precision == pytest.approx(right)


def test_a_value_reaches_its_own_threshold():
    for kind in (np.float32, np.float64):
        values = THRESHOLDS.astype(kind)
        assert steps(values).tolist() == list(range(101))
        assert steps(np.nextafter(values[1:], kind(0))).tolist() == list(range(100))


def test_nothing_passes_is_no_error():
    frame, *_ = made_up(50, 5)
    empty = ThresholdCounts.count(frame, np.ones(50), np.zeros(50, dtype=bool)).kept(0, 0)
    assert empty.texts == 0 and empty.counts.to_numpy().sum() == 0
    assert np.isnan([empty.expected_precision, empty.measured_precision, empty.low]).all()


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
