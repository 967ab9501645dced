"""Mooncake: TTFT by dispatch, and rejections by variant, on its conversation trace.

python -m benchmarks.fleet_replications.mooncake [--data FOLDER] [--out FILE]
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
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
from sojourn.steplog.record import RunRecord
from sojourn.trace import read_trace

TICK: Final = 3 * SECOND
"""The source gives times to the 3 s."""
PREFILLS: Final = 8
TENSOR: Final = 8
DISPATCH: Final = (
    ("random", 19.65, "random_choice", {}),
    ("load-balanced", 5.27, "join_shortest_tokens", {}),
    ("local cache-aware", 3.58, "mooncake_conductor", {"fetches": False}),
    ("global cache-aware", 3.07, "mooncake_conductor", {"fetches": True}),
)
DISPATCH_SCALES: Final = (0.8, 1.2)
REJECTED: Final = (("baseline", 4183), ("early", 3771), ("predicted", 3589))
PUBLISHED_REQUESTS: Final = 23_000
OVERLOADS: Final = ((1, 1.2, 0.06), (1, 1.5, 0.06))
"""Decode replicas, scale of the rate, and bound on a decode step in seconds."""
DECODE_SECONDS: Final = 15.0
TTFT_SECONDS: Final = 30.0


def workload(data: Path) -> Workload:
    """Return the trace, with the arrivals of each tick spread evenly over it."""
    made = make_workload(read_trace(data / "traces" / "mooncake_conversation.parquet"), (), 0, True)
    order = np.argsort(np.array(made.arrival), kind="stable").tolist()
    ticks = Counter(made.arrival)
    seen: Counter[int] = Counter()
    spread = list(made.arrival)
    for row in order:
        tick = made.arrival[row]
        spread[row] = tick + TICK * seen[tick] // ticks[tick]
        seen[tick] += 1
    return replace(made, arrival=spread, span=max(spread) - min(spread))


def fleet(
    requests: Workload,
    decodes: int,
    route: tuple[str, Any],
    place: tuple[str, Any] | None = None,
) -> Design:
    """Return nodes of eight A100s that each serve a 70B model, half of them for prefill."""
    model, gpu = load_model("llama-3.1-70b"), load_gpu("a100-80g")
    blocks = kv_blocks(model, gpu, TENSOR) - 1

    def group(role: str, count: int, tokens: int) -> Group:
        limits = EngineLimits(
            num_gpu_blocks=blocks,
            max_num_batched_tokens=tokens,
            max_model_len=131_072,
            block_tokens=requests.block_tokens,
        )
        return Group(
            role,
            count,
            load_recipe("vllm"),
            limits,
            Roofline(model, gpu, TENSOR),
            role=role,
            gpus=TENSOR,
            kv_token_bytes=TENSOR * model.kv_token_bytes(TENSOR),
        )

    return Design(
        "fleet",
        (group("prefill", PREFILLS, 8192), group("decode", decodes, 512)),
        route=route,
        place=place or policy("place", "least_loaded"),
        scale=policy("scale", "fixed"),
        default_link=Link("RDMA, 8 x 200 Gb/s", 100e9),
    )


def ttft(record: RunRecord) -> Any:
    """Return the times to the first token of all who got one."""
    rows = record.requests
    served = rows.first_token >= 0
    return (rows.first_token[served] - rows.arrival[served]) / SECOND


def dispatch(requests: Workload) -> tuple[list[list[Any]], dict[str, Any]]:
    """Return mean and P90 TTFT of each way to dispatch."""
    rows, numbers = [], {}
    for name, published, route, parameters in DISPATCH:
        line: list[Any] = [name, published]
        for scale in DISPATCH_SCALES:
            made = fleet(requests, 8, policy("route", route, **parameters))
            record = FleetSimulation(requests, made, scale).run()
            times = ttft(record)
            cached = record.requests.cached_tokens.sum() / record.requests.prompt_tokens.sum()
            mean, tail = float(times.mean()), float(np.quantile(times, 0.9))
            numbers[f"{name}, {scale:g}"] = {"mean": mean, "p90": tail, "cached": float(cached)}
            line.append(f"{mean:.2f} / {tail:.2f} / {cached:.0%}")
        rows.append(line)
    return rows, numbers


def rejections(requests: Workload) -> tuple[list[list[Any]], dict[str, Any]]:
    """Return how many requests each variant rejects, and after how much prefill in vain."""
    rows, numbers = [], {}
    for variant, published in REJECTED:
        line: list[Any] = [variant, f"{published} ({published / PUBLISHED_REQUESTS:.1%})"]
        for decodes, scale, bound in OVERLOADS:
            route = policy(
                "route",
                "early_rejection",
                variant=variant,
                ttft_slo_seconds=TTFT_SECONDS,
                tbt_slo_seconds=bound,
                decode_seconds=DECODE_SECONDS,
            )
            place = policy("place", "decode_limit", tbt_slo_seconds=bound)
            record = FleetSimulation(requests, fleet(requests, decodes, route, place), scale).run()
            shed = int((record.requests.finish < 0).sum())
            wasted = int(((record.requests.finish < 0) & (record.requests.first_token >= 0)).sum())
            reasons = Counter(record.reasons[one] for one in record.requests.reason if one >= 0)
            key = f"{variant}, {decodes} decode, {scale:g}"
            numbers[key] = {"shed": shed, "wasted": wasted, "reasons": dict(reasons)}
            line.append(f"{shed} ({shed / len(requests):.1%}), {wasted}")
        rows.append(line)
    return rows, numbers


def main() -> None:
    """Run and print."""
    given = arguments(__doc__)
    requests = workload(given.data)
    rows, means = dispatch(requests)
    scales = (f"ours at {scale:g}x: mean / P90 / cached" for scale in DISPATCH_SCALES)
    print(table(("dispatch", "published mean TTFT, s", *scales), rows) + "\n")
    rows, counts = rejections(requests)
    cases = (f"8 + {d}, {scale:g}x, {bound:g} s: ours, wasted" for d, scale, bound in OVERLOADS)
    print(table(("variant", "published of 23,000, 8 + 8, 2x", *cases), rows))
    keep(given.out, {"dispatch": means, "rejections": counts})


if __name__ == "__main__":
    main()
