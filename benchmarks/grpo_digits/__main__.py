"""Runs the benchmark: python -m benchmarks.grpo_digits [--seeds 5] [--arms sync,april] [--write].

Needs torch, on the CPU. Every arm runs with every seed, two at a time, each on one thread; the
first weights are made once. `--write` puts the tables into the docs page.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from benchmarks.grpo_digits.arms import ARMS
from benchmarks.grpo_digits.page import last, page
from benchmarks.grpo_digits.training import Sizes, first_weights, run

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = ROOT / "docs" / "reference" / "grpo-digits.md"
MEASURED: Final = re.compile(r"(<!-- measured -->\n).*(\n<!-- end -->)", re.DOTALL)


def main() -> None:
    """Make the first weights, run all arms, show or write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.grpo_digits", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--arms", default=",".join(ARMS), help="names, separated by commas")
    parser.add_argument("--updates", type=int, default=Sizes().updates)
    parser.add_argument("--rate", type=float, default=Sizes().rate)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--weights", type=Path, help="first weights; made and kept if not there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    parser.add_argument("--write", action="store_true", help="put the tables into the docs page")
    given = parser.parse_args()
    names = given.arms.split(",")
    if unknown := [name for name in names if name not in ARMS]:
        parser.error(f"unknown arm {unknown[0]!r}; allowed: {', '.join(ARMS)}")
    began = perf_counter()

    def tell(text: str) -> None:
        print(f"[{perf_counter() - began:5.0f} s] {text}", flush=True)

    sizes = Sizes(updates=given.updates, rate=given.rate)
    with tempfile.TemporaryDirectory() as folder:
        weights = given.weights or Path(folder) / "first.pt"
        results = run_all(names, given.seeds, sizes, weights, given.jobs, tell)
    first = sum(one["looks"][0][at] for one in results[:1] for at in one["looks"][0])
    body = page(results, sizes, first / sizes.digits_max)
    if given.json is not None:
        given.json.write_text(json.dumps(results, indent=1), encoding="utf-8")
    if given.write:
        text = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(MEASURED.sub(lambda m: m[1] + body + m[2], text), encoding="utf-8")
    else:
        print(body)


def run_all(
    names: list[str], seeds: int, sizes: Sizes, weights: Path, jobs: int, tell: Any
) -> list[dict[str, Any]]:
    """Return the results of all arms and seeds, in that order."""
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        if not weights.exists():
            pool.submit(first_weights, sizes, weights).result()
            tell("the first weights are made")
        keys = [(name, seed) for seed in range(seeds) for name in names]
        futures = {
            pool.submit(run, name, seed, sizes, weights): (name, seed) for name, seed in keys
        }
        found = {}
        for future in as_completed(futures):
            result = found[futures[future]] = future.result()
            tell(
                f"{result['arm']}, seed {result['seed']}: {last(result):.1%} solved, "
                f"{result['steps']:,} steps, {result['generated']:,} tokens"
            )
    return [found[key] for key in sorted(keys, key=lambda key: (names.index(key[0]), key[1]))]


if __name__ == "__main__":
    main()
