"""Hand-over, live migration and loss in small fleets, worked by hand or against one another."""

import pytest
from fleet_runs import columns, design, group, run, split

from sojourn.decide.clock import SECOND
from sojourn.fleet.design import CRASH, Fault, Link
from tests.sim.sim_workloads import make


def steady(count=40, gap=0.01, prompt=100, output=60):
    return make([(i * gap, prompt + i, output + i % 7, 0) for i in range(count)])


def test_requests_are_spread_in_turn():
    _, record = run(steady(), design(group(count=4)))
    assert record.requests.replica[:8].tolist() == [0, 1, 2, 3, 0, 1, 2, 3]


@pytest.mark.parametrize("lost", ["resume", "retry", "fail"])
def test_a_crash_ends_every_request_exactly_once(lost):
    faults = (Fault(CRASH, SECOND // 5, replica=0, duration=SECOND // 10),)
    sim, record = run(steady(), design(group(count=2), faults=faults, lost=lost))
    assert sim.fleet_record.lost_requests > 0
    shed = (record.requests.outcome == 1).sum()
    assert shed == (sim.fleet_record.lost_requests if lost == "fail" else 0)
    assert (sim.fleet_record.lost_tokens > 0) == (lost == "retry")


def test_prompts_here_and_decodes_there():
    sim, record = run(steady(), design(*split()))
    assert len(sim.moves.past) == 40
    assert {one.outcome for one in sim.moves.past} == {"done"}
    assert set(record.requests.replica.tolist()) == {1}
    assert record.requests.recomputed_tokens.sum() == 0


@pytest.mark.parametrize(
    "fleet",
    [
        design(group(count=3), route="least_load"),
        design(*split(2, 1)),
        design(
            *split(1, 2),
            default_link=Link(bytes_per_second=1e8, latency=SECOND // 1000),
            faults=(Fault(CRASH, SECOND // 4, replica=1, duration=SECOND // 10),),
        ),
        design(
            group(count=2),
            report_period=SECOND // 50,
            report_age=SECOND // 20,
            route="least_load",
            faults=(Fault("slow", SECOND // 10, replica=0, duration=SECOND // 5, factor=3.0),),
        ),
    ],
    ids=["mixed", "split", "split-crash", "stale-slow"],
)
def test_jumping_equals_stepping(fleet):
    jumped, stepped = (run(steady(), fleet, max_horizon=most) for most in (None, 1))
    assert columns(jumped[1]) == columns(stepped[1])
