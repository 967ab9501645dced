"""Capacity of fleets: what replicas add, and what bounds it where the phases are apart."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sojourn.cost import Coefficients, Fitted
from sojourn.decide.limits import EngineLimits
from sojourn.recipes import load_recipe
from sojourn.sim.capacity import capacity
from sojourn.sim.engines import Fleet, Hardware
from sojourn.sim.workload import make_workload
from sojourn.steplog.record import SloClass
from sojourn.trace import GenerateSpec, TenantSpec, generate_trace
from sojourn.trace.lengths import Constant

STEP = Fitted(Coefficients(fixed=0.01))
"""Every step takes 10 ms, whatever it does."""
ANY = Hardware(kv_token_bytes=1)
LIMITS = EngineLimits(num_gpu_blocks=1000, max_num_seqs=1, max_model_len=4000)


@pytest.fixture(scope="module")
def workload():
    spec = GenerateSpec(
        tenants=(TenantSpec("a", 1.0, prompt=Constant(8), output=Constant(9)),), requests=200
    )
    return make_workload(generate_trace(spec), (SloClass("one"),), seed=0)


def found(workload, name, replicas, hardware=ANY):
    fleet = Fleet(LIMITS, STEP, replicas, hardware=hardware)
    return capacity(workload, fleet.built(load_recipe(name))).requests_per_second


def test_replicas_add_up_whatever_the_router(workload):
    # Nine steps of 10 ms each: the first token comes with the prefill.
    for name in ("vllm", "join-shortest-tokens", "on-demand"):
        assert found(workload, name, 2) == pytest.approx(2 / 0.09, rel=0.05), name


def test_the_slower_phase_bounds_a_split_fleet(workload):
    # One replica computes 100 prompts a second; the other needs eight steps for an answer, more
    # than which pile up between the two, with no request waiting for its first seat.
    assert found(workload, "distserve", 2) == pytest.approx(1 / 0.08, rel=0.15)


def test_a_slow_link_bounds_a_split_fleet(workload):
    link = replace(Hardware().link, bytes_per_second=40.0)
    # Eight tokens of one byte each at 40 bytes a second: five hand-overs a second.
    slow = found(workload, "distserve", 2, Hardware(kv_token_bytes=1, link=link))
    assert slow == pytest.approx(5.0, rel=0.15)
