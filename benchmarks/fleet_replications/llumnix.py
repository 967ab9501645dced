"""Llumnix (OSDI 2024) on its own setting: 16 A10s, LLaMA-7B, power-law lengths, 10,000 requests.

    python -m benchmarks.fleet_replications.llumnix [--requests 10000] [--out llumnix.json]

Prints tables of what is published beside what comes out here, and writes all numbers as JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from multiprocessing import Pool
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.fleet_replications.llumnix_setting import (
    A10,
    SYSTEMS,
    Case,
    System,
    fleet,
    workload,
)
from sojourn.decide.clock import SECOND, Time
from sojourn.sim.fleet.loop import FleetSimulation
from sojourn.steplog.record import RunRecord


@dataclass(frozen=True, slots=True)
class Outcome:
    """Numbers of one run; times in seconds."""

    system: str
    mean: int
    rate: float
    cv: float
    replicas: int
    ttft_mean: float
    ttft_p99: float
    tpot_mean: float
    tpot_p99: float
    e2e_mean: float
    preempted_share: float
    preemption_loss_mean: float
    memory_load: float
    migrations: int
    aborted: int
    downtime_mean: float
    downtime_p99: float
    gap_p99: float
    migrating_share: float
    replica_hours: float


def outcome(system: System, case: Case, replicas: int, record: RunRecord) -> Outcome:
    """Return the numbers of a run."""
    rows, found = record.requests, record.fleet
    assert found is not None
    ttft = (rows.first_token - rows.arrival) / SECOND
    many = rows.output_tokens > 1
    spent = (rows.finish - rows.first_token)[many] / SECOND
    tpot = spent / (rows.output_tokens[many] - 1)
    moves = [one for one in found.moves if one.outcome == "done"]
    down = [one.down / SECOND for one in moves] or [0.0]
    steps = record.steps
    end = float((steps.start + steps.duration).max())
    used = float((steps.kv_used * (steps.duration / SECOND)).sum())
    busy = sum(min(unit.ended, end) - unit.up for unit in found.units if unit.up >= 0) / SECOND
    moving = sum(one.ended - one.began for one in found.moves) / SECOND
    return Outcome(
        system=system.name,
        mean=case.mean,
        rate=case.rate,
        cv=case.cv,
        replicas=replicas,
        ttft_mean=float(ttft.mean()),
        ttft_p99=float(np.percentile(ttft, 99)),
        tpot_mean=float(tpot.mean()),
        tpot_p99=float(np.percentile(tpot, 99)),
        e2e_mean=float(((rows.finish - rows.arrival) / SECOND).mean()),
        preempted_share=float((rows.preemptions > 0).mean()),
        preemption_loss_mean=float(rows.recomputed_tokens.mean()),
        memory_load=used / (record.kv_blocks * busy),
        migrations=len(moves),
        aborted=len(found.moves) - len(moves),
        downtime_mean=float(np.mean(down)),
        downtime_p99=float(np.percentile(down, 99)),
        gap_p99=float(np.percentile(rows.gap / SECOND, 99)),
        migrating_share=moving / busy,
        replica_hours=found.dollars,
    )


def run(task: tuple[System, Case, int, int]) -> Outcome:
    """Run one system on one case; it may scale down to `least` replicas, if that is not 0."""
    system, case, replicas, least = task
    design = fleet(system, replicas, least=least)
    record = FleetSimulation(workload(case, replicas), design).run()
    return outcome(system, case, replicas, record)


def in_order(tasks: Sequence[tuple[System, Case, int, int]], processes: int) -> list[Outcome]:
    """Run all tasks."""
    if processes == 1:
        return [run(task) for task in tasks]
    with Pool(processes) as pool:
        return pool.map(run, tasks, chunksize=1)


def downtimes() -> list[tuple[str, ...]]:
    """Return, by length, how long the stream of a lone request stands still when it moves.

    In stages, in one copy, and by computing its KV anew; each with the bytes that move.
    """
    rows = []
    for length in (500, 2000, 6000):
        pauses = []
        for stages in (3, 0):
            design = replace(fleet(SYSTEMS[0], 2), most_stages=stages)
            sim = FleetSimulation(workload(Case(256, 1.0, requests=1), 1), design)
            sim.workload.prompt[0], sim.workload.output[0] = length, 400

            def move(now: Time, sim: FleetSimulation = sim) -> None:
                request, _ = sim.open[0]
                assert sim.moves.migrate(request, sim.units[0], sim.units[1], now)

            sim.call(sim.starts[0][0] + 8 * SECOND, move)
            record = sim.run()
            assert record.fleet is not None
            (made,) = record.fleet.moves
            pauses.append((made.down / SECOND, made.bytes))
        again = A10.step(length, length * (length + 1) // 2, 0, 1, 0, 0) / SECOND
        staged, one_copy = pauses
        rows.append(
            (
                f"{length}",
                f"{staged[1] / 1e6:.0f}",
                f"{1000 * staged[0]:.1f}",
                f"{1000 * one_copy[0]:.0f}",
                f"{1000 * again:.0f}",
                f"{again / staged[0]:.0f}x",
            )
        )
    return rows


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [" | ".join(head), " | ".join("---" for _ in head), *(" | ".join(r) for r in rows)]
    return "\n".join(f"| {line} |" for line in lines)


def dispatch_table(found: Sequence[Outcome]) -> str:
    """Return what each system makes of each workload."""
    head = (
        "mean length, arrivals",
        "system",
        "memory load",
        "TTFT mean s",
        "TTFT P99 s",
        "TPOT P99 ms",
        "preempted",
        "migrations (aborted)",
        "downtime mean / P99 ms",
    )
    rows = [
        (
            f"{one.mean}, {'Poisson' if one.cv == 1 else f'Gamma CV {one.cv:g}'}",
            one.system,
            f"{one.memory_load:.0%}",
            f"{one.ttft_mean:.2f}",
            f"{one.ttft_p99:.2f}",
            f"{1000 * one.tpot_p99:.0f}",
            f"{one.preempted_share:.1%}",
            f"{one.migrations} ({one.aborted})" if one.migrations + one.aborted else "",
            f"{1000 * one.downtime_mean:.1f} / {1000 * one.downtime_p99:.1f}"
            if one.migrations
            else "",
        )
        for one in found
    ]
    return table(head, rows)


def most(found: Sequence[Outcome], base: str, field: Callable[[Outcome], float]) -> float:
    """Return the largest factor by which Llumnix (paper) is better than a baseline."""
    cases: dict[tuple[int, float, float], dict[str, float]] = {}
    for one in found:
        cases.setdefault((one.mean, one.rate, one.cv), {})[one.system] = field(one)
    return max(by[base] / by["Llumnix (paper)"] for by in cases.values() if base in by)


SCALED: Final = (40.0, 120.0, 360.0)
"""Lower ends of the band of freeness, in decode steps; the upper end is six times that."""


def scaling_tasks(case: Case) -> list[tuple[System, Case, int, int]]:
    """Return the runs that scale from 10 replicas to at least 4 and at most 16."""
    systems = []
    for low in SCALED:
        band = (("scale", "low_steps", low), ("scale", "high_steps", 6 * low))
        load = (*band, ("scale", "whole_queue", True))
        systems.append(System(f"INFaaS++ {low:g}", "infaas", "least_loaded", "llumnix", load))
        systems.append(System(f"Llumnix {low:g}", "llumnix", "llumnix", "llumnix", band))
    return [(system, case, 10, 4) for system in systems]


def cheapest(found: Sequence[Outcome], name: str, p99: float) -> float:
    """Return the fewest replica hours with which a system's P99 TTFT is at most `p99`."""
    hours = [o.replica_hours for o in found if o.system.startswith(name) and o.ttft_p99 <= p99]
    return min(hours, default=float("nan"))


def equal_p99(found: Sequence[Outcome]) -> tuple[float, float]:
    """Return the P99 TTFT at which scaling Llumnix saves most against INFaaS++, and the saving."""
    best = (float("nan"), 0.0)
    for one in found:
        theirs = cheapest(found, "INFaaS++", one.ttft_p99)
        ours = cheapest(found, "Llumnix", one.ttft_p99)
        if theirs == theirs and ours == ours and 1 - ours / theirs > best[1]:
            best = (one.ttft_p99, 1 - ours / theirs)
    return best


def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    size = given.requests
    head = ("tokens", "MB", "staged ms", "one copy ms", "computed anew ms", "anew / staged")
    print(table(head, downtimes()), "\n")
    one = Case(256, 0.42, requests=max(size // 2, 4000))
    (alone,) = in_order([(SYSTEMS[0], one, 1, 0)], 1)
    print(f"One replica, mean 256, {one.rate} requests a second (published: 62 % of memory, 8 %):")
    print(f"  memory load {alone.memory_load:.0%}, preempted {alone.preempted_share:.1%}\n")
    cases = [
        replace(case, requests=size)
        for case in (
            Case(128, 4.0),
            Case(256, 0.5),
            Case(512, 0.16),
            Case(256, 0.42, cv=4.0),
        )
    ]
    tasks = [(system, case, 16, 0) for case in cases for system in SYSTEMS]
    found = in_order(tasks, given.processes)
    print(dispatch_table(found), "\n")
    scaled = in_order(scaling_tasks(Case(256, 0.42, cv=2.0, requests=size)), given.processes)
    p99, saving = equal_p99(scaled)
    print(
        table(
            ("scaling, lower end of the band", "replica hours", "TTFT P99 s"),
            [(o.system, f"{o.replica_hours:.2f}", f"{o.ttft_p99:.2f}") for o in scaled],
        ),
        "\n",
    )
    down = [o for o in found if o.migrations and o.system == "Llumnix (paper)"]
    rows = [
        (
            "P99 TTFT, round robin / Llumnix, most",
            "15x",
            f"{most(found, 'round robin', lambda o: o.ttft_p99):.1f}x",
        ),
        (
            "mean TTFT, round robin / Llumnix, most",
            "7.7x",
            f"{most(found, 'round robin', lambda o: o.ttft_mean):.1f}x",
        ),
        (
            "P99 TPOT, round robin / Llumnix, most",
            "2x",
            f"{most(found, 'round robin', lambda o: o.tpot_p99):.1f}x",
        ),
        (
            "P99 TTFT, INFaaS++ / Llumnix, most",
            "",
            f"{most(found, 'INFaaS++', lambda o: o.ttft_p99):.1f}x",
        ),
        (
            "P99 TPOT, INFaaS++ / Llumnix, most",
            "",
            f"{most(found, 'INFaaS++', lambda o: o.tpot_p99):.1f}x",
        ),
        ("replica hours saved at equal P99 TTFT", "36 %", f"{saving:.0%} (at {p99:.1f} s)"),
        (
            "downtime",
            "20-30 ms",
            f"{1000 * min(o.downtime_mean for o in down):.0f}-"
            f"{1000 * max(o.downtime_p99 for o in down):.0f} ms",
        ),
        (
            "preempted at 0.42 requests a second, one replica",
            "8 %",
            f"{alone.preempted_share:.1%} (memory {alone.memory_load:.0%}, published 62 %)",
        ),
        (
            "migrating, of all replica time",
            "about 10 %",
            f"{max(o.migrating_share for o in down):.1%}",
        ),
    ]
    print(table(("what", "published", "ours"), rows))
    if given.out is not None:
        every = {
            "one": asdict(alone),
            "dispatch": [asdict(o) for o in found],
            "scaling": [asdict(o) for o in scaled],
            "claims": rows,
        }
        given.out.write_text(json.dumps(every, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
