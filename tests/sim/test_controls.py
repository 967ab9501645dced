"""Bounds and controls: the reference is not beaten where it is a bound; the bad one looks bad."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sojourn.catalog import load_gpu, load_model
from sojourn.cost import Coefficients, Fitted, Roofline, kv_blocks
from sojourn.decide.clock import SECOND
from sojourn.decide.limits import EngineLimits
from sojourn.recipes import load_recipe, recipe_names
from sojourn.report.metrics import measure
from sojourn.sim.loop import Setup, Simulation
from sojourn.sim.workload import Workload, make_workload
from sojourn.steplog.record import SloClass
from sojourn.trace import read_trace

SEATS = 64
COMPARED = ("vllm", "slo-edf", "vtc", "srpt-clairvoyant", "worst")
CLASSES = (SloClass("chat", 1.0, ttft_seconds=2.0, tpot_seconds=0.1),)


def small_engine(recipe):
    """Return an 8B model on the smallest GPU: its memory holds a few dozen of the requests."""
    model, gpu = load_model("llama-3.1-8b"), load_gpu("l4")
    blocks = kv_blocks(model, gpu, max_num_seqs=SEATS)
    return Setup(
        recipe=load_recipe(recipe),
        limits=EngineLimits(
            num_gpu_blocks=blocks, max_num_seqs=SEATS, max_model_len=min(16 * blocks, 32_768)
        ),
        step_time=Roofline(model, gpu),
    )


@pytest.fixture(scope="module")
def workload():
    return make_workload(read_trace("sample"), CLASSES)


@pytest.fixture(scope="module")
def capacity_scale(workload):
    """Return the rate scale that stock's engine can just digest: its pace with all queued."""
    record = Simulation(workload, small_engine("vllm"), rate_scale=1000.0).run()
    finish = np.sort(record.requests.finish)
    most = int(0.9 * len(finish))
    return most / finish[most] * workload.span / (len(workload) - 1)


@pytest.fixture(scope="module", params=[1.1, 1.3], ids=lambda load: f"load {load}")
def rows(request, workload, capacity_scale):
    """Return the numbers of each recipe at a load."""
    scale = request.param * capacity_scale
    return {
        name: measure(Simulation(workload, small_engine(name), scale).run()) for name in COMPARED
    }


def test_the_load_is_above_capacity(rows):
    assert rows["vllm"].queue_seconds.mean > 10
    assert rows["vllm"].finished == rows["worst"].finished


def test_the_bad_control_has_the_highest_mean_time_by_far(rows):
    worst = rows["worst"].e2e_seconds.mean
    assert worst > 1.3 * max(rows[name].e2e_seconds.mean for name in COMPARED if name != "worst")


def test_the_bad_control_meets_fewer_objectives_than_deadlines_first(rows):
    # Not fewer than first come first served: above capacity that order lets everybody wait, and
    # nearly everybody miss, while even a bad choice serves some in time.
    assert rows["worst"].goodput_rps < 0.7 * rows["slo-edf"].goodput_rps


def test_the_bad_control_does_not_look_bad_for_throwing_work_away(rows):
    assert rows["worst"].recomputed_tokens < rows["vllm"].recomputed_tokens * 1.2


UNIT = Fitted(Coefficients(fixed=1.0))
"""A step takes a second whatever it computes: output tokens are service times."""


@st.composite
def arrivals(draw):
    count = draw(st.integers(2, 12))
    times = sorted(draw(st.floats(0, 20)) for _ in range(count))
    return [
        (
            round(time * SECOND),
            draw(st.integers(1, 9)),
            draw(st.integers(1, 12)),
            draw(st.integers(0, 2)),
        )
        for time in times
    ]


def total_time(rows, recipe, host="vllm"):
    """Return the sum of the times from arrival to last token, on one seat with room for all."""
    count = len(rows)
    workload = Workload(
        name="one seat",
        arrival=[row[0] for row in rows],
        prompt=[row[1] for row in rows],
        output=[row[2] for row in rows],
        tenant=[row[3] for row in rows],
        slo_class=[0] * count,
        program=[-1] * count,
        turn=[0] * count,
        gap=[0] * count,
        following=[-1] * count,
        prefix=[],
        tenants=("a", "b", "c"),
        classes=(SloClass("chat", 1.0, ttft_seconds=8.0),),
        block_tokens=0,
        span=SECOND,
    )
    setup = Setup(
        recipe=load_recipe(recipe, host),
        limits=EngineLimits(num_gpu_blocks=1000, max_num_seqs=1, max_model_len=100),
        step_time=UNIT,
    )
    requests = Simulation(workload, setup).run().requests
    return int((requests.finish - requests.arrival).sum())


@settings(max_examples=40, deadline=None)
@given(rows=arrivals())
def test_on_one_sequential_seat_nothing_beats_the_shortest_remaining_time(rows):
    # Schrage 1968: every step is a unit of work and seats change hands between steps only.
    bound = total_time(rows, "srpt-clairvoyant")
    for name in recipe_names():
        assert total_time(rows, name) >= bound, name
    assert total_time(rows, "fastserve", "ideal") >= bound
