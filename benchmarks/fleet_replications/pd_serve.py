"""P/D-Serve: aggregated, split, on-demand, groups by scenario and ratio control, in that order.

python -m benchmarks.fleet_replications.pd_serve [--data FOLDER] [--out FILE]
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.fleet_replications import opt13b
from benchmarks.fleet_replications.printed import arguments, keep, policy, table
from sojourn.decide.clock import SECOND
from sojourn.fleet.design import Design, Group, Link
from sojourn.recipes import load_recipe
from sojourn.sim.fleet.loop import FleetSimulation
from sojourn.sim.fleet.placement import Parallel
from sojourn.sim.workload import Workload, make_workload
from sojourn.steplog.record import SloClass
from sojourn.trace.model import build_trace

TTFT_SECONDS: Final = 0.5
TPOT_SECONDS: Final = 0.1
REQUESTS: Final = 3000
RATES: Final = (26.0, 32.0, 38.0)
REPORT: Final = SECOND // 2
"""Period of the load reports that the queueing routers go by."""
BULK: Final = Link("RoCE, contiguous", 25e9, setup=SECOND // 20_000)
BY_BLOCK: Final = Link("RoCE, block by block", 25e9, block_setup=80 * SECOND // 200_000)
"""200 Gb/s; 50 microseconds to set a bulk copy up, 5 for each of a block's pieces: keys and values
of 40 layers. Neither is published."""
ONE: Final = Parallel(1, 1)


def workload(data: Path, seed: int = 0) -> Workload:
    """Return two scenarios: chat with long answers, and code with long prompts."""
    rng = np.random.default_rng(seed)
    pairs = np.array(opt13b.lengths(data), dtype=np.int64)
    chat = pairs[(pairs[:, 0] < 400) & (pairs[:, 1] > 200)]
    code = pairs[(pairs[:, 0] > 800) & (pairs[:, 1] < 300)]
    first = rng.random(REQUESTS) < 0.6
    picks = np.where(
        first[:, None],
        chat[rng.integers(0, len(chat), REQUESTS)],
        code[rng.integers(0, len(code), REQUESTS)],
    )
    trace = build_trace(
        name="scenarios",
        prompt_tokens=picks[:, 0],
        output_tokens=picks[:, 1],
        arrival_seconds=np.cumsum(rng.exponential(1.0, REQUESTS)),
        slo_class=np.where(first, 0, 1),
        slo_classes=("chat", "code"),
    )
    bounds = {"ttft_seconds": TTFT_SECONDS, "tpot_seconds": TPOT_SECONDS}
    return make_workload(trace, [SloClass("chat", 0.6, **bounds), SloClass("code", 0.4, **bounds)])


def fleets() -> dict[str, Design]:
    """Return the fleets of sixteen replicas."""
    engine = opt13b.engine()

    def group(name: str, role: str, count: int) -> Group:
        return replace(engine.group(name, role, ONE), count=count)

    mixed = replace(
        group("replica", "decode", 16), role="mixed", name="replica", recipe=load_recipe("vllm-v0")
    )
    halves = (group("prefill", "prefill", 8), group("decode", "decode", 8))
    pools = (
        group("chat-prefill", "prefill", 3),
        group("chat-decode", "decode", 5),
        group("code-prefill", "prefill", 5),
        group("code-decode", "decode", 3),
    )
    even = tuple(replace(one, count=4) for one in pools)
    still = policy("place", "pd_serve", control=False)
    moving = policy("place", "pd_serve")
    queued, forward = policy("route", "least_load"), policy("route", "pool_forward")
    reports = {"report_period": REPORT, "report_age": REPORT // 5}
    return {
        "aggregated, vllm-v0": _design((mixed,), queued, still, **reports),
        "aggregated, vllm": _design(
            (replace(mixed, recipe=load_recipe("vllm")),), queued, still, **reports
        ),
        "split 8 : 8, local queues, reports": _design(halves, queued, still, **reports),
        "split 8 : 8, on demand": _design(halves, forward, still),
        "groups 4 : 4 and 4 : 4, on demand": _design(even, forward, still),
        "the same with ratio control": _design(even, forward, moving),
        "groups 3 : 5 and 5 : 3, on demand": _design(pools, forward, still),
        "the same, block by block": replace(_design(pools, forward, still), default_link=BY_BLOCK),
    }


def _design(
    groups: tuple[Group, ...], route: tuple[str, Any], place: tuple[str, Any], **more: Any
) -> Design:
    scale = policy("scale", "fixed")
    return Design("fleet", groups, route, place, scale, default_link=BULK, **more)


def measure(requests: Workload, design: Design, rate: float) -> dict[str, float]:
    """Return throughput within both bounds, TTFT attainment, and the time of a transfer."""
    record = FleetSimulation(requests, design, rate).run()
    rows = record.requests
    done = rows.finish >= 0
    ttft = np.where(rows.first_token >= 0, (rows.first_token - rows.arrival) / SECOND, np.inf)
    tpot = (rows.finish - rows.first_token) / SECOND / np.maximum(rows.output_tokens - 1, 1)
    met = done & (ttft <= TTFT_SECONDS) & (tpot <= TPOT_SECONDS)
    moves = [(one.ended - one.began) / SECOND for one in record.fleet.moves] if record.fleet else []
    return {
        "ttft_met": float((ttft <= TTFT_SECONDS).mean()),
        "met": float(met.mean()),
        "shed": float((~done).mean()),
        "transfer_seconds": float(np.mean(moves)) if moves else 0.0,
        "roles": sum(one.what.startswith("role") for one in record.fleet.events)
        if record.fleet
        else 0,
    }


def main() -> None:
    """Run and print."""
    given = arguments(__doc__)
    requests = workload(given.data)
    numbers: dict[str, Any] = {}
    rows = []
    for name, design in fleets().items():
        line = [name]
        for rate in RATES:
            found = measure(requests, design, rate)
            numbers[f"{name}, {rate:g}/s"] = found
            line.append(f"{found['ttft_met']:.1%} / {found['met']:.1%} / {found['shed']:.1%}")
        rows.append([*line, f"{1000 * found['transfer_seconds']:.1f}"])
    head = ("TTFT met / both met / shed at", *(f"{rate:g}/s" for rate in RATES), "transfer, ms")
    print(table(head, rows))
    keep(given.out, numbers)


if __name__ == "__main__":
    main()
