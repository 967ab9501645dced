"""Faults worked by hand: every step takes a millisecond, so all moments are known exactly."""

import numpy as np
import pytest
from fleet_runs import design, group, run

from sojourn.cost import Coefficients, Fitted
from sojourn.cost.scaled import Scaled
from sojourn.decide.clock import NEVER, SECOND
from sojourn.errors import UserError
from sojourn.fleet.design import CRASH, CUT, SLOW, SPOT, Fault, Link
from sojourn.sim.fleet import loop
from sojourn.sim.fleet.slow import Slowed, slowed
from sojourn.sim.fleet.spot import bundled_spot_log, read_spot_log, spot_faults
from sojourn.steplog.fleet import NO_REPLICA
from tests.fleet.noise import PlaceConfig, registered
from tests.sim.sim_workloads import COST, MILLISECOND, WHOLE, make

MS = MILLISECOND


def whole(name="a", count=1, **more):
    return group(name, count, step_time=WHOLE, **more)


def ms(record, name):
    return [round(one / MS, 6) for one in getattr(record.requests, name).tolist()]


def events(sim):
    return [(one.time / MS, one.replica, one.what) for one in sim.fleet_record.events]


def test_a_crash_with_restart_resumes_where_the_stream_stood():
    """Prompt in step 1, tokens at 1..4; the crash at 4.5 loses the step that ends at 5.

    The replica starts anew at 14.5 and is up at 34.5; prompt and 4 tokens are computed in one step,
    which gives token 5 at 35.5, and the other 5 follow.
    """
    faults = (Fault(CRASH, 4 * MS + MS // 2, replica=0, duration=10 * MS),)
    fleet = design(whole(start_time=20 * MS), faults=faults)
    sim, record = run(make([(0, 10, 10, 0)]), fleet)
    assert ms(record, "first_token") == [1]
    assert ms(record, "finish") == [40.5]
    assert ms(record, "gap") == [31.5]
    assert record.requests.recomputed_tokens.tolist() == [13]
    assert events(sim) == [(0, 0, "up"), (4.5, 0, "crash"), (14.5, 1, "asked for"), (34.5, 1, "up")]


def test_retry_begins_the_answer_anew():
    faults = (Fault(CRASH, 4 * MS + MS // 2, replica=0, duration=0),)
    sim, record = run(make([(0, 10, 10, 0)]), design(whole(), faults=faults, lost="retry"))
    assert ms(record, "first_token") == [5.5]
    assert ms(record, "finish") == [14.5]
    assert sim.fleet_record.lost_tokens == 4


def test_a_spot_notice_drains_and_the_loss_comes_when_announced():
    """Row 0 ends at 10 within the notice; row 1 comes at 6 and must wait for the other replica.

    Row 2 needs longer than the notice and is lost at 25 with 25 tokens.
    """
    rows = [(0, 10, 10, 0), (0, 10, 100, 0), (0, 10, 40, 0), (0.006, 10, 5, 0)]
    faults = (Fault(SPOT, 5 * MS, replica=0, notice=20 * MS),)
    sim, record = run(make(rows), design(whole(count=2), faults=faults))
    assert record.requests.replica.tolist() == [0, 1, 1, 1]
    assert sim.fleet_record.lost_requests == 1
    assert ms(record, "first_token") == [1, 1, 1, 7]
    assert ms(record, "finish") == [10, 100, 25 + 16, 11]
    assert [one for one in events(sim) if one[0] > 0] == [
        (5, 0, "spot notice"),
        (5, 0, "draining"),
        (25, 0, "spot"),
    ]


def test_a_spot_replica_comes_back_after_its_cold_start():
    faults = (Fault(SPOT, 5 * MS, replica=0, notice=2 * MS, duration=3 * MS),)
    sim, record = run(make([(0, 10, 10, 0)]), design(whole(start_time=50 * MS), faults=faults))
    assert events(sim)[-2:] == [(10, 1, "asked for"), (60, 1, "up")]
    assert ms(record, "finish") == [63 + 1]  # six tokens were out at 7, less the step that ended


def test_a_slow_replica_takes_a_fraction_longer_from_its_next_step_on():
    """Steps at 1, 2, 3 ms; from 3 on they take 1.5 ms: 4.5, 6, 7.5, 9, 10.5; from 10.5 on 1."""
    faults = (Fault(SLOW, 2 * MS + 1, replica=0, duration=7 * MS, factor=1.5),)
    _, record = run(make([(0, 10, 10, 0)]), design(whole(), faults=faults))
    assert ms(record, "finish") == [12.5]


def test_two_slow_spells_multiply_and_end_one_by_one():
    """1 | 2 x 1.5 = 3 ms: 4, 7 | at 5 the first is over, from 7 on 1.5: 8.5, 10, 11.5 | 12.5."""
    faults = (
        Fault(SLOW, MS // 2, replica=0, duration=4 * MS + MS // 2, factor=2.0),
        Fault(SLOW, MS // 2, replica=0, duration=10 * MS, factor=1.5),
    )
    _, record = run(make([(0, 10, 7, 0)]), design(whole(), faults=faults))
    assert ms(record, "finish") == [12.5]


def test_a_partition_stops_transfers_and_they_go_on_where_they_stood():
    """100 tokens of 100 kB at 1 GB/s take 10 ms from 1 on; cut from 4 to 24, they end at 31."""
    groups = (whole("p", role="prefill"), whole("d", role="decode"))
    faults = (Fault(CUT, 4 * MS, group="d", other="p", duration=20 * MS),)
    link = Link(bytes_per_second=1e9)
    sim, record = run(make([(0, 100, 3, 0)]), design(*groups, default_link=link, faults=faults))
    (move,) = record.fleet.moves
    assert (move.began / MS, move.ended / MS, move.bytes) == (1, 31, 10_000_000)
    assert ms(record, "finish") == [33]
    assert events(sim)[-2:] == [(4, -1, "d and p parted"), (24, -1, "d and p joined again")]


def test_a_partition_for_good_ends_the_run_with_a_reason():
    groups = (whole("p", role="prefill"), whole("d", role="decode"))
    faults = (Fault(CUT, 0, group="d", other="p"),)
    _, record = run(make([(0, 100, 3, 0)]), design(*groups, faults=faults))
    assert record.reasons == (NO_REPLICA,)


def test_a_fleet_that_is_empty_for_ever_ends_with_a_reason(monkeypatch):
    """Even while stale reports and a placer go on asking."""
    monkeypatch.setattr(loop, "IDLE_RINGS_MAX", 50)
    faults = tuple(Fault(CRASH, 3 * MS, replica=one) for one in range(2))
    with registered():
        fleet = design(
            whole(count=2),
            faults=faults,
            report_period=5 * MS,
            report_age=5 * MS,
            place=("noise", PlaceConfig(7 * MS)),
        )
        _, record = run(make([(0, 10, 10, 0), (0.001, 10, 10, 0), (1, 10, 10, 0)]), fleet)
    assert record.requests.outcome.tolist() == [1, 1, 1]
    assert record.reasons == (NO_REPLICA,)


def test_a_long_run_of_steps_is_not_taken_for_a_standstill(monkeypatch):
    monkeypatch.setattr(loop, "IDLE_RINGS_MAX", 5)
    with registered():
        fleet = design(whole(), place=("noise", PlaceConfig(7 * MS)))
        _, record = run(make([(0, 10, 1000, 0)]), fleet)
    assert ms(record, "finish") == [1000]


def test_a_request_that_fits_in_no_replica_is_shed_with_a_reason():
    _, record = run(make([(0, 2500, 5, 0), (0, 10, 5, 0)]), design(whole()))
    assert record.requests.outcome.tolist() == [1, 0]
    assert record.reasons == ("prompt longer than max_model_len",)


def test_kv_that_fills_the_whole_decode_replica_is_still_fetched():
    """Capacity 40 tokens: a prompt of 38 takes all 10 blocks of 4, and leaves room for its end."""
    limits = design(whole()).groups[0].limits
    small = type(limits)(
        num_gpu_blocks=10, block_size=4, max_num_seqs=2, max_num_batched_tokens=64, max_model_len=40
    )
    groups = (whole("p", role="prefill", limits=small), whole("d", role="decode", limits=small))
    _, record = run(make([(0, 38, 2, 0), (0, 3, 5, 0)]), design(*groups))
    assert record.requests.outcome.tolist() == [0, 0]


def test_spot_logs_become_faults():
    changes = [(0.0, 3), (100.0, -2), (130.0, 1), (200.0, -1), (260.0, 2), (300.0, 4)]
    found = spot_faults(changes, group="spot", notice_seconds=30)
    times = [(f.time / SECOND, f.notice / SECOND, f.duration / SECOND) for f in found]
    assert times == [(70, 30, 30), (70, 30, 160), (170, 30, 60)]
    assert {(f.kind, f.group, f.replica) for f in found} == {(SPOT, "spot", -1)}
    late = spot_faults(changes, notice_seconds=30, start_seconds=90, speed=2)
    assert [(f.time / SECOND, f.notice / SECOND) for f in late] == [(0, 5), (0, 5), (25, 30)]
    assert spot_faults([(5.0, -1)])[0].duration == NEVER


def test_bundled_spot_logs_run(tmp_path):
    changes = bundled_spot_log("aws_g4dn")
    found = spot_faults(changes, start_seconds=1440, speed=3600, notice_seconds=0.05)
    assert len(found) == 42 == sum(-n for t, n in changes if n < 0 and t >= 1440)
    fleet = design(whole(count=8, start_time=100 * MS), faults=found, route="least_load")
    _, record = run(make([(i * 0.02, 20, 20, 0) for i in range(250)]), fleet)
    assert sum(one.what == "spot" for one in record.fleet.events) > 20
    assert (record.requests.outcome == 0).sum() > 200
    with pytest.raises(UserError, match="aws_g5"):
        bundled_spot_log("aws_g5")
    alive = tmp_path / "alive.csv"
    alive.write_text("trace,t_s,nodes_alive\nx,0.0,5\nx,10.0,3\nx,20.0,4\n")
    assert read_spot_log(alive, "x") == [(10.0, -2), (20.0, 1)]
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="t_s"):
        read_spot_log(tmp_path / "bad.csv", "x")


@pytest.mark.parametrize("factor", [0.5, 1.3, 2.0, 7.77])
def test_fractional_factors_keep_sums_exact(factor):
    base = Fitted(
        Coefficients(fixed=0.0041, prefill_token=2.3e-5, decode=3.1e-5, context_token=4e-8)
    )
    made = slowed(base, factor)
    assert isinstance(made, Scaled)
    generator = np.random.default_rng(1)
    for _ in range(50):
        decodes, context = int(generator.integers(1, 64)), int(generator.integers(1, 90_000))
        steps = int(generator.integers(1, 300))
        total = made.run(decodes, context, steps)
        singles = (made.step(0, 0, 0, 0, decodes, context + i * decodes) for i in range(steps))
        assert total == sum(singles)
        assert made.steps_until(decodes, context, total) == steps
        assert made.steps_until(decodes, context, total + 1) == steps + 1
        assert total == pytest.approx(factor * base.run(decodes, context, steps), rel=1e-4)
    assert made.step(100, 5050, 0, 1, 3, 50) == pytest.approx(
        factor * base.step(100, 5050, 0, 1, 3, 50), rel=1e-6
    )


def test_any_other_step_time_takes_the_next_whole_factor():
    class Other:
        step, run, steps_until = COST.step, COST.run, COST.steps_until

    made = slowed(Other(), 2.5)
    assert isinstance(made, Slowed)
    assert made.run(3, 100, 7) == 3 * COST.run(3, 100, 7)
    assert slowed(COST, 1.0) is COST
