"""P/D-Serve: pools by scenario, no queue at prefill, ratio control; contiguous transfer."""

from itertools import pairwise

import numpy as np
import pytest
from fleet_runs import columns, design, group, policy, run, split

from sojourn.decide.clock import SECOND
from sojourn.errors import UserError
from sojourn.fleet.design import CRASH, Fault, Link
from sojourn.policies.route.pool_forward import TOO_LATE
from sojourn.sim.fleet.loop import FleetSimulation
from sojourn.sim.fleet.ratio import PhaseTimes
from sojourn.steplog.record import SloClass
from tests.sim.sim_workloads import make


def pools(prefills=1, decodes=1):
    return (
        group("chat-prefill", prefills, role="prefill"),
        group("chat-decode", decodes, role="decode"),
        group("code-prefill", prefills, role="prefill"),
        group("code-decode", decodes, role="decode"),
    )


def poisson(count, gap, prompt, output, seed=0, **more):
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.exponential(gap, count)).tolist()
    return make([(time, prompt, output, i % 2) for i, time in enumerate(times)], **more)


def still(**more):
    """Return pools without ratio control."""
    return policy("place", "pd_serve", control=False, **more)


def test_each_scenario_stays_in_its_pool():
    made = design(*pools(2, 2), route="pool_forward", place=still())
    sim, record = run(poisson(60, 0.01, 100, 20), made)
    names = {unit.index: unit.kind.partition("-")[0] for unit in sim.units}
    rows = record.requests
    for move in record.fleet.moves:
        mine = ("chat", "code")[int(rows.slo_class[move.request])]
        assert names[move.source] == names[move.target] == mine
    tenants = policy("route", "pool_forward", scenario="tenant")
    made = design(*pools(), route=tenants, place=still(scenario="tenant"))
    sim, record = run(poisson(40, 0.01, 100, 20), made)
    for move in record.fleet.moves:
        assert names[move.source * 2] == ("chat", "code")[int(record.requests.tenant[move.request])]


def test_prefill_has_no_queue_of_its_own():
    deepest = 0

    def look(sim):
        nonlocal deepest
        deepest = max(deepest, *(len(u.replica.machine.queue) for u in sim.units[:1]))

    for on_demand in (True, False):
        route = policy("route", "pool_forward", on_demand=on_demand)
        sim = FleetSimulation(
            poisson(80, 0.002, 250, 10, classes=(SloClass("all"),)),
            design(*split(), route=route, place=still()),
        )
        deepest = 0
        sim.watch = look
        sim.run()
        assert (deepest <= 2) is on_demand  # what the next step's 256 tokens begin with


def test_what_waits_too_long_at_the_router_is_refused():
    classes = (SloClass("all", 1.0, 0.05),)
    made = design(*split(), route="pool_forward", place=still())
    _, record = run(poisson(100, 0.002, 250, 10, classes=classes), made)
    assert TOO_LATE in record.reasons
    begun = record.requests.reason < 0
    waited = record.requests.admitted[begun] - record.requests.arrival[begun]
    assert waited.max() <= 0.08 * SECOND  # nobody was sent after its deadline; a step or two later


def test_a_full_pool_does_not_hold_up_another():
    # The first class floods its pool; the second sends one small request in the middle of it.
    rows = [(0.001 * i, 250, 10, 0) for i in range(60)] + [(0.03, 10, 2, 1)]
    workload = make(rows)
    workload.slo_class = [0] * 60 + [1]
    _, record = run(workload, design(*pools(), route="pool_forward", place=still()))
    ttft = (record.requests.first_token - record.requests.arrival) / SECOND
    assert ttft[60] < 0.02
    assert ttft[:60].max() > 0.2


def test_formula_of_the_ratio():
    # Prefill: 4 requests in 1 s; decode: 32 requests in 16 s, so 2 a second: one to two.
    times = PhaseTimes(4, 1.0, 32, 16.0)
    assert times.best(6) == (2, 4)
    assert times.throughput(2, 4) == pytest.approx(8 / 6)
    assert times.throughput(3, 3) == pytest.approx(6 / 6)
    assert times.best(3) == (1, 2)
    with pytest.raises(UserError, match="at least 2"):
        times.best(1)
    with pytest.raises(UserError, match="prefill_seconds is 0"):
        PhaseTimes(4, 0, 32, 16.0)


def shifting(seed=0, gap=0.02):
    """Little load at first, then ten times longer prompts at shorter gaps."""
    rng = np.random.default_rng(seed)
    rows, time = [], 0.0
    for i in range(700):
        time += rng.exponential(0.05 if i < 200 else gap)
        rows.append((time, 60 if i < 200 else 600, 30 if i < 200 else 10, 0))
    return make(rows, classes=(SloClass("all"),))


def roles(record):
    return [one.what for one in record.fleet.events if one.what.startswith("role")]


def test_prefill_gets_a_replica_when_its_share_rises():
    config = {"period_seconds": 1.0, "cool_down_seconds": 2.0}
    ends = {}
    for control in (True, False):
        place = policy("place", "pd_serve", control=control, **config)
        made = design(*split(1, 4), route="least_load", place=place)
        _, record = run(shifting(), made)
        ends[control] = record.requests.finish.max() / SECOND
        assert (roles(record)[:1] == ["role prefill"]) is control
    assert ends[True] < ends[False]


def test_decode_gets_a_replica_when_prefills_share_falls():
    rng = np.random.default_rng(1)
    rows, time = [], 0.0
    for i in range(500):
        time += rng.exponential(0.04)
        rows.append((time, 40, 20 if i < 100 else 300, 0))
    workload = make(rows, classes=(SloClass("all"),))
    place = policy("place", "pd_serve", period_seconds=1.0, cool_down_seconds=2.0)
    _, record = run(workload, design(*split(4, 1), route="least_load", place=place))
    assert roles(record)[:1] == ["role decode"]


def test_changes_keep_their_distance_and_the_least():
    place = policy("place", "pd_serve", period_seconds=1.0, cool_down_seconds=4.0, least=2)
    made = design(*split(2, 4), route="least_load", place=place)
    sim, record = run(shifting(gap=0.008), made)
    times = [one.time for one in record.fleet.events if one.what.startswith("role")]
    assert times
    assert all(b - a >= 4 * SECOND for a, b in pairwise(times))
    left = [unit.role for unit in sim.units]
    assert min(left.count("prefill"), left.count("decode")) >= 2


def test_contiguous_transfer_is_one_setup():
    # 320 tokens are 20 blocks of 1.6 MB: 32 MB at 10 GB/s take 3.2 ms.
    workload = make([(0.0, 320, 5, 0)])
    taken = {}
    for name, link in {
        "contiguous": Link("rdma", 10e9, setup=SECOND // 10_000),
        "blocks": Link("rdma", 10e9, block_setup=SECOND // 10_000),
    }.items():
        _, record = run(workload, design(*split(), default_link=link))
        (move,) = record.fleet.moves
        taken[name] = (move.ended - move.began) / SECOND
        assert taken[name] == pytest.approx(
            0.0032 + (0.0001 if name == "contiguous" else 20 * 0.0001)
        )
    assert taken["contiguous"] < 0.65 * taken["blocks"]


@pytest.mark.parametrize("route", ["pool_forward", "least_load"])
def test_jumping_equals_stepping_with_roles_and_a_crash(route):
    faults = (Fault(CRASH, 6 * SECOND, replica=1, duration=SECOND),)
    place = policy("place", "pd_serve", period_seconds=1.0, cool_down_seconds=2.0)
    made = design(*split(1, 3), route=route, place=place, faults=faults)
    jumped, stepped = (run(shifting(), made, max_horizon=most)[1] for most in (None, 1))
    assert columns(jumped) == columns(stepped)


def test_unknown_scenario_is_refused():
    with pytest.raises(UserError, match="did you mean 'tenant'"):
        policy("route", "pool_forward", scenario="tenants")
