"""Whole `sojourn simulate` commands: each kind of traffic at each load with each recipe."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.speed.child import sojourn
from benchmarks.speed.workloads import ENGINE, LOADS, Workload
from sojourn.recipes import recipe_names

RECIPES: Final = recipe_names()
STOCK: Final = "vllm"
AIM_STOCK: Final = 20_000
"""Requests per CPU second wanted of the `vllm` recipe."""
AIM_ANY: Final = 5_000
"""Requests per CPU second wanted of every recipe."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One command.

    Attributes:
        kind: Name of the traffic.
        load: Fraction of the capacity.
        recipe: Name of the recipe.
        cpu_seconds: What the command took.
        requests_per_cpu_second: Requests over that.
        decision_microseconds: Mean time of one decision, engine bookkeeping included.
        steps: Engine steps simulated.
        memory_mib: Largest resident set.
    """

    kind: str
    load: float
    recipe: str
    cpu_seconds: float
    requests_per_cpu_second: float
    decision_microseconds: float
    steps: int
    memory_mib: float

    @property
    def aim(self) -> int:
        """The aim that holds for its recipe."""
        return AIM_STOCK if self.recipe == STOCK else AIM_ANY


def measure(workload: Workload, load: float, recipe: str, folder: Path) -> Cell:
    """Run one command."""
    results = folder / f"{workload.path.stem}_{load}_{recipe}.json"
    cost = sojourn(
        *("simulate", str(workload.path), *ENGINE, "--recipe", recipe, "-q"),
        *("--rate-scale", repr(workload.scale * load), "--json", str(results)),
    )
    row = json.loads(results.read_text(encoding="utf-8"))["results"][0]
    return Cell(
        kind=workload.kind.name,
        load=load,
        recipe=recipe,
        cpu_seconds=cost.cpu_seconds,
        requests_per_cpu_second=row["requests"] / cost.cpu_seconds,
        decision_microseconds=row["timing"]["decision_microseconds_mean"],
        steps=row["steps"],
        memory_mib=cost.memory_mib,
    )


def measure_all(
    workloads: Iterable[Workload], folder: Path, jobs: int, every: bool
) -> Iterator[Cell]:
    """Run the commands, `jobs` at a time, and yield them in order."""
    wanted = [
        (workload, load, recipe)
        for workload in workloads
        for load in LOADS
        for recipe in (RECIPES if every else (STOCK, workload.kind.slowest))
    ]
    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(lambda cell: measure(*cell, folder), wanted)


def verdict(cells: Sequence[Cell]) -> str:
    """Say in how many commands the aims are met."""
    parts = []
    for aim in (AIM_STOCK, AIM_ANY):
        ratios = [cell.requests_per_cpu_second / aim for cell in cells if cell.aim == aim]
        met = sum(ratio >= 1 for ratio in ratios)
        parts.append(
            f"{aim:,} requests per CPU second ({'vllm' if aim == AIM_STOCK else 'any other'}): "
            f"met in {met} of {len(ratios)}, lowest {min(ratios):.2f} of it"
        )
    return f"Aims: {'; '.join(parts)}."


def table(cells: Iterable[Cell]) -> str:
    """Return the commands as a Markdown table."""
    lines = [
        "| traffic | load | recipe | CPU s | requests / CPU s | of the aim | µs / decision "
        "| steps | MiB |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {cell.kind} | {cell.load:g} | {cell.recipe} | {cell.cpu_seconds:.1f} "
        f"| {cell.requests_per_cpu_second:,.0f} | {cell.requests_per_cpu_second / cell.aim:.2f} "
        f"| {cell.decision_microseconds:.1f} | {cell.steps:,} | {cell.memory_mib:.0f} |"
        for cell in cells
    ]
    return "\n".join(lines)
