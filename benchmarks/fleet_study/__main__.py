"""Runs the study: python -m benchmarks.fleet_study [--traces azure23_conv,...] [--write].

Loads are fractions of what round robin over stock vLLM sustains on the same trace. Every design
has the same 16 GPUs, so per GPU and per dollar give the same order; dollars are shown because they
are what is paid. A design wins if its goodput is more than 3 % above the better of round robin and
vLLM's own balancer, and above all others'; else stock is kept.
"""

from __future__ import annotations

import argparse
import json
import re
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from benchmarks.fleet_study.designs import BASELINE, GPU, GPUS, MODEL, SHAPES
from benchmarks.fleet_study.page import page
from benchmarks.fleet_study.runs import BOUNDS, run, sustained

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = ROOT / "docs" / "reference" / "fleet-study.md"
DATA: Final = ROOT.parent / "shared" / "data" / "traces"
MEASURED: Final = re.compile(r"(<!-- measured -->\n).*(\n<!-- end -->)", re.DOTALL)
LOADS: Final = (0.7, 0.9, 1.1)


def main() -> None:
    """Measure capacities, run all designs, write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet_study", description=__doc__)
    parser.add_argument("--traces", default=",".join(BOUNDS), help="names, separated by commas")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the traces")
    parser.add_argument("--requests", type=int, default=16_000, help="least requests in each run")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="results; those of other traces in it are kept"
    )
    parser.add_argument("--write", action="store_true", help="put the tables into the docs page")
    given = parser.parse_args()
    began = perf_counter()
    data, names = str(given.data), given.traces.split(",")

    def tell(text: str) -> None:
        print(f"[{perf_counter() - began:5.0f} s] {text}", flush=True)

    results: list[dict[str, Any]] = []
    capacities: dict[str, float] = {}
    if given.json is not None and given.json.exists():
        before = json.loads(given.json.read_text(encoding="utf-8"))
        results = [one for one in before["results"] if one["trace"] not in names]
        capacities = dict(before["capacities"])
    with ProcessPoolExecutor(given.jobs, mp_context=get_context("spawn")) as pool:
        tasks = []
        found = pool.map(sustained, names, repeat(data), repeat(given.requests))
        for name, (scale, rate) in zip(names, found, strict=True):
            capacities[name] = rate
            tell(f"{name}: {BASELINE} sustains {rate:.1f}/s on {GPUS} x {GPU}, {MODEL}")
            tasks += [
                (name, data, given.requests, shape, load, load * scale)
                for load in LOADS
                for shape in SHAPES
            ]
        for result in pool.map(run, tasks):
            results.append(result)
            tell(
                f"{result['trace']} {result['load']:.1f} {result['design']}: goodput "
                f"{result['goodput']:.1f}/s, p99 TTFT {result['ttft_p99']:.2f} s "
                f"({result['seconds']:.1f} s)"
            )
            if given.json is not None:  # a study that is cut short keeps what it had
                document = {"capacities": capacities, "results": results}
                given.json.write_text(json.dumps(document, indent=1), encoding="utf-8")
    shown = {name: capacities[name] for name in BOUNDS if name in capacities}
    body = page(results, shown, BOUNDS)
    if given.write:
        text = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(MEASURED.sub(lambda m: m[1] + body + m[2], text), encoding="utf-8")
    else:
        print(body)


if __name__ == "__main__":
    main()
