"""Runs of a replication: mean per-token latency of each row at each rate, for each seed."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.replications.settings import Row, Settings, Work
from sojourn.catalog import load_gpu, load_model
from sojourn.cost import Roofline, kv_blocks
from sojourn.decide.clock import SECOND
from sojourn.decide.limits import EngineLimits
from sojourn.recipes import load_recipe
from sojourn.sim.loop import Setup, Simulation
from sojourn.sim.study import Fleet
from sojourn.sim.workload import Workload, make_workload
from sojourn.trace import read_trace
from sojourn.trace.model import build_trace

BLOCK: Final = 16


@dataclass(frozen=True, slots=True)
class Point:
    """One run.

    Attributes:
        per_token: Mean over requests of E2E time over output tokens, seconds.
        first_token: Mean time to the first token, seconds.
        gap: p99 of the longest pause inside a stream, seconds.
    """

    per_token: float
    first_token: float
    gap: float


Points = dict[tuple[str, str, float, int], Point]
"""By workload, row, rate and seed."""


def draw(work: Work, data: Path, seed: int) -> Workload:
    """Return a workload with Poisson arrivals at one request per second."""
    rng = np.random.default_rng(seed)
    count = work.requests
    if work.lengths:
        source = read_trace(data / work.lengths)
        picks = rng.integers(0, len(source), count)
        prompt, output = source.prompt_tokens[picks], source.output_tokens[picks]
    else:
        prompt = np.ceil(rng.exponential(work.prompt_mean, count)).astype(np.int64)
        output = np.ceil(rng.exponential(work.output_mean, count)).astype(np.int64)
    arrivals = np.cumsum(rng.exponential(1.0, count))
    trace = build_trace(
        name=work.name, prompt_tokens=prompt, output_tokens=output, arrival_seconds=arrivals
    )
    return make_workload(trace)


def setup(settings: Settings, row: Row) -> Setup:
    """Return what runs a row."""
    engine = settings.engine
    model, gpu = load_model(engine.model), load_gpu(engine.gpu)
    usable = kv_blocks(model, gpu) - 1
    block_bytes = BLOCK * model.kv_token_bytes(1)
    swap_bytes = settings.published.swap_space_gib * 2**30
    limits = EngineLimits(
        num_gpu_blocks=usable,
        block_size=BLOCK,
        max_num_seqs=row.seats,
        max_num_batched_tokens=engine.max_num_batched_tokens,
        max_model_len=min(model.max_positions or usable * BLOCK, usable * BLOCK),
        swap_blocks=int(swap_bytes / block_bytes) if row.host == "ideal" else 0,
    )
    seconds = block_bytes / (engine.swap_gb_per_second * 1e9)
    fleet = Fleet(limits, Roofline(model, gpu), swap_block_seconds=seconds)
    return fleet.built(load_recipe(row.recipe, row.host))


def measure(workload: Workload, made: Setup, rate: float) -> Point:
    """Run a workload at a rate; every request must finish."""
    rows = Simulation(workload, made, rate).run().requests
    assert (rows.finish >= 0).all(), "a request did not finish"
    waited = (rows.finish - rows.arrival) / SECOND
    return Point(
        per_token=float((waited / rows.output_tokens).mean()),
        first_token=float((rows.first_token - rows.arrival).mean() / SECOND),
        gap=float(np.quantile(rows.gap, 0.99) / SECOND),
    )


def run_seed(settings: Settings, data: Path, seed: int) -> Points:
    """Run everything of a seed; all rows see the same requests."""
    setups = {row.name: setup(settings, row) for row in settings.rows}
    found: Points = {}
    for work in settings.workloads:
        workload = draw(work, data, seed)
        for rate in work.rates:
            for name, made in setups.items():
                found[work.name, name, rate, seed] = measure(workload, made, rate)
    return found


def run_all(settings: Settings, data: Path, jobs: int) -> Points:
    """Run all seeds, `jobs` at a time."""
    found: Points = {}
    with ProcessPoolExecutor(jobs) as pool:
        for points in pool.map(partial(run_seed, settings, data), settings.run.seeds):
            found.update(points)
    return found


def broken(settings: Settings, points: Points) -> Sequence[str]:
    """Return a sentence for each claim of the settings that does not hold."""
    sentences = []
    for claim in settings.claims:
        for seed in settings.run.seeds:
            low, high = (
                points[claim.workload, name, claim.rate, seed].per_token
                for name in (claim.lower, claim.higher)
            )
            if low >= high:
                sentences.append(
                    f"{claim.workload}, {claim.rate:g} /s, seed {seed}: {claim.lower} has "
                    f"{low:.3f} s a token, {claim.higher} {high:.3f} s"
                )
    return sentences
