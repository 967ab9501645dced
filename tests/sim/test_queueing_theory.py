"""One seat, first come first served, against queueing theory.

A step takes 1 ms whatever it computes, so a request of n output tokens is n ms of service and the
engine is an M/G/1 queue. Waiting times are compared with the Pollaczek-Khinchine mean for the
discrete service times that are drawn, over independent replications.
"""

from dataclasses import replace

import numpy as np
import pytest

from sojourn.cost import Coefficients, Fitted
from sojourn.decide.clock import SECOND
from sojourn.decide.limits import EngineLimits
from sojourn.recipes import load_recipe
from sojourn.sim.loop import Setup, Simulation
from sojourn.sim.workload import Workload, make_workload
from sojourn.steplog.record import SloClass
from sojourn.trace import read_trace

MS = SECOND // 1000
STEP = Fitted(Coefficients(fixed=1e-3))
MEAN = 50
"""Mean service time in ms."""
REPLICATIONS = 16
REQUESTS = 1500
WARM_UP = 150


def geometric(rng, size):
    """Draw the discrete counterpart of exponential service times."""
    return rng.geometric(1 / MEAN, size)


def constant(rng, size):
    """Return equal service times: M/D/1."""
    del rng
    return np.full(size, MEAN)


def hyperexponential(rng, size):
    """Draw short times mostly, and one in ten six times as long."""
    means = np.where(rng.random(size) < 0.1, 4 * MEAN, MEAN * 2 / 3)
    return rng.geometric(1 / means)


def geometric_square(mean):
    """Return the second moment of a geometric distribution on 1, 2, ..."""
    return (2 - 1 / mean) * mean**2


SERVICES = {
    "exponential": (geometric, 0.7, geometric_square(MEAN)),
    "constant": (constant, 0.7, MEAN**2),
    "hyperexponential": (
        hyperexponential,
        0.6,
        0.1 * geometric_square(4 * MEAN) + 0.9 * geometric_square(MEAN * 2 / 3),
    ),
}


def setup(max_num_seqs=1, step_time=STEP, **changed):
    """Return stock vLLM with one seat and memory to spare."""
    return Setup(
        recipe=load_recipe("vllm"),
        limits=EngineLimits(num_gpu_blocks=20_000, max_num_seqs=max_num_seqs, max_model_len=40_000),
        step_time=step_time,
        **changed,
    )


def poisson(rng, service_ms, load):
    """Return a workload of Poisson arrivals that offers the load."""
    count = len(service_ms)
    gaps = rng.exponential(MEAN * MS / load, count)
    arrival = np.rint(np.cumsum(gaps)).astype(np.int64)
    return Workload(
        name="poisson",
        arrival=arrival.tolist(),
        prompt=[1] * count,
        output=service_ms.tolist(),
        tenant=[0] * count,
        slo_class=[0] * count,
        program=[-1] * count,
        turn=[0] * count,
        gap=[0] * count,
        following=[-1] * count,
        prefix=[],
        tenants=("all",),
        classes=(SloClass("all"),),
        block_tokens=0,
        span=int(arrival[-1] - arrival[0]),
    )


@pytest.fixture(scope="module", params=list(SERVICES))
def replications(request):
    """Run one kind of service times: its theory and (workload, record) of each replication."""
    draw, load, square = SERVICES[request.param]
    runs = []
    for seed in range(REPLICATIONS):
        rng = np.random.default_rng(seed)
        workload = poisson(rng, draw(rng, REQUESTS), load)
        runs.append((workload, Simulation(workload, setup()).run()))
    return load, square, runs


def waits_ms(record):
    """Return the time of each request before its first step, in ms."""
    return (record.requests.admitted - record.requests.arrival) / MS


def standard_errors(samples, expected):
    """Return how many standard errors the mean of independent samples lies off."""
    samples = np.asarray(samples)
    return (samples.mean() - expected) / (samples.std(ddof=1) / np.sqrt(len(samples)))


def pollaczek_khinchine(load, square):
    """Return the mean wait of M/G/1 in ms, for a mean service of MEAN ms."""
    return load / MEAN * square / (2 * (1 - load))


def test_every_wait_is_exactly_lindleys(replications):
    # W(n+1) = max(0, W(n) + S(n) - A(n)), to the picosecond.
    for workload, record in replications[2][:4]:
        service = np.array(workload.output, dtype=np.int64) * MS
        drift = np.cumsum(service[:-1] - np.diff(workload.arrival))
        walk = np.concatenate([[0], drift])
        expected = walk - np.minimum.accumulate(walk)
        assert np.array_equal(record.requests.admitted - record.requests.arrival, expected)


def test_the_mean_wait_is_pollaczek_khinchines(replications):
    load, square, runs = replications
    means = [waits_ms(record)[WARM_UP:].mean() for _, record in runs]
    assert abs(standard_errors(means, pollaczek_khinchine(load, square))) < 3


def test_a_step_that_takes_five_per_cent_longer_would_be_noticed(replications):
    load, square, runs = replications
    means = [waits_ms(record)[WARM_UP:].mean() for _, record in runs]
    planted = pollaczek_khinchine(load * 1.05, square * 1.05 * 1.05) / 1.05
    assert abs(standard_errors(means, planted)) > 3


def test_exponential_service_is_the_m_m_1_queue():
    # Whole steps take off half a step of the residual service: one per cent at a mean of 50.
    load = 0.7
    exact = load / (1 / MEAN - load / MEAN)
    assert pollaczek_khinchine(load, geometric_square(MEAN)) == pytest.approx(exact * 0.99)


def test_the_engine_is_busy_for_the_offered_load(replications):
    load, _, runs = replications
    busy = []
    for workload, record in runs:
        assert record.steps.duration.sum() == sum(workload.output) * MS
        busy.append(record.steps.duration.sum() / record.requests.finish.max())
    assert abs(standard_errors(busy, load)) < 3
    assert abs(standard_errors(busy, load * 1.05)) > 3


def moments(record, states):
    """Return the time-average number of requests in some states, from the log of moves."""
    moves = record.transitions
    inside = np.isin(moves.state, [record.states.index(name) for name in states])
    order = np.lexsort((np.arange(len(moves.time)), moves.request))
    total = 0
    for row in np.split(order, np.flatnonzero(np.diff(moves.request[order])) + 1):
        ends = np.append(moves.time[row][1:], moves.time[row][-1])
        total += ((ends - moves.time[row]) * inside[row]).sum()
    return total / moves.time.max()


@pytest.mark.parametrize("recipe", ["vllm", "fastserve"])
def test_littles_law_holds_on_a_real_trace(recipe):
    # L = lambda W, the left side from the log of moves, the right one from the request rows.
    workload = make_workload(read_trace("sample"))
    cost = Fitted(Coefficients(fixed=5e-3, prefill_token=2e-5))
    run = replace(setup(16, cost, trace_states=True), recipe=load_recipe(recipe))
    record = Simulation(workload, run).run()
    requests = record.requests
    finished = requests.finish >= 0
    horizon = record.transitions.time.max()
    rate = finished.sum() / horizon
    in_system = moments(record, ("waiting", "prefill", "decode", "paused"))
    assert in_system == pytest.approx(rate * (requests.finish - requests.arrival)[finished].mean())
    if recipe == "vllm":  # nobody is dropped or paused: waiting ends with the first grant
        queued = moments(record, ("waiting",))
        wait = (requests.admitted - requests.arrival)[finished].mean()
        assert queued == pytest.approx(rate * wait)
        assert queued > 0
