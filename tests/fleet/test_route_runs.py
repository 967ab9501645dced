"""Every router in small hostile fleets: invariants, jumping, faults, one seed the same bytes."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fleet_runs import columns, design, group, policy, run, split
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sojourn.decide.clock import SECOND
from sojourn.decide.limits import EngineLimits
from sojourn.fleet.design import CRASH, Fault
from sojourn.policies.tables import SLOTS
from tests.sim.sim_workloads import make

ROUTERS = (
    "join_shortest_tokens",
    "least_connections",
    "least_load",
    "mooncake_conductor",
    "most_loaded",
    "on_demand",
    "power_of_two",
    "preble_e2",
    "prefix_aware",
    "random_choice",
    "session_sticky",
    "sticky_until_saturated",
    "stochastic_balance",
    "vllm_data_parallel",
)
EAGER = {
    "least_load": {"counts_own": True},
    "mooncake_conductor": {"fetches": True, "reject": True, "candidates": 2},
    "on_demand": {"tries": 2},
    "power_of_two": {"own_counts": True},
    "preble_e2": {"rebalance_after": 1, "window_seconds": 0.2, "output_tokens": 0},
    "prefix_aware": {"balance_requests": 1, "trim_seconds": 0.05, "most_characters": 200},
    "session_sticky": {"most_sessions": 2},
    "sticky_until_saturated": {
        "most_ttft_penalty_seconds": 0.01,
        "exploration_probability": 0.3,
        "candidates": 2,
    },
    "stochastic_balance": {"budget": "tokens", "budget_scale": 0.2, "output_tokens": 20},
}
"""Parameters with which small runs reach all that a router does."""


@st.composite
def workloads(draw):
    """Draw arrivals in bursts, sessions, and prompts that share prefixes."""
    rows, prefix, time = [], [], 0.0
    for row in range(draw(st.integers(1, 30))):
        time += draw(st.sampled_from([0.0, 0.0, 0.003, 0.05, 0.2]))
        rows.append((time, draw(st.integers(1, 150)), draw(st.integers(1, 60)), 0))
        full, shared = rows[-1][1] // 16, draw(st.integers(0, 8))
        family = 100 * draw(st.integers(0, 2))
        own = 1000 * (row + 1)
        prefix.append(tuple(family + i if i < shared else own + i for i in range(full)))
    follows = [row + 1 if draw(st.booleans()) else -1 for row in range(len(rows) - 1)] + [-1]
    with_ids = draw(st.booleans())
    return make(
        rows,
        block_tokens=16 if with_ids else 0,
        prefix=prefix if with_ids else (),
        following=follows,
    )


@st.composite
def fleets(draw, name, workload):
    """Draw replicas, reports and faults for a router."""
    limits = EngineLimits(
        num_gpu_blocks=draw(st.sampled_from([30, 200])),
        max_num_seqs=draw(st.sampled_from([1, 3, 8])),
        max_num_batched_tokens=draw(st.sampled_from([16, 256])),
        max_model_len=240,
        block_tokens=workload.block_tokens,
    )
    groups = draw(st.sampled_from([(group(count=3, limits=limits),), split(2, 1, limits=limits)]))
    stale = draw(st.booleans())
    crash = Fault(CRASH, draw(st.integers(1, SECOND // 5)), replica=0, duration=SECOND // 10)
    return design(
        *groups,
        route=policy("route", name, **(EAGER.get(name, {}) if draw(st.booleans()) else {})),
        report_period=SECOND // 50 if stale else 0,
        report_age=draw(st.sampled_from([0, SECOND // 20])) if stale else 0,
        faults=(crash,) if draw(st.booleans()) else (),
    )


@pytest.mark.parametrize("name", ROUTERS)
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_request_ends_once_and_jumping_equals_stepping(name, data):
    workload = data.draw(workloads())
    fleet = data.draw(fleets(name, workload))
    jumped, stepped = (run(workload, fleet, max_horizon=most) for most in (None, 1))
    assert columns(jumped[1]) == columns(stepped[1])


def busy(count=150, gap=0.01):
    """Return prompts of which half is shared with a quarter of the others."""
    rows = [(i * gap, 100 + (i * 37) % 200, 20 + (i * 13) % 50, 0) for i in range(count)]
    prefix = []
    for row, (_, prompt, _, _) in enumerate(rows):
        full = prompt // 16
        own = range(1000 * (row + 1), 1000 * (row + 1) + full - full // 2)
        prefix.append((*range(row % 4 * 100, row % 4 * 100 + full // 2), *own))
    return make(rows, block_tokens=16, prefix=prefix)


def many(name, count=6, **parameters):
    limits = EngineLimits(
        num_gpu_blocks=200,
        max_num_seqs=8,
        max_num_batched_tokens=256,
        max_model_len=2000,
        block_tokens=16,
    )
    return design(group(count=count, limits=limits), route=policy("route", name, **parameters))


def digests():
    """Return a digest of a run under each router."""
    found = []
    for name in ROUTERS:
        _, record = run(busy(60), many(name, **EAGER.get(name, {})))
        found.append(f"{name} {hashlib.sha256(repr(columns(record)).encode()).hexdigest()}")
    return found


def test_same_bytes_under_different_hash_seeds():
    code = "import test_route_runs as t; print(*t.digests(), sep='\\n')"
    here = Path(__file__).resolve().parent
    outputs = []
    for seed in ("0", "4242"):
        env = {
            **os.environ,
            "PYTHONHASHSEED": seed,
            "PYTHONPATH": f"{here}{os.pathsep}{here.parents[1]}",
        }
        done = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
        )
        outputs.append(done.stdout)
    assert outputs[0] == outputs[1] == "\n".join(digests()) + "\n"


def test_on_demand_keeps_no_queue_at_replicas_and_serves_whatever_waits_at_the_router():
    work = busy(gap=0.001)
    sim, record = run(work, many("on_demand", count=2))
    assert (record.requests.outcome[1::2] == 0).all(), "only every other has a TTFT deadline"
    assert sim.fleet_record.routings > len(work), "nobody waited at the router"


def test_on_demand_rejects_what_is_too_late_with_a_counted_reason():
    _, record = run(busy(gap=0.0005), many("on_demand", count=1))
    shed = record.requests.outcome == 1
    assert shed.any()
    reasons = {record.reasons[at] for at in record.requests.reason[shed]}
    assert reasons == {"its first token was due while no replica had room"}


def test_conductor_rejects_who_would_be_late():
    _, record = run(busy(gap=0.0005), many("mooncake_conductor", count=1, reject=True))
    shed = record.requests.outcome == 1
    assert {record.reasons[at] for at in record.requests.reason[shed]} == {
        "its first token would be late by the estimate"
    }


def test_prefix_routers_find_more_in_caches_than_others():
    cached = {}
    for name in ("random_choice", "mooncake_conductor", "sticky_until_saturated"):
        _, record = run(busy(gap=0.03), many(name))
        cached[name] = record.requests.cached_tokens.clip(0).sum()
    assert cached["mooncake_conductor"] > 1.2 * cached["random_choice"]
    assert cached["sticky_until_saturated"] > 1.2 * cached["random_choice"]


def test_the_bad_control_looks_bad():
    waits = {}
    for name in ("most_loaded", "random_choice", "least_load"):
        _, record = run(busy(gap=0.004), many(name))
        waits[name] = (record.requests.first_token - record.requests.arrival).mean()
    assert waits["most_loaded"] > 3 * waits["random_choice"] > 3 * waits["least_load"]


def test_routers_are_all_tried_here():
    elsewhere = {"round_robin", "laps", "pool_forward", "early_rejection", "infaas"}
    elsewhere |= {"llumnix", "llumnix_code"}
    assert set(SLOTS["route"]) - set(ROUTERS) <= elsewhere
