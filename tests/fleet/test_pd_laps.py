"""LAPS across replicas: sides by prompt length, and one replica at a time that changes sides."""

import numpy as np
import pytest
from fleet_runs import columns, design, group, policy, run, split

from sojourn.cost import Coefficients, Fitted
from sojourn.decide.clock import SECOND
from sojourn.decide.limits import EngineLimits
from sojourn.errors import UserError
from sojourn.fleet.design import CRASH, Fault
from sojourn.policies.route.laps import Config
from tests.sim.sim_workloads import make

LIMITS = EngineLimits(
    num_gpu_blocks=4000, max_num_seqs=16, max_num_batched_tokens=512, max_model_len=8000
)
COST = Fitted(Coefficients(fixed=0.005, prefill_token=1e-4, decode=1e-4, context_token=1e-8))


def fleet(count=4, route=None, **config):
    given = {"limits": LIMITS, "step_time": COST}
    return design(*split(count, 2, **given), route=route or policy("route", "laps", **config))


def mixture(count, short_share, gap, seed=0):
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.exponential(gap, count)).tolist()
    rows = []
    for time in times:
        short = rng.random() < short_share
        prompt = rng.integers(20, 257) if short else rng.integers(2000, 6000)
        rows.append((time, int(prompt), 4, 0))
    return make(rows)


def sides(sim):
    """Return the replicas of the short side."""
    return {index for index, short in sim.router.short.items() if short}


def served_by(record, sim):
    """Return the prefill replica of each request."""
    return {one.request: one.source for one in record.fleet.moves}


def test_boundary_belongs_to_the_short_side():
    rows = [(0.0, 256, 2, 0), (0.0, 257, 2, 0), (0.0, 10, 2, 0), (0.0, 3000, 2, 0)]
    sim, record = run(make(rows), fleet())
    where = served_by(record, sim)
    assert sides(sim) == {0, 2}
    assert {where[0], where[2]} == {0, 2}
    assert {where[1], where[3]} == {1, 3}


def test_pressure_moves_one_replica_and_cools_down():
    sim, _ = run(mixture(600, 0.2, 0.08), fleet(cool_down_seconds=5.0))
    assert len(sides(sim)) == 1  # long prompts are the load: they took one, and left the last
    sim, _ = run(mixture(600, 0.2, 0.08), fleet(cool_down_seconds=1000.0))
    assert len(sides(sim)) == 2


def test_each_side_keeps_its_least():
    sim, _ = run(mixture(600, 0.2, 0.08), fleet(least=2))
    assert len(sides(sim)) == 2


def test_a_side_without_replicas_is_served_by_the_other():
    _, record = run(mixture(50, 0.5, 0.1), fleet(count=1))
    assert len(record.fleet.moves) == 50


def test_short_prompts_no_longer_wait_for_long_ones():
    workload = mixture(800, 0.7, 0.06)
    short = np.array(workload.prompt) <= 256
    waits = {}
    for name in ("laps", "least_load"):
        _, record = run(workload, fleet(route=policy("route", name)), trace_states=False)
        ttft = (record.requests.first_token - record.requests.arrival) / SECOND
        waits[name] = np.quantile(ttft[short], 0.9), np.quantile(ttft[~short], 0.9)
    assert waits["laps"][0] < 0.5 * waits["least_load"][0]
    assert waits["laps"][1] > waits["least_load"][1]  # and long ones pay for it


def test_no_gain_where_replicas_also_decode():
    workload = mixture(500, 0.7, 0.06)
    workload.output = [300] * len(workload)
    short = np.array(workload.prompt) <= 256
    engine = {"limits": LIMITS, "step_time": COST}
    ends = {}
    for name in ("laps", "least_load"):
        made = design(group(count=6, **engine), route=policy("route", name))
        _, record = run(workload, made, trace_states=False)
        ended = (record.requests.finish - record.requests.arrival) / SECOND
        ends[name] = np.mean(ended[short])
    assert ends["laps"] > 0.9 * ends["least_load"]


def test_jumping_equals_stepping():
    faults = (Fault(CRASH, 2 * SECOND, replica=1, duration=SECOND),)
    made = design(
        *split(3, 2, limits=LIMITS, step_time=COST), route=policy("route", "laps"), faults=faults
    )
    jumped, stepped = (
        run(mixture(150, 0.6, 0.05), made, max_horizon=most)[1] for most in (None, 1)
    )
    assert columns(jumped) == columns(stepped)


@pytest.mark.parametrize("wrong", [{"least": 0}, {"quantile": 1.5}, {"margin": -1.0}])
def test_values_out_of_range_are_refused(wrong):
    with pytest.raises(UserError, match="it must be"):
        Config(**wrong)
