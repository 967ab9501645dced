"""Runs the benchmark: python -m benchmarks.speed [TRACES_DIR] [--all] [--peer PYTHON]."""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Final

from benchmarks.speed import cells, peer, stepping
from benchmarks.speed.cells import AIM_ANY, AIM_STOCK
from benchmarks.speed.workloads import LOADS, Workload, make_all

TRACES: Final = Path(__file__).resolve().parents[3] / "shared" / "data" / "traces"


def main() -> None:
    """Measure, and print Markdown tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("traces", nargs="?", type=Path, default=TRACES, help="folder of traces")
    parser.add_argument("--requests", type=int, default=100_000, help="of each kind of traffic")
    parser.add_argument("--jobs", type=int, default=2, help="commands at a time")
    parser.add_argument("--all", action="store_true", help="every recipe, not the slowest alone")
    parser.add_argument("--peer", metavar="PYTHON", help="a Python that has ai-dynamo-runtime")
    given = parser.parse_args()
    began = perf_counter()
    with TemporaryDirectory() as folder:
        workloads = make_all(given.traces, Path(folder), given.requests, given.jobs)
        if not workloads:
            raise SystemExit(f"nothing to measure: {given.traces} has none of the traces")
        _measure(workloads, Path(folder), given)
    print(f"\n{perf_counter() - began:.0f} s in all")


def _measure(workloads: list[Workload], folder: Path, given: argparse.Namespace) -> None:
    found = list(cells.measure_all(workloads, folder, given.jobs, given.all))
    print(f"\nWhole commands; aims: {AIM_STOCK:,} (vllm), {AIM_ANY:,} (any other)\n")
    print(cells.table(found), flush=True)
    print("\nJumping over identical steps, vllm, without start-up and report\n")
    # At low load one kind alone has a million steps: only --all waits for that.
    loads = [load for load in LOADS if given.all or load == 0.9]
    pairs = [stepping.compare(one, load) for one in workloads for load in loads]
    print(stepping.table(pairs), flush=True)
    if given.peer:
        print("\nNVIDIA Dynamo offline replay, whole commands, vllm\n")
        print(peer.table(peer.races(workloads, given.peer, folder, given.requests)), flush=True)


main()
