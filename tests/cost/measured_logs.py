"""Step logs of a simulated engine whose coefficients are known, with a real machine's noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sojourn.cost import Coefficients, Fitted
from sojourn.decide.limits import EngineLimits
from sojourn.recipes import load_recipe
from sojourn.sim.study import Fleet, Task, run_task
from sojourn.sim.workload import make_workload
from sojourn.steplog.record import RunRecord, StepColumns
from sojourn.steplog.write import Source
from sojourn.trace import read_trace

TRUE = Coefficients(
    fixed=6e-3,
    prefill_token=2e-5,
    pair=8e-10,
    prior_token=6e-7,
    prompt=1e-5,
    decode=2e-4,
    context_token=5e-8,
    mixed_context_token=3e-8,
    mixed_token_decode=2e-9,
)
BENT = replace(
    TRUE, prefill_token=0.0, dense_until=(16, 64), dense_token=(4e-4, 1.5e-4, 2e-5), decode=1e-5
)
"""A token costs less the more there are in a step, as on a CPU."""

LIMITS = EngineLimits(
    num_gpu_blocks=2000, max_num_seqs=48, max_num_batched_tokens=512, max_model_len=8192
)
SOURCE = Source(
    "sample",
    "tiny",
    "cpu",
    0,
    {
        "num_gpu_blocks": 2001,
        "block_size": 16,
        "max_num_seqs": 48,
        "max_num_batched_tokens": 512,
        "max_model_len": 8192,
        "enable_prefix_caching": True,
        "tensor_parallel_size": 1,
    },
)


def record_of(
    coefficients: Coefficients = TRUE, recipe: str = "vllm", requests: int = 600, rate: float = 1.5
) -> RunRecord:
    """Return the record of a simulated run."""
    workload = make_workload(read_trace("sample", limit=requests), (), 0)
    fleet = Fleet(LIMITS, Fitted(coefficients))
    return run_task(workload, fleet, Task(load_recipe(recipe), rate))


def shifted(steps: StepColumns, duration, between=0) -> StepColumns:
    """Return the steps with other durations, each as much later as those before took longer."""
    duration = np.rint(duration).astype(np.int64)
    later = np.cumsum(duration - steps.duration + between)
    start = steps.start + np.concatenate([[0], later[:-1]])
    return replace(steps, start=start, duration=duration)


def noisy(steps: StepColumns, spread: float, stalls: float = 0.0, seed: int = 0) -> StepColumns:
    """Return the steps with noise of each step's length, and with some that stood still."""
    chance = np.random.default_rng(seed)
    factor = np.exp(chance.normal(0.0, spread, len(steps.start)) / np.sqrt(steps.steps))
    stood = chance.random(len(factor)) < stalls
    factor[stood] *= chance.uniform(20, 300, int(stood.sum()))
    return shifted(steps, steps.duration * factor)
