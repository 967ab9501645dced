"""What old load reports do: herding, and who is immune to it."""

import random
from functools import cache

import numpy as np
from fleet_runs import design, group, policy

from sojourn.decide.clock import SECOND, from_seconds
from sojourn.decide.limits import EngineLimits
from sojourn.sim.fleet.loop import FleetSimulation
from tests.sim.sim_workloads import make

LIMITS = EngineLimits(
    num_gpu_blocks=2000, max_num_seqs=16, max_num_batched_tokens=512, max_model_len=8000
)


@cache
def workload():
    draw, time, rows = random.Random(1), 0.0, []
    for _ in range(1500):
        time += draw.expovariate(200)
        prompt = min(4000, int(draw.lognormvariate(5.5, 1)) + 1)
        rows.append((time, prompt, min(600, int(draw.expovariate(0.01)) + 1), 0))
    return make(rows)


@cache
def tail(name, age_seconds, own=None):
    """Return the p99 of TTFT on 8 replicas with reports each 0.1 s; None for current loads."""
    named = {"least_load": "counts_own", "power_of_two": "own_counts"}
    parameters = {} if own is None else {named[name]: own}
    reports = {}
    if age_seconds is not None:
        reports = {"report_period": SECOND // 10, "report_age": from_seconds(age_seconds)}
    route = policy("route", name, **parameters)
    sim = FleetSimulation(workload(), design(group(count=8, limits=LIMITS), route=route, **reports))
    rows = sim.run().requests
    return np.percentile((rows.first_token - rows.arrival) / SECOND, 99)


def test_least_load_herds_as_reports_age():
    current, fresh, old = (tail("least_load", age) for age in (None, 0.0, 1.0))
    assert fresh > 2 * current
    assert old > 3 * fresh


def test_least_load_on_old_reports_is_worse_than_no_information():
    assert tail("least_load", None) < tail("random_choice", None)
    assert tail("least_load", 1.0) > 3 * tail("random_choice", 1.0)


def test_two_choices_on_old_reports_herd_far_less():
    assert tail("power_of_two", 1.0) < tail("least_load", 1.0) / 3
    assert tail("power_of_two", 1.0) > tail("power_of_two", None)


def test_counting_what_was_sent_breaks_the_herd():
    assert tail("least_load", 0.0, True) < tail("least_load", 0.0) / 2
    assert tail("least_load", 1.0, True) < tail("least_load", 1.0) / 3


def test_routers_that_only_count_for_themselves_do_not_notice():
    for name in ("stochastic_balance", "join_shortest_tokens"):
        assert tail(name, 3.0) == tail(name, None)
    assert tail("power_of_two", 3.0, True) == tail("power_of_two", None, True)
