"""LAPS: TTFT violations of short and long prompts, with and without pools of their own.

python -m benchmarks.fleet_replications.laps [--data FOLDER] [--out FILE]
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.fleet_replications.printed import arguments, keep, policy, table
from sojourn.catalog import load_gpu, load_model
from sojourn.cost import Roofline, kv_blocks
from sojourn.decide.clock import SECOND
from sojourn.decide.limits import EngineLimits
from sojourn.fleet.design import Design, Group, Link
from sojourn.recipes import load_recipe
from sojourn.sim.fleet.loop import FleetSimulation
from sojourn.sim.workload import Workload, make_workload
from sojourn.trace import read_trace
from sojourn.trace.model import build_trace

SLO_SECONDS: Final = 0.4
REPLICAS: Final = 8
REQUESTS: Final = 3000
LATER_TURNS: Final = 0.7
"""Share of requests that are later turns, of which only the new text is computed."""
RATES: Final = (50.0, 65.0, 80.0)
ROUTES: Final = {
    "plain data parallel (round robin)": ("round_robin", {}),
    "least load": ("least_load", {}),
    "fewest outstanding tokens": ("join_shortest_tokens", {}),
    "LAPS": ("laps", {}),
    "LAPS, pools fixed": ("laps", {"cool_down_seconds": 1e6}),
}


def workload(data: Path, seed: int = 0) -> Workload:
    """Return a mixture of first turns with ShareGPT's prompts and short later turns."""
    rng = np.random.default_rng(seed)
    prompts = read_trace(data / "lengths" / "sharegpt_8k.parquet").prompt_tokens
    first = prompts[rng.integers(0, len(prompts), REQUESTS)]
    later = rng.integers(8, 257, REQUESTS)
    trace = build_trace(
        name="turns",
        prompt_tokens=np.where(rng.random(REQUESTS) < LATER_TURNS, later, first).astype(np.int64),
        output_tokens=np.full(REQUESTS, 8, dtype=np.int64),
        arrival_seconds=np.cumsum(rng.exponential(1.0, REQUESTS)),
    )
    return make_workload(trace)


def fleet(route: str, parameters: dict[str, Any]) -> Design:
    """Return eight prefill replicas, and more decode replicas than are needed."""
    model, gpu = load_model("qwen2.5-32b"), load_gpu("h200")
    step_time, blocks = Roofline(model, gpu), kv_blocks(model, gpu) - 1

    def group(role: str, count: int, tokens: int) -> Group:
        limits = EngineLimits(
            num_gpu_blocks=blocks, max_num_batched_tokens=tokens, max_model_len=16_384
        )
        size = model.kv_token_bytes(1)
        recipe = load_recipe("vllm")
        return Group(role, count, recipe, limits, step_time, role=role, kv_token_bytes=size)

    return Design(
        "fleet",
        (group("prefill", REPLICAS, 8192), group("decode", 16, 2048)),
        route=policy("route", route, **parameters),
        place=policy("place", "least_loaded"),
        scale=policy("scale", "fixed"),
        default_link=Link("nvlink", 300e9),
    )


def main() -> None:
    """Run and print."""
    given = arguments(__doc__)
    requests = workload(given.data)
    short = np.array(requests.prompt) <= 256
    numbers: dict[str, Any] = {}
    rows = []
    for name, (route, parameters) in ROUTES.items():
        line = [name]
        for rate in RATES:
            record = FleetSimulation(requests, fleet(route, parameters), rate).run()
            ttft = (record.requests.first_token - record.requests.arrival) / SECOND
            late = ttft > SLO_SECONDS
            shares = [float(late.mean()), float(late[short].mean()), float(late[~short].mean())]
            numbers[f"{name}, {rate:g}/s"] = shares
            line.append(" / ".join(f"{share:.1%}" for share in shares))
        rows.append(line)
    print(table(("all / short / long late at", *(f"{rate:g}/s" for rate in RATES)), rows))
    keep(given.out, numbers)


if __name__ == "__main__":
    main()
