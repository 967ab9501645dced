"""Whoever is moved at random, nothing is lost, and jumping equals stepping."""

import os
from dataclasses import replace

from fleet_runs import LIMITS, columns, design, group, run
from hypothesis import given, settings
from hypothesis import strategies as st
from moving_placers import Chance, placers_for_tests

from sojourn.decide.clock import SECOND
from sojourn.fleet.design import CRASH, CUT, SLOW, SPOT, Fault, Link
from tests.sim.sim_workloads import COST, MILLISECOND, WHOLE, cases, make, ties

EXAMPLES = int(os.environ.get("MIGRATION_EXAMPLES", "60"))
"""More of them take longer than a test may; try them after a change to the moves."""


@st.composite
def links(draw):
    """Draw links from instant to so slow that requests end before their KV has gone."""
    return Link(
        bytes_per_second=draw(st.sampled_from([1e4, 1e6, 1e12])),
        latency=draw(st.sampled_from([0, MILLISECOND // 3, MILLISECOND])),
        setup=draw(st.sampled_from([0, MILLISECOND])),
        block_setup=draw(st.sampled_from([0, MILLISECOND // 100])),
        total_bytes_per_second=draw(st.sampled_from([0.0, 2e6])),
    )


@st.composite
def fault_lists(draw, count):
    """Draw faults of every kind that leave one replica alone."""
    found = []
    for _ in range(draw(st.integers(0, 3))):
        kind = draw(st.sampled_from([CRASH, SPOT, SLOW, CUT]))
        time = draw(st.integers(1, 400)) * MILLISECOND // 2
        found.append(
            Fault(
                kind,
                time,
                replica=draw(st.integers(1, count - 1)),
                group="replica",
                other="replica",
                duration=draw(st.integers(1, 60)) * MILLISECOND,
                notice=draw(st.sampled_from([0, 5 * MILLISECOND])),
                factor=2.0,
            )
        )
    return tuple(found)


@st.composite
def fleets(draw, limits, cost, recipes=("vllm", "vllm-v0")):
    count = draw(st.integers(2, 4))
    replicas = group(
        count=count,
        recipe=draw(st.sampled_from(recipes)),
        host="ideal",
        limits=limits,
        step_time=cost,
        kv_token_bytes=draw(st.sampled_from([1, 1000])),
        swap_block_seconds=0.0005,
    )
    period = draw(st.sampled_from([1, 3, 10])) * MILLISECOND
    return design(
        replicas,
        route=draw(st.sampled_from(["round_robin", "least_load"])),
        place=("restless", Chance(period, draw(st.sampled_from([1, 4, 8])))),
        default_link=draw(links()),
        most_stages=draw(st.integers(0, 3)),
        last_blocks=draw(st.sampled_from([0, 1, 16])),
        lost=draw(st.sampled_from(["resume", "retry", "fail"])),
        faults=draw(fault_lists(count)),
        seed=draw(st.integers(0, 99)),
    )


def agree(workload, fleet):
    with placers_for_tests():
        jumped, stepped = (run(workload, fleet, max_horizon=most) for most in (None, 1))
    assert columns(jumped[1]) == columns(stepped[1])
    return jumped


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.data())
def test_nothing_is_lost_and_jumping_equals_stepping(data):
    case = data.draw(cases())
    recipes = ("vllm", "vllm-v0", "fastserve", "slo-edf", "vtc")
    agree(case.workload, data.draw(fleets(case.limits, COST, recipes)))


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.data())
def test_the_same_where_everything_happens_at_whole_milliseconds(data):
    case = data.draw(ties())
    agree(case.workload, data.draw(fleets(case.limits, WHOLE)))


def test_every_way_in_which_a_move_ends_is_met():
    """The strategies above do reach all outcomes; here a few fixed fleets must."""
    workload = make([(i * 0.004, 30 + 7 * (i % 9), 20 + 13 * (i % 5), 0) for i in range(120)])
    tight = replace(LIMITS, num_gpu_blocks=24, max_model_len=300)
    met = set()
    for rate in (2e6, 2e8, 1e10):
        fleet = design(
            group(count=3, limits=tight),
            place=("restless", Chance(2 * MILLISECOND, 3)),
            default_link=Link(bytes_per_second=rate),
            last_blocks=1,
            faults=(Fault(CRASH, SECOND // 10, replica=1, duration=SECOND // 10),),
        )
        sim, _ = agree(workload, fleet)
        met |= {one.outcome for one in sim.moves.past}
    assert met == {
        "done",
        "its request ended",
        "its request lost its seat",
        "no room at the target",
        "an end was lost",
    }
