"""Seconds in which a machine's own ups and downs do not count."""

from dataclasses import replace

import numpy as np
import pytest
from measured_logs import SOURCE, TRUE, record_of

from benchmarks.fidelity import pace
from benchmarks.fidelity.pace import Beats, Clock
from benchmarks.fidelity.runs import Seen
from benchmarks.vllm_gain.serving import Asked
from sojourn.cost.calibration import calibrate
from sojourn.decide.clock import SECOND
from sojourn.steplog.write import write_steplog

EVERY, USUAL = 0.05, 0.001
BEGUN = 5000.0


def beats(speed, seconds=20.0):
    """Return what a probe sees of a machine whose speed is a function of the moment."""
    found, now = Beats(), 100.0
    while now < 100.0 + seconds:
        took = USUAL / speed(now - 100.0)
        found.begins.append(now)
        found.ends.append(now + 2 * took)
        found.took.append(took)
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


def test_an_engine_that_slows_down_half_way_is_fitted_as_if_it_had_not(tmp_path):
    """Its steps and its requests are told in the same seconds; a probe stands in their midst."""
    record = record_of(requests=150)
    start, end = (
        at / SECOND for at in (record.steps.start, record.steps.start + record.steps.duration)
    )
    middle = end.max() / 2
    places = np.arange(EVERY, end.max(), EVERY)
    took = np.where(places < middle, USUAL, 1.5 * USUAL)
    stood = np.concatenate([[0.0], np.cumsum(2 * took)])

    def real(at):
        slowed = np.where(at < middle, at, middle + 1.5 * (at - middle))
        return BEGUN + slowed + stood[np.searchsorted(places, at)]

    log = tmp_path / "A1-1" / "log.parquet"
    log.parent.mkdir()
    told = replace(
        record.steps,
        start=np.rint((real(start) - BEGUN) * SECOND).astype(np.int64),
        duration=np.rint((real(end) - real(start)) * SECOND).astype(np.int64),
    )
    write_steplog(log, replace(record, steps=told), SOURCE)
    begins = real(places)
    moments = real(np.array([[10.0, 11.0, 13.0], [middle + 5.0, middle + 6.0, middle + 8.0]]))
    probe = Beats(begins.tolist(), (begins + 2 * took).tolist(), took.tolist())
    asked = [Asked(float(at) - BEGUN, [0] * 9, 3) for at in moments[:, 0]]
    seen = Seen(asked, "vtc", moments, [3, 3], BEGUN, BEGUN, probe, [log])
    seen.save(tmp_path / "A1-1.json")
    again = Seen.load(tmp_path / "A1-1.json")
    assert (again.recipe, again.asked, again.logs) == ("vtc", asked, [log])
    even, plain = Clock(again.probe, USUAL), Clock(again.probe, None)
    assert again.numbers(even).ttft == pytest.approx(1.0, rel=0.01)
    assert again.numbers(plain).ttft == pytest.approx(1.25, rel=0.01)
    assert [one.at for one in again.sent(even)] == pytest.approx([10.0, middle + 5.0], rel=0.01)
    found = calibrate(again.steps(even))
    assert found.coefficients.fixed == pytest.approx(TRUE.fixed, rel=0.03)
    assert found.coefficients.decode == pytest.approx(TRUE.decode, rel=0.1)
    assert found.overall.held_out.median < 0.01
    assert calibrate(again.steps(plain)).overall.held_out.median > 0.05


def test_a_probe_that_was_interrupted_says_little():
    seen = beats(lambda _: 1.0)
    seen.took[200] = 1.0
    clock = Clock(seen, USUAL)
    begin = seen.begins[200] - 100.0
    assert between(clock, begin - 0.5, begin + 0.5) > 0.9 * between(clock, 1.0, 2.0)


def test_the_work_is_done_when_it_is_due_and_timed_the_second_time(monkeypatch):
    now, done = [0.0], []

    def work():
        done.append(now[0])
        now[0] += 0.004 if len(done) % 2 else 0.002

    monkeypatch.setattr(pace, "perf_counter", lambda: now[0])
    monkeypatch.setattr(pace, "_work", lambda: work)
    probe = pace.Probe()
    for step in (0.03, 0.03, 0.01, 5.0):
        now[0] += step
        probe.beat()
    assert probe.beats.begins == pytest.approx([0.06, 5.076])
    assert probe.beats.ends == pytest.approx([0.066, 5.082])
    assert probe.beats.took == pytest.approx([0.002, 0.002])
