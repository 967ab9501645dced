"""Runs the benchmark: python -m benchmarks.speed [TRACES_DIR] [--all] [--peer PYTHON]."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Final

from benchmarks.speed import cells, peer, stepping
from benchmarks.speed.workloads import LOADS, Workload, make_all

ROOT: Final = Path(__file__).resolve().parents[2]
TRACES: Final = ROOT.parent / "shared" / "data" / "traces"
PAGE: Final = ROOT / "docs" / "reference" / "speed.md"
MEASURED: Final = re.compile(r"(<!-- measured -->\n).*(\n<!-- end -->)", re.DOTALL)


class Report:
    """What was measured, printed as it comes and kept for the page."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    def add(self, *parts: str) -> None:
        """Take paragraphs and tables."""
        for part in parts:
            self.parts.append(part)
            print(f"{part}\n", flush=True)

    def write(self, page: Path) -> None:
        """Put everything between the page's two marks."""
        text = page.read_text(encoding="utf-8")
        body = "\n\n".join(self.parts)
        page.write_text(MEASURED.sub(lambda m: m[1] + body + m[2], text), encoding="utf-8")


def main() -> None:
    """Measure, and print Markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("traces", nargs="?", type=Path, default=TRACES, help="folder of traces")
    parser.add_argument("--requests", type=int, default=100_000, help="of each kind of traffic")
    parser.add_argument("--jobs", type=int, default=2, help="commands at a time")
    parser.add_argument("--all", action="store_true", help="every recipe, not the slowest alone")
    parser.add_argument("--peer", metavar="PYTHON", help="a Python that has ai-dynamo-runtime")
    parser.add_argument("--write", action="store_true", help="put the tables into the docs page")
    given = parser.parse_args()
    began = perf_counter()
    report = Report()
    with TemporaryDirectory() as folder:
        workloads = make_all(given.traces, Path(folder), given.requests, given.jobs)
        if not workloads:
            raise SystemExit(f"nothing to measure: {given.traces} has none of the traces")
        _measure(workloads, Path(folder), given, report)
    print(f"{perf_counter() - began:.0f} s in all")
    if given.write:
        report.write(PAGE)


def _measure(
    workloads: list[Workload], folder: Path, given: argparse.Namespace, report: Report
) -> None:
    report.add("\n".join(f"- {workload.sentence()}" for workload in workloads))
    found = list(cells.measure_all(workloads, folder, given.jobs, given.all))
    report.add("## Whole commands", cells.table(found), cells.verdict(found))
    # At low load one kind alone has a million steps: only --all waits for that.
    loads = [load for load in LOADS if given.all or load == 0.9]
    pairs = [stepping.compare(one, load) for one in workloads for load in loads]
    report.add("## Jumping over identical steps", stepping.table(pairs))
    if given.peer:
        races = peer.races(workloads, given.peer, folder, given.requests)
        report.add("## Beside NVIDIA Dynamo's offline replay", peer.table(races))


if __name__ == "__main__":
    main()
