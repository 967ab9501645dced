"""Single runs of the study, each in a process of its own."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.fleet_study.designs import SHAPES, Shape, build
from sojourn.decide.clock import SECOND
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
    "agent_miniswe": (5.0, 0.1),
}
"""Bounds on TTFT and on the mean time of each further token, in seconds, by trace.

A prompt of 100,000 tokens of which nothing is cached takes several seconds alone, and while it is
computed a step takes longer than the 0.1 s that suit chats.
"""


REQUESTS: Final = {"agent_claudecode": 6_000, "agent_miniswe": 16_000}
"""Least requests of a run, where the default is too few: a queue must have the time to grow beyond
the bound on TTFT."""
AT_ONCE: Final = 1e6
"""Factor on a rate at which everything comes at once."""

CONTEXT_TOKENS_MAX: Final = 131_072
PAUSE_SECONDS_MAX: Final = 600.0
"""A session ends before the first request that the model cannot hold, and before the first pause
that is longer: what comes an hour later meets another cache, and one session that lasts for days
would make every run last for days."""


def _read(name: str, data: Path) -> Trace:
    trace = read_trace(data / f"{name}.parquet")
    return trace.take(_served(trace)) if trace.has_sessions else trace


def _served(trace: Trace) -> NDArray[np.bool_]:
    """Return which requests come before their session's end, as the study sets it."""
    fits = trace.prompt_tokens + trace.output_tokens <= CONTEXT_TOKENS_MAX
    soon = ~(trace.tool_seconds > PAUSE_SECONDS_MAX)
    kept = fits & soon
    over: set[int] = set()
    for row in np.lexsort((trace.turn, trace.session)).tolist():
        session = int(trace.session[row])
        if session in over:
            kept[row] = False
        elif session >= 0 and not kept[row]:
            over.add(session)
    return kept


def workload(name: str, data: Path, requests: int) -> Workload:
    """Return a trace, repeated with sessions and prefixes of its own until it is long enough."""
    ttft, tpot = BOUNDS[name]
    classes = (SloClass("all", 1.0, ttft, tpot),)
    one = make_workload(_read(name, data), classes)
    least = max(requests, REQUESTS.get(name, 0))
    return repeat(one, max(1, -(-least // len(one))))


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


def sustained(name: str, data: str, requests: int) -> tuple[float, float]:
    """Return what round robin sustains of a trace: factor on its rate, requests a second.

    Of sessions that is what its replicas serve in a second while they are busy, if all sessions
    begin at once. A session has at most one request in the queue, and while its tools run none: so
    the queue by which capacity is found otherwise says little of them, and hardly grows.
    """
    one = make_workload(_read(name, Path(data)), ())
    design = build(SHAPES[0], one.block_tokens, 0.0)
    if (np.asarray(one.program) < 0).any():
        found = capacity(one, design)
        return found.rate_scale, found.requests_per_second
    rows = workload(name, Path(data), requests)
    record = FleetSimulation(rows, design, AT_ONCE).run()
    busy = float(record.steps.duration.sum()) / SECOND / design.groups[0].count
    rate = np.count_nonzero(record.requests.finish >= 0) / busy
    return float(rate * rows.span / SECOND / len(rows)), float(rate)
