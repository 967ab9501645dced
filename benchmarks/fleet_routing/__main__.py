"""Runs one of: python -m benchmarks.fleet_routing staleness | speed [--write].

`staleness`: p99 of TTFT by router and age of the load reports. `speed`: requests simulated per
second of CPU time on 2,000 replicas, and how much of it the router takes. `--write` puts the table
into the page.
"""

from __future__ import annotations

import argparse
import random
import re
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Final

import numpy as np

from sojourn.cost import Coefficients, Fitted
from sojourn.decide.clock import SECOND, from_seconds
from sojourn.decide.limits import EngineLimits
from sojourn.fleet.design import Design, Group
from sojourn.policies.tables import SLOTS
from sojourn.recipes import load_recipe
from sojourn.sim.fleet.loop import FleetSimulation
from sojourn.sim.workload import Workload
from sojourn.steplog.record import SloClass

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "routing.md"
BLOCK: Final = 64
COST: Final = Fitted(
    Coefficients(
        fixed=0.004,
        prefill_token=2.3e-5,
        pair=1.1e-9,
        prior_token=3e-8,
        decode=3.1e-5,
        context_token=4.1e-8,
    )
)
STALE: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("least_load", {}),
    ("least_load", {"counts_own": True}),
    ("vllm_data_parallel", {}),
    ("least_connections", {}),
    ("power_of_two", {}),
    ("power_of_two", {"own_counts": True}),
    ("stochastic_balance", {}),
    ("join_shortest_tokens", {}),
    ("round_robin", {}),
    ("random_choice", {}),
)
FAST: Final = (
    "round_robin",
    "power_of_two",
    "least_load",
    "least_connections",
    "join_shortest_tokens",
    "stochastic_balance",
    "session_sticky",
    "on_demand",
    "prefix_aware",
    "sticky_until_saturated",
    "mooncake_conductor",
    "preble_e2",
)
AGES: Final = (None, 0.0, 0.1, 0.4, 1.0, 3.0)
PERIOD_SECONDS: Final = 0.1
SEEDS: Final = 3


class Timed:
    """A router, and the time that is spent in it."""

    def __init__(self, router: Any) -> None:
        self.router = router
        self.minds_changes = router.minds_changes
        self.needs = router.needs
        self.seconds = 0.0

    def route(self, request: Any, now: int) -> Any:
        began = perf_counter()
        verdict = self.router.route(request, now)
        self.seconds += perf_counter() - began
        return verdict

    def changed(self, replica: Any, now: int) -> None:
        began = perf_counter()
        self.router.changed(replica, now)
        self.seconds += perf_counter() - began


def workload(requests: int, rate: float, seed: int = 1, families: int = 0) -> Workload:
    """Return Poisson arrivals of log-normal prompts and exponential outputs.

    With `families`, half of each prompt is shared within a family, and ids stand for 64 tokens.
    """
    draw = random.Random(seed)
    arrival, prompt, output, prefix = [], [], [], []
    time = 0.0
    for row in range(requests):
        time += draw.expovariate(rate)
        arrival.append(from_seconds(time))
        prompt.append(min(4000, int(draw.lognormvariate(5.5, 1)) + 1))
        output.append(min(600, int(draw.expovariate(0.01)) + 1))
        full = prompt[-1] // BLOCK
        family, shared = draw.randrange(families or 1), full // 2
        own = range((row + families) * 100, (row + families) * 100 + full - shared)
        prefix.append((*range(family * 100, family * 100 + shared), *own))
    count = range(requests)
    return Workload(
        name="poisson",
        arrival=arrival,
        prompt=prompt,
        output=output,
        tenant=[0 for _ in count],
        slo_class=[0 for _ in count],
        program=[-1 for _ in count],
        turn=[0 for _ in count],
        gap=[0 for _ in count],
        following=[-1 for _ in count],
        prefix=prefix if families else [],
        tenants=("all",),
        classes=(SloClass("all", 1.0, None, None, None),),
        block_tokens=BLOCK if families else 0,
        span=arrival[-1] - arrival[0],
    )


def fleet(name: str, parameters: dict[str, Any], replicas: int, **more: Any) -> Design:
    """Return replicas with 16 seats and 32,000 tokens of KV each, behind a router."""
    limits = EngineLimits(
        num_gpu_blocks=2000,
        max_num_seqs=16,
        max_num_batched_tokens=512,
        max_model_len=8000,
        block_tokens=more.pop("block_tokens", 0),
    )
    group = Group("replica", replicas, load_recipe("vllm", "vllm"), limits, COST)
    given = {"route": (name, parameters), "place": ("least_loaded", {}), "scale": ("fixed", {})}
    slots: Any = {slot: (one, SLOTS[slot][one][0](**more)) for slot, (one, more) in given.items()}
    return Design("fleet", (group,), **slots, **more)


def staleness() -> list[str]:
    """Return a table of p99 TTFT, mean over seeds, by router and age of the reports."""
    head = ["current", *(f"{age:g} s" for age in AGES if age is not None)]
    lines = ["| | " + " | ".join(head) + " |", "| --- |" + " --: |" * len(head)]
    works = [workload(4000, 420, seed) for seed in range(1, SEEDS + 1)]
    for name, parameters in STALE:
        cells = []
        for age in AGES:
            reports = {"report_period": from_seconds(PERIOD_SECONDS if age is not None else 0)}
            reports["report_age"] = from_seconds(age or 0)
            tails = []
            for work in works:
                rows = FleetSimulation(work, fleet(name, parameters, 16, **reports)).run().requests
                tails.append(np.percentile((rows.first_token - rows.arrival) / SECOND, 99))
            cells.append(f"{np.mean(tails):.2f}")
        words = ", ".join(f"`{key}`" for key in parameters)
        title = f"`{name}`" + (f", {words}" if words else "")
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    return lines


def speed(names: tuple[str, ...], replicas: int = 2000, requests: int = 50_000) -> list[str]:
    """Return a table of requests per CPU second and the share of routing, by router."""
    work = workload(requests, 20.0 * replicas, families=500)
    lines = [
        "| | requests a second | share of the time in the router | µs a request |",
        "| --- | --: | --: | --: |",
    ]
    for name in names:
        sim = FleetSimulation(work, fleet(name, {}, replicas, block_tokens=BLOCK))
        timed = sim.router = Timed(sim.router)
        began = perf_counter(), process_time()
        sim.run()
        wall, seconds = perf_counter() - began[0], process_time() - began[1]
        share = timed.seconds / wall  # on a busy machine both are longer than they should be
        row = f"{requests / seconds:,.0f} | {share:.1%} | {share * seconds / requests * 1e6:.0f}"
        lines.append(f"| `{name}` | {row} |")
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("staleness", "speed"))
    parser.add_argument("--routers", help="names, comma-separated")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    names = tuple(asked.routers.split(",")) if asked.routers else FAST
    table = "\n".join(staleness() if asked.what == "staleness" else speed(names))
    if asked.write:
        between = re.compile(rf"(<!-- {asked.what} -->\n).*?(<!-- end -->)", re.DOTALL)
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(
            between.sub(lambda at: at[1] + table + "\n" + at[2], page), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
