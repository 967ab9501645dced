"""Prints a digest of what every recipe does to two small workloads."""

from __future__ import annotations

import hashlib
from dataclasses import fields

from sojourn.cost import Coefficients, Fitted
from sojourn.decide.limits import EngineLimits
from sojourn.fleet.design import Design, Group
from sojourn.policies.tables import SLOTS
from sojourn.recipes import load_recipe, recipe_names
from sojourn.sim.fleet.loop import FleetSimulation
from sojourn.sim.loop import Setup
from sojourn.sim.workload import Workload, make_workload
from sojourn.steplog.record import SloClass
from sojourn.trace import (
    GenerateSpec,
    SessionSpec,
    TenantSpec,
    Trace,
    generate_trace,
    read_trace,
)
from sojourn.trace.lengths import Constant

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
SESSIONS = GenerateSpec(
    tenants=(
        TenantSpec("a", 3.0, prompt=Constant(300), output=Constant(150), sessions=SessionSpec()),
        TenantSpec("b", 6.0, prompt=Constant(900), output=Constant(80)),
    ),
    requests=160,
    name="sessions",
)
CLASSES = (SloClass("chat", 0.6, 0.5, 0.05), SloClass("batch", 0.4, None, None, 60.0))


def digest(workload: Workload, name: str, host: str) -> str:
    """Return a digest of every column of a run on two replicas with little memory and few seats."""
    limits = EngineLimits(
        num_gpu_blocks=700,
        max_num_seqs=6,
        max_num_batched_tokens=512,
        max_model_len=700 * 16,
        swap_blocks=200,
        block_tokens=workload.block_tokens,
    )
    setup = Setup(
        recipe=load_recipe(name, host),
        limits=limits,
        step_time=COST,
        swap_block_seconds=0.0005,
    )
    design = Design(
        "two",
        (
            Group(
                "replica",
                2,
                setup.recipe,
                limits,
                COST,
                swap_block_seconds=setup.swap_block_seconds,
            ),
        ),
        route=("least_load", SLOTS["route"]["least_load"][0]()),
        place=("least_loaded", SLOTS["place"]["least_loaded"][0]()),
        scale=("fixed", SLOTS["scale"]["fixed"][0]()),
    )
    record = FleetSimulation(workload, design, 8.0, trace_states=True).run()
    assert record.transitions is not None
    hashed = hashlib.sha256(repr((record.reasons, record.classes, record.tenants)).encode())
    for table in (record.requests, record.steps, record.transitions):
        for column in fields(table):
            hashed.update(getattr(table, column.name).tobytes())
    return hashed.hexdigest()


def traces() -> tuple[Trace, Trace]:
    """Return a stretch of the bundled trace, and generated sessions that share prefixes."""
    return read_trace("sample", limit=120), generate_trace(SESSIONS)


def main() -> None:
    """Print a line for each workload, host and recipe."""
    for trace in traces():
        workload = make_workload(trace, CLASSES, seed=3)
        for host in ("vllm", "ideal"):
            for name in recipe_names():
                print(trace.name, host, name, digest(workload, name, host))


if __name__ == "__main__":
    main()
