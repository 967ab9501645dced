"""Seconds in which a machine's own ups and downs do not count."""

import numpy as np
import pytest

from benchmarks.fidelity.pace import Beats, Clock

EVERY, USUAL = 0.05, 0.001


def beats(speed, seconds=20.0):
    """Return what a probe sees of a machine whose speed is a function of the moment."""
    found, now = Beats(), 100.0
    while now < 100.0 + seconds:
        took = USUAL / speed(now - 100.0)
        found.begins.append(now)
        found.ends.append(now + 2 * took)
        found.took.append(took)
        found.counts.append(1)
        now = found.ends[-1] + EVERY
    return found


def between(clock, begin, end):
    first, last = clock.at([100.0 + begin, 100.0 + end])
    return last - first


def test_no_time_passes_while_the_work_is_done():
    seen = beats(lambda _: 1.0)
    for usual in (None, USUAL):
        clock = Clock(seen, usual)
        for begin, end in zip(seen.begins, seen.ends, strict=True):
            assert clock.at(begin) == pytest.approx(clock.at(end), abs=1e-9)
        assert between(clock, 0.0, 10.0) == pytest.approx(
            10.0 * EVERY / (EVERY + 2 * USUAL), rel=0.01
        )
    assert seen.share == pytest.approx(2 * USUAL / (EVERY + 2 * USUAL), rel=0.01)


def test_a_second_of_a_slow_machine_counts_for_less():
    seen = beats(lambda at: 1.0 if at < 10.0 else 0.5)
    plain, even = Clock(seen, None), Clock(seen, USUAL)
    for begin, speed in ((2.0, 1.0), (12.0, 0.5)):
        counted = between(even, begin, begin + 6.0) / between(plain, begin, begin + 6.0)
        assert counted == pytest.approx(speed, rel=0.01)


def test_what_goes_up_and_down_comes_out_even():
    """The same work, begun at any moment, takes as many even seconds."""
    speed = lambda at: 1.0 + 0.3 * np.sin(at / 2.0)  # noqa: E731
    seen = beats(speed, 60.0)
    plain, even = Clock(seen, None), Clock(seen, USUAL)
    ends = np.array(seen.ends)
    work = np.concatenate(
        [
            [0.0],
            np.cumsum(
                np.diff(seen.begins, append=seen.begins[-1] + EVERY)[:-1] * speed(ends[:-1] - 100.0)
            ),
        ]
    )
    took = {"plain": [], "even": []}
    for at in range(100, len(work) - 120, 10):
        done = int(np.searchsorted(work, work[at] + 3.0))
        for name, clock in (("plain", plain), ("even", even)):
            took[name].append(float(clock.at(seen.begins[done]) - clock.at(seen.begins[at])))
    assert np.std(took["plain"]) / np.mean(took["plain"]) > 0.1
    assert np.std(took["even"]) / np.mean(took["even"]) < 0.02


def test_moments_before_and_after_go_on_at_the_speed_of_the_nearest():
    clock = Clock(beats(lambda _: 0.5), USUAL)
    assert between(clock, -4.0, 0.0) == pytest.approx(2.0)
    assert between(clock, 30.0, 34.0) == pytest.approx(2.0)
