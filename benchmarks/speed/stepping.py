"""The same simulator stepping one by one: what jumping over identical steps gains."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from dataclasses import dataclass, replace
from time import process_time

import numpy as np

from benchmarks.speed.workloads import HEAD, Workload
from sojourn.catalog import load_gpu, load_model
from sojourn.cost import Roofline, kv_blocks
from sojourn.decide.limits import EngineLimits
from sojourn.recipes import load_recipe
from sojourn.sim.loop import Setup, Simulation
from sojourn.sim.study import Fleet
from sojourn.sim.workload import make_workload
from sojourn.steplog.record import RunRecord
from sojourn.trace import read_trace


@dataclass(frozen=True, slots=True)
class Pair:
    """One run both ways, without start-up, reading and report.

    Attributes:
        kind: Name of the traffic.
        load: Fraction of the capacity.
        steps: Engine steps simulated.
        plans: Plans made when jumping.
        jumping_seconds: CPU seconds when jumping.
        stepping_seconds: CPU seconds when every step is planned.
    """

    kind: str
    load: float
    steps: int
    plans: int
    jumping_seconds: float
    stepping_seconds: float


def compare(workload: Workload, load: float) -> Pair:
    """Run the head of a trace both ways with the `vllm` recipe; the results must be equal."""
    model, gpu = load_model("llama-3.1-8b"), load_gpu("h100-sxm")
    rows = make_workload(read_trace(workload.path, limit=HEAD))
    usable = kv_blocks(model, gpu) - 1
    longest = min(model.max_positions or usable * 16, usable * 16)
    limits = EngineLimits(num_gpu_blocks=usable, max_model_len=longest)
    setup = Fleet(limits, Roofline(model, gpu)).setup(load_recipe("vllm"))
    jumped, seconds = _run(rows, setup, workload.scale * load)
    stepped, seconds_stepping = _run(rows, replace(setup, max_horizon=1), workload.scale * load)
    assert np.array_equal(jumped.requests.finish, stepped.requests.finish), "jumps changed results"
    return Pair(
        kind=workload.kind.name,
        load=load,
        steps=int(stepped.steps.steps.sum()),
        plans=jumped.decisions,
        jumping_seconds=seconds,
        stepping_seconds=seconds_stepping,
    )


def _run(rows: object, setup: Setup, scale: float) -> tuple[RunRecord, float]:
    simulation = Simulation(rows, setup, scale)
    gc.collect()
    gc.disable()  # as the command does
    began = process_time()
    record = simulation.run()
    seconds = process_time() - began
    gc.enable()
    return record, seconds


def table(pairs: Iterable[Pair]) -> str:
    """Return the runs as a Markdown table."""
    lines = [
        "| traffic | load | steps | plans when jumping | jumping, CPU s | one by one, CPU s "
        "| speed-up |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {pair.kind} | {pair.load:g} | {pair.steps:,} | {pair.plans:,} "
        f"| {pair.jumping_seconds:.2f} | {pair.stepping_seconds:.2f} "
        f"| {pair.stepping_seconds / pair.jumping_seconds:.1f} |"
        for pair in pairs
    ]
    return "\n".join(lines)
