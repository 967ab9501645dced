import time

import numpy as np
import pytest

from sojourn.report.bootstrap import block_length, goodput_interval, paired_gain


def correlated(rng, n, share=0.7, memory=0.9):
    """Booleans from a two-state chain: mean `share`, autocorrelation `memory` at lag one."""
    stay = rng.random(n) < memory
    fresh = rng.random(n) < share
    last = np.maximum.accumulate(np.where(stay, 0, np.arange(n)))
    return fresh[last]


def coverage(block, n=2_000, runs=150, share=0.7):
    rng = np.random.default_rng(11)
    hits = 0
    for run in range(runs):
        low, high = goodput_interval(correlated(rng, n, share), 1.0, block, run)
        hits += low <= share <= high
    return hits / runs


def test_coverage_of_autocorrelated_outcomes():
    assert coverage(block=100) >= 0.90
    # Blocks of one treat requests as independent and pretend to know far too much.
    assert coverage(block=1, runs=30) < 0.6


def test_coverage_with_the_fewest_blocks():
    assert coverage(block=block_length(2_000, 10.0, 1_000.0)) >= 0.90


def test_block_length_rule():
    assert block_length(1_000, 1.0, None) == 10
    assert block_length(1_000, 4.0, 5.0) == 40  # two mean E2E times of arrivals
    assert block_length(1_000, 4.0, 500.0) == 100  # never fewer than ten blocks
    assert block_length(5, 4.0, 500.0) == 1
    assert block_length(0, 4.0, None) == 1


def test_same_seed_same_interval():
    met = correlated(np.random.default_rng(0), 500)
    assert goodput_interval(met, 3.0, 20, 5) == goodput_interval(met, 3.0, 20, 5)
    assert goodput_interval(met, 3.0, 20, 5) != goodput_interval(met, 3.0, 20, 6)


def test_interval_stays_between_nothing_and_the_offered_rate():
    met = np.ones(60, dtype=bool)
    met[3] = False
    low, high = goodput_interval(met, 2.0, 4, 0)
    assert 0.0 <= low <= 2.0 * 59 / 60 <= high <= 2.0


def test_a_constant_keeps_the_binomial_doubt():
    low, high = goodput_interval(np.ones(100, dtype=bool), 2.0, 5, 0)
    assert (low, high) == (pytest.approx(2.0 * 0.025 ** (1 / 100)), 2.0)
    low, high = goodput_interval(np.zeros(100, dtype=bool), 2.0, 5, 0)
    assert (low, high) == (0.0, pytest.approx(2.0 * (1 - 0.025 ** (1 / 100))))
    assert goodput_interval(np.zeros(0, dtype=bool), 2.0, 1, 0) is None


def test_paired_gain_sees_what_separate_intervals_cannot():
    rng = np.random.default_rng(4)
    stock = correlated(rng, 4_000)
    better = stock | (rng.random(4_000) < 0.05)
    ours, theirs = (goodput_interval(met, 10.0, 60, 1) for met in (better, stock))
    assert ours[0] < theirs[1]
    gain = paired_gain((better, 10.0), (stock, 10.0), 60, 1)
    assert gain.clear
    assert gain.interval[0] <= gain.goodput_rps <= gain.interval[1]
    assert gain.goodput_rps == pytest.approx(10 * (better.mean() - stock.mean()))
    assert not paired_gain((stock, 10.0), (stock, 10.0), 60, 1).clear


def test_paired_gain_refuses_different_requests():
    with pytest.raises(ValueError, match="same requests"):
        paired_gain((np.ones(3, dtype=bool), 1.0), (np.ones(4, dtype=bool), 1.0), 1, 0)


def test_fast_for_a_hundred_thousand_requests():
    met = correlated(np.random.default_rng(0), 100_000)
    took = []
    for _ in range(3):
        begin = time.perf_counter()
        goodput_interval(met, 50.0, block_length(100_000, 50.0, None), 0)
        took.append(time.perf_counter() - begin)
    assert min(took) < 0.2
