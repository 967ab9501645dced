"""Runs the benchmark: python -m benchmarks.grpo_digits [--seeds 10] [--arms sync,april] [--write].

Needs torch, on the CPU. Every arm runs with every seed, each on one thread; the first weights are
made once. With `--json FILE` every result is put there as it comes, and what is there already is
not run again. `--write` puts the tables into the docs page.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from benchmarks.grpo_digits.arms import ARMS
from benchmarks.grpo_digits.page import last, page
from benchmarks.grpo_digits.training import Sizes, first_weights, run

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = ROOT / "docs" / "reference" / "grpo-digits.md"
MEASURED: Final = re.compile(r"(<!-- measured -->\n).*(<!-- end -->)", re.DOTALL)

Key = tuple[str, int]
Results = dict[Key, dict[str, Any]]


def main() -> None:
    """Make the first weights, run what is not there yet, show or write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.grpo_digits", description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--arms", default=",".join(ARMS), help="names, separated by commas")
    parser.add_argument("--updates", type=int, default=Sizes().updates)
    parser.add_argument("--rate", type=float, default=Sizes().rate)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--weights", type=Path, help="first weights; made and kept if not there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep all numbers there")
    parser.add_argument("--write", action="store_true", help="put the tables into the docs page")
    given = parser.parse_args()
    names = given.arms.split(",")
    if unknown := [name for name in names if name not in ARMS]:
        parser.error(f"unknown arm {unknown[0]!r}; allowed: {', '.join(ARMS)}")
    sizes = Sizes(updates=given.updates, rate=given.rate)
    found = kept(given.json, sizes)
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    wanted = [(name, seed) for seed in seeds for name in names]
    with tempfile.TemporaryDirectory() as folder:
        weights = given.weights or Path(folder) / "first.pt"
        run_all([key for key in wanted if key not in found], sizes, weights, given, found)
    # What an earlier run kept of these arms counts too, whatever its seeds.
    results = [found[key] for key in sorted(found) if key[0] in names]
    body = page(results, sizes)
    if given.write:
        text = PAGE.read_text(encoding="utf-8")
        body = MEASURED.sub(lambda match: f"{match[1]}\n{body}\n\n{match[2]}", text)
        PAGE.write_text(body, encoding="utf-8")
    else:
        print(body)


def kept(file: Path | None, sizes: Sizes) -> Results:
    """Return the results of an earlier run of the same sizes."""
    if file is None or not file.exists():
        return {}
    known = json.loads(file.read_text(encoding="utf-8"))
    if known["sizes"] != asdict(sizes):
        raise SystemExit(f"{file} has results of other sizes: name another file, or remove it")
    return {(one["arm"], one["seed"]): one for one in known["results"]}


def keep(file: Path, sizes: Sizes, found: Results) -> None:
    """Write all results so far; a file half written never stands there."""
    beside = file.with_suffix(".part")
    whole = {"sizes": asdict(sizes), "results": list(found.values())}
    beside.write_text(json.dumps(whole, indent=1), encoding="utf-8")
    beside.replace(file)


def run_all(
    keys: list[Key], sizes: Sizes, weights: Path, given: argparse.Namespace, found: Results
) -> None:
    """Add the results of some arms and seeds to those found."""
    began = perf_counter()

    def tell(text: str) -> None:
        print(f"[{perf_counter() - began:5.0f} s] {text}", flush=True)

    with ProcessPoolExecutor(given.jobs, mp_context=get_context("spawn")) as pool:
        if keys and not weights.exists():
            share = pool.submit(first_weights, sizes, weights).result()
            tell(f"the first weights are made and solve {share:.1%}")
        for result in results_of(pool, run, [(*key, sizes, weights) for key in keys]):
            found[result["arm"], result["seed"]] = result
            if given.json is not None:
                keep(given.json, sizes, found)
            tell(
                f"{result['arm']}, seed {result['seed']}: {last(result):.1%} solved, "
                f"{result['steps']:,} steps, {result['generated']:,} tokens"
            )


def results_of(
    pool: ProcessPoolExecutor, call: Callable[..., Any], arguments: list[tuple[Any, ...]]
) -> Any:
    """Yield what the calls return, as they end."""
    for future in as_completed([pool.submit(call, *one) for one in arguments]):
        yield future.result()


if __name__ == "__main__":
    main()
