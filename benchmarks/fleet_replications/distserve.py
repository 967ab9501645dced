"""DistServe: its placement's check value, and split against colocated at equal GPUs.

python -m benchmarks.fleet_replications.distserve [--data FOLDER] [--out FILE]
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.fleet_replications import opt13b
from benchmarks.fleet_replications.printed import arguments, keep, policy, table
from sojourn.decide.clock import SECOND
from sojourn.decide.limits import EngineLimits
from sojourn.fleet.design import Design, Group
from sojourn.recipes import load_recipe
from sojourn.sim.fleet.loop import FleetSimulation
from sojourn.sim.fleet.placement import (
    NVLINK,
    Bisection,
    Engine,
    Objective,
    Parallel,
    Placement,
    Search,
    Trial,
)
from sojourn.sim.workload import Workload

README: Final = Placement(1, Parallel(2, 1), Parallel(1, 1))
README_GOODPUT: Final = 1.56
PAPER_MEANS: Final = (755.5, 200.3)
"""Mean ShareGPT lengths of the paper, from memory."""
CHAT: Final = Objective(0.25, 0.1)
GPUS: Final = 6
SHARE: Final = 0.9
REQUESTS: Final = 1000
PRECISION: Final = 0.02


def check_values(data: Path) -> list[tuple[str, Trial, Trial]]:
    """Return the README's placement and the best one, under assumptions nearer and nearer to it."""
    bisection = Bisection(requests=300, tolerance=0.25 / 2)
    cases = {
        "ShareGPT up to 2,048 tokens, KV bounded": (opt13b.lengths(data), True),
        "the same, decode KV unbounded as in simdistserve": (opt13b.lengths(data), False),
        "scaled to the paper's means, KV bounded": (opt13b.lengths(data, *PAPER_MEANS), True),
        "scaled to the paper's means, unbounded": (opt13b.lengths(data, *PAPER_MEANS), False),
    }
    found = []
    for name, (pairs, bounded) in cases.items():
        engine = opt13b.engine(bounded=bounded)
        search = Search(engine, pairs, Objective(0.2, 0.1), 10.0, bisection=bisection)
        found.append((name, search.goodput(README), search.low_affinity().best))
    return found


def colocated(engine: Engine, recipe: str, tokens: int, gpus: int) -> Design:
    """Return one replica on each GPU."""
    limits = EngineLimits(
        num_gpu_blocks=engine.kv_tokens(1, 1) // 16,
        max_num_seqs=256,
        max_num_batched_tokens=tokens,
        max_model_len=opt13b.CONTEXT,
    )
    step_time = engine.step_time(1, 1)
    group = Group("replica", gpus, load_recipe(recipe), limits, step_time)
    return _design((group,))


def split(engine: Engine, prefill: Parallel, prefills: int, decodes: int) -> Design:
    """Return prefill instances of a kind and decode instances of one GPU each."""
    first = engine.group("prefill", "prefill", prefill)
    second = engine.group("decode", "decode", Parallel(1, 1))
    return _design((replace(first, count=prefills), replace(second, count=decodes)))


def _design(groups: tuple[Group, ...]) -> Design:
    return Design(
        "fleet",
        groups,
        route=policy("route", "least_load", waiting_weight=1),
        place=policy("place", "least_loaded"),
        scale=policy("scale", "fixed"),
        default_link=NVLINK,
    )


def attainment(workload: Workload, design: Design, rate: float) -> dict[str, float]:
    """Return the share of requests within both bounds, and quantiles."""
    rows = FleetSimulation(workload, design, rate).run().requests
    ttft = (rows.first_token - rows.arrival) / SECOND
    tpot = (rows.finish - rows.first_token) / SECOND / np.maximum(rows.output_tokens - 1, 1)
    met = (ttft <= CHAT.ttft_seconds) & (tpot <= CHAT.tpot_seconds)
    return {
        "rate": rate,
        "met": float(met.mean()),
        "ttft_p90": float(np.quantile(ttft, SHARE)),
        "tpot_p90": float(np.quantile(tpot, SHARE)),
        "gap_p99": float(np.quantile(rows.gap, 0.99) / SECOND),
    }


def goodput(workload: Workload, design: Design) -> dict[str, float]:
    """Return the outcome at the highest rate per GPU that 90 % of requests are well served at."""
    low, high, best = 0.0, 8.0, {"rate": 0.0}
    while high - low > PRECISION:
        rate = (low + high) / 2
        found = attainment(workload, design, rate * GPUS)
        if found["met"] >= SHARE:
            low, best = rate, found
        else:
            high = rate
    return {**best, "per_gpu": low}


def fleets() -> dict[str, Design]:
    """Return the fleets of six GPUs."""
    ours, theirs = opt13b.engine(), opt13b.engine(phases=opt13b.VLLM_A100)
    return {
        "vllm-v0, its own kernels of 2023": colocated(theirs, "vllm-v0", 2048, GPUS),
        "vllm-v0": colocated(ours, "vllm-v0", 2048, GPUS),
        "vllm, chunks of 512": colocated(ours, "vllm", 512, GPUS),
        "vllm, chunks of 2048": colocated(ours, "vllm", 2048, GPUS),
        "DistServe, 2 x (2,1 ; 1,1)": split(ours, Parallel(2, 1), 2, 2),
        "DistServe, 2 prefill, 4 decode": split(ours, Parallel(1, 1), 2, 4),
        "DistServe, 3 prefill, 3 decode": split(ours, Parallel(1, 1), 3, 3),
        "DistServe, 4 prefill, 2 decode": split(ours, Parallel(1, 1), 4, 2),
    }


def main() -> None:
    """Run and print."""
    given = arguments(__doc__)
    checks = check_values(given.data)
    head = ("assumptions", "published at (1,2,1,1,1)", "ours", "our best", "at")
    rows = [
        (name, README_GOODPUT, f"{mine.per_gpu:.2f}", f"{best.per_gpu:.2f}", _named(best.config))
        for name, mine, best in checks
    ]
    print(table(head, rows))
    numbers: dict[str, Any] = {"placement": rows}
    for name, means in (("ShareGPT up to 2,048", (0.0, 0.0)), ("the paper's means", PAPER_MEANS)):
        workload = opt13b.poisson(opt13b.lengths(given.data, *means), REQUESTS)
        found = {fleet: goodput(workload, made) for fleet, made in fleets().items()}
        base = found["vllm-v0"]["per_gpu"]
        head = (f"{name}: fleet", "req/s per GPU", "against vllm-v0", "p99 gap, s")
        rows = [
            (fleet, f"{o['per_gpu']:.2f}", f"{o['per_gpu'] / base:.2f}x", f"{o['gap_p99']:.2f}")
            if o["per_gpu"]
            else (fleet, "none", "-", "-")
            for fleet, o in found.items()
        ]
        print("\n" + table(head, rows))
        numbers[name] = found
    keep(given.out, numbers)


def _named(config: Placement | Parallel) -> str:
    assert isinstance(config, Placement)
    prefill, decode = config.prefill, config.decode
    degrees = (prefill.tensor, prefill.pipeline, decode.tensor, decode.pipeline)
    return f"({config.segments},{','.join(map(str, degrees))})"


if __name__ == "__main__":
    main()
