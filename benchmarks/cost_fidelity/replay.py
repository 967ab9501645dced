"""Served runs put through the simulator's `vllm` recipe, to set a step time against them."""

from __future__ import annotations

import random
from dataclasses import dataclass

from sojourn.decide.clock import Time
from sojourn.decide.limits import EngineLimits
from sojourn.decide.services import StepTime
from sojourn.recipes import load_recipe
from sojourn.sim.loop import Setup, Simulation
from sojourn.sim.workload import Workload
from sojourn.steplog.record import RequestColumns, SloClass

AMPLE_BLOCKS = 1 << 22
"""More KV blocks than any of these runs can fill: the logs do not state how many there were."""

SHORTEST = 1
TURNS = 10


@dataclass(slots=True)
class Served:
    """One request: when it was sent (picoseconds; -1 for "after the one before") and its size."""

    arrival: Time
    prompt: int
    output: int


def serve(cost: StepTime, requests: list[Served], seats: int, budget: int) -> RequestColumns:
    """Serve requests on one replica with ample memory; return a row for each, in the order given.

    A request with arrival -1 is sent when the one before it in the list was answered.
    """
    count = len(requests)
    following = [-1] * count
    for row in range(1, count):
        if requests[row].arrival < 0:
            following[row - 1] = row
    own = [request.arrival for request in requests if request.arrival >= 0]
    workload = Workload(
        name="served",
        arrival=[request.arrival for request in requests],
        prompt=[request.prompt for request in requests],
        output=[request.output for request in requests],
        tenant=[0] * count,
        slo_class=[0] * count,
        program=[-1] * count,
        turn=[0] * count,
        gap=[0] * count,
        following=following,
        prefix=[],
        tenants=("default",),
        classes=(SloClass("all"),),
        block_tokens=0,
        span=max(own) - min(own),
    )
    limits = EngineLimits(
        AMPLE_BLOCKS, max_num_seqs=seats, max_num_batched_tokens=max(budget, seats)
    )
    setup = Setup(load_recipe("vllm"), limits, cost)
    return Simulation(workload, setup).run().requests


def means(served: RequestColumns) -> tuple[float, float]:
    """Return mean (TTFT, TPOT) in seconds."""
    ttft = (served.first_token - served.arrival) / 1e12
    after = served.output_tokens > SHORTEST
    span = (served.finish - served.first_token)[after] / 1e12
    return float(ttft.mean()), float((span / (served.output_tokens[after] - 1)).mean())


def closed_loop(
    cost: StepTime, users: int, prompt: int, output: int, spread: float, budget: int
) -> tuple[float, float]:
    """Return mean (TTFT, TPOT) in seconds of `users` who each send one request after another.

    Ten requests a user, all users starting at once, lengths uniform in [spread * nominal,
    nominal]: the procedure of InferenceX (then InferenceMAX) with vLLM's `benchmark_serving.py`.
    """
    lengths = random.Random(1)
    requests = [
        Served(
            0 if turn == 0 else -1,
            lengths.randint(int(spread * prompt), prompt),
            lengths.randint(int(spread * output), output),
        )
        for _ in range(users)
        for turn in range(TURNS)
    ]
    return means(serve(cost, requests, users, budget))
