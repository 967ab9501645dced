"""Single runs of the study, each in a process of its own."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Any, Final

from benchmarks.fleet_study.designs import SHAPES, Shape, build
from sojourn.report.metrics import measure
from sojourn.sim.capacity import capacity, repeat
from sojourn.sim.fleet.loop import FleetSimulation
from sojourn.sim.workload import Workload, make_workload
from sojourn.steplog.record import SloClass
from sojourn.trace import read_trace
from sojourn.trace.model import Trace

DOLLARS_PER_HOUR: Final = 2.99
"""Of one H100 on demand: the table of the-full-stack/website, 2025-03."""

BOUNDS: Final = {
    "azure23_conv": (1.0, 0.05),
    "azure23_code": (1.0, 0.05),
    "servegen_mlarge_sub": (1.0, 0.05),
    "mooncake_conversation": (5.0, 0.1),
    "agent_claudecode": (30.0, 0.5),
    "agent_miniswe": (30.0, 0.5),
}
"""Bounds on TTFT and on the mean time of each further token, in seconds, by trace.

A prompt of 100,000 tokens of which nothing is cached takes several seconds alone, and while it is
computed a step takes longer than the 0.1 s that suit chats.
"""


ROWS_MAX: Final = {"agent_claudecode": 3000}
"""So many requests are taken of a trace at most; its sessions cannot be thinned otherwise."""


def _read(name: str, data: Path) -> Trace:
    return read_trace(data / f"{name}.parquet", limit=ROWS_MAX.get(name))


def workload(name: str, data: Path, requests: int) -> Workload:
    """Return a trace, repeated with sessions and prefixes of its own until it is long enough."""
    ttft, tpot = BOUNDS[name]
    classes = (SloClass("all", 1.0, ttft, tpot),)
    one = make_workload(_read(name, data), classes)
    return repeat(one, max(1, -(-requests // len(one))))


def run(task: tuple[str, str, int, Shape, float, float]) -> dict[str, Any]:
    """Run one design on one trace at one rate; return its numbers."""
    name, data, requests, shape, load, scale = task
    rows = workload(name, Path(data), requests)
    design = build(shape, rows.block_tokens, DOLLARS_PER_HOUR)
    began = perf_counter()
    row = measure(FleetSimulation(rows, design, scale).run())
    assert row.fleet is not None
    return {
        "trace": name,
        "design": shape.name,
        "load": load,
        "requests": row.requests,
        "shed": row.shed,
        "goodput": row.goodput_rps,
        "attainment": row.slo_attainment["all"],
        "ttft": row.ttft_seconds.mean,
        "ttft_p99": row.ttft_seconds.p99,
        "tpot": row.tpot_seconds.mean,
        "gap_p99": row.stream_gap_seconds_p99,
        "hits": row.prefix_hit_share,
        "preemptions": row.preemptions,
        "kv_use": row.kv_use_mean,
        "imbalance": row.fleet.imbalance,
        "migrations": row.fleet.done("migration"),
        "handovers": row.fleet.done("handover"),
        "dollars_per_met": row.fleet.dollars_per_met_request,
        "dollars_per_million": row.fleet.dollars_per_million_output_tokens,
        "seconds": perf_counter() - began,
    }


def sustained(name: str, data: str) -> tuple[float, float]:
    """Return what round robin sustains of a trace: factor on its rate, requests a second."""
    one = make_workload(_read(name, Path(data)), ())
    found = capacity(one, build(SHAPES[0], one.block_tokens, 0.0))
    return found.rate_scale, found.requests_per_second
