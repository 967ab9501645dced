"""Requests simulated per second of CPU time, for fleets and for one replica in the same session.

    python -m benchmarks.fleet_speed [--replicas 2000] [--requests 100000] [--routers NAME,NAME]

Every replica gets the same load in each row, so the engine's work per request is the same; what a
fleet's row takes beyond the first is the fleet's own.
"""

from __future__ import annotations

import argparse
import random
import resource
from time import process_time

from sojourn.cost import Coefficients, Fitted
from sojourn.decide.clock import SECOND
from sojourn.decide.limits import EngineLimits
from sojourn.fleet.design import Design, Group
from sojourn.policies.tables import SLOTS
from sojourn.recipes import load_recipe
from sojourn.sim.fleet.loop import FleetSimulation
from sojourn.sim.loop import Setup, Simulation
from sojourn.sim.workload import Workload
from sojourn.steplog.record import RunRecord, SloClass

COST = Fitted(
    Coefficients(
        fixed=0.004,
        prefill_token=2.3e-5,
        pair=1.1e-9,
        prior_token=3e-8,
        decode=3.1e-5,
        context_token=4.1e-8,
    )
)
LIMITS = EngineLimits(num_gpu_blocks=20_000, max_num_batched_tokens=2048, max_model_len=8192)
RATE = 8.0
"""Requests a second for each replica."""


def workload(count: int, rate: float) -> Workload:
    """Return Poisson arrivals of log-normal lengths."""
    draw = random.Random(1)
    time, arrival, prompt, output = 0.0, [], [], []
    for _ in range(count):
        time += draw.expovariate(rate)
        arrival.append(round(time * SECOND))
        prompt.append(min(4000, 1 + int(draw.lognormvariate(6, 1))))
        output.append(min(2000, 1 + int(draw.lognormvariate(5, 0.8))))
    return Workload(
        name="poisson",
        arrival=arrival,
        prompt=prompt,
        output=output,
        tenant=[0] * count,
        slo_class=[0] * count,
        program=[-1] * count,
        turn=[0] * count,
        gap=[0] * count,
        following=[-1] * count,
        prefix=[],
        tenants=("all",),
        classes=(SloClass("all", 1.0, None, None, None),),
        block_tokens=0,
        span=arrival[-1] - arrival[0],
    )


def design(replicas: int, router: str) -> Design:
    """Return a fleet of like replicas."""
    named = {
        slot: (name, SLOTS[slot][name][0]())
        for slot, name in (("route", router), ("place", "least_loaded"), ("scale", "fixed"))
    }
    group = Group("replica", replicas, load_recipe("vllm", "vllm"), LIMITS, COST)
    return Design("speed", (group,), **named)


def row(name: str, simulation: Simulation, count: int) -> float:
    """Run, print a row, and return the CPU seconds for each step that was planned."""
    began = process_time()
    record: RunRecord = simulation.run()
    seconds = process_time() - began
    routing = 0.0 if record.fleet is None else record.fleet.routing_seconds
    print(
        f"| {name} | {count / seconds:,.0f} | {seconds:.1f} | {record.decisions:,} "
        f"| {seconds / record.decisions * 1e6:.0f} | {routing / seconds:.0%} "
        f"| {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} |",
        flush=True,
    )
    return seconds / record.decisions


def main() -> None:
    """Measure, and print a Markdown table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet_speed", description=__doc__)
    parser.add_argument("--replicas", type=int, default=2000)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--routers", default="round_robin,least_load")
    given = parser.parse_args()
    print("| what | requests/s | CPU s | plans | us a plan | routing | MB so far |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    few = min(given.requests, 20_000)
    setup = Setup(load_recipe("vllm", "vllm"), LIMITS, COST)
    row("one replica, no fleet", Simulation(workload(few, RATE), setup), few)
    for router in given.routers.split(","):
        one = FleetSimulation(workload(few, RATE), design(1, router))
        row(f"a fleet of one, {router}", one, few)
        many = workload(given.requests, RATE * given.replicas)
        fleet = FleetSimulation(many, design(given.replicas, router))
        row(f"{given.replicas:,} replicas, {router}", fleet, given.requests)


if __name__ == "__main__":
    main()
