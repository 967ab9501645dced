"""OPT-13B on A100-80G as DistServe measured it, and ShareGPT lengths that fit its context."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from sojourn.cost import Phased, Phases
from sojourn.cost.phases import OPT_13B_A100, OPT_13B_KV_TOKEN_BYTES, OPT_13B_KV_TOKENS
from sojourn.recipes import load_recipe
from sojourn.sim.fleet.placement import Engine
from sojourn.sim.workload import Workload, make_workload
from sojourn.trace import read_trace
from sojourn.trace.model import build_trace

CONTEXT: Final = 2048
UNBOUNDED: Final = 4_000_000
VLLM_A100: Final = {
    1: Phases(
        (22.052204789310185, 0.14050923870128956, 8.076584822611088e-06),
        (23.475041008414784, 0.000592934466077393, 0.060726861260369455),
        (20.206356173691958, 0.0004907727036234946, 0.1200031385587413),
    )
}
"""The same model in the vLLM of 2023 (profiler-a100-80g.vllm.json, same source)."""


def engine(*, bounded: bool = True, phases: Mapping[int, Phases] = OPT_13B_A100) -> Engine:
    """Return the engine; not `bounded`, decode has KV for everyone, as in simdistserve."""

    def kv_tokens(tensor: int, pipeline: int) -> int:
        held = OPT_13B_KV_TOKENS.get((tensor, pipeline), 0) if tensor in phases else 0
        return held if bounded or not held else UNBOUNDED

    return Engine(
        step_time=lambda tensor, _: Phased(phases[tensor]),
        kv_tokens=kv_tokens,
        kv_token_bytes=OPT_13B_KV_TOKEN_BYTES,
        prefill=load_recipe("distserve-prefill"),
        decode=load_recipe("vllm"),
    )


def lengths(data: Path, prompt_mean: float = 0, output_mean: float = 0) -> list[tuple[int, int]]:
    """Return ShareGPT's lengths up to OPT's context, scaled to given means."""
    trace = read_trace(data / "lengths" / "sharegpt_8k.parquet")
    fits = trace.prompt_tokens + trace.output_tokens <= CONTEXT
    prompt, output = trace.prompt_tokens[fits], trace.output_tokens[fits]
    found = []
    for column, mean in ((prompt, prompt_mean), (output, output_mean)):
        scale = mean / column.mean() if mean else 1.0
        found.append(np.maximum(np.rint(column * scale), 1).astype(int))
    keep = found[0] + found[1] <= CONTEXT
    return list(zip(found[0][keep].tolist(), found[1][keep].tolist(), strict=True))


def poisson(pairs: list[tuple[int, int]], count: int, seed: int = 0) -> Workload:
    """Return requests with these lengths at a mean of one per second."""
    rng = np.random.default_rng(seed)
    picks = np.array(pairs, dtype=np.int64)[rng.integers(0, len(pairs), count)]
    return make_workload(
        build_trace(
            name="opt-13b",
            prompt_tokens=picks[:, 0],
            output_tokens=picks[:, 1],
            arrival_seconds=np.cumsum(rng.exponential(1.0, count)),
        )
    )
