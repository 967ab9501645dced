"""Compares our plans with vLLM's over many workloads and limits: `vllm_sweep.py --seeds 10`."""

from __future__ import annotations

import argparse
import sys
from itertools import chain
from time import perf_counter

from plan_families import FAMILIES, cases, odd_cases
from plan_rows import Comparison
from vllm_stub import compare


def sweep(family: str, seeds: range, odd: range, every: int, show: int) -> Comparison:
    """Compare all cases of one family, print the first differences and a line of totals."""
    began = perf_counter()
    total = Comparison()
    for case in chain(cases(family, seeds, every), odd_cases(family, odd)):
        one = compare(case)
        total.add(one)
        if one.differences and total.differences <= show:
            print(f"{case.name}: {one.told}")
    print(f"{family}: {total}, {perf_counter() - began:.0f} s", flush=True)
    return total


def main() -> int:
    """Run the sweep; return 1 if any case differed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=6, help="seeds for each family")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=1, help="run one case in so many")
    parser.add_argument("--odd", type=int, default=40, help="cases under odd limits per family")
    parser.add_argument("--family", choices=FAMILIES, action="append")
    parser.add_argument("--show", type=int, default=3, help="differences to print per family")
    options = parser.parse_args()
    first = options.first_seed
    seeds, odd = range(first, first + options.seeds), range(first, first + options.odd)
    total = Comparison()
    for family in options.family or FAMILIES:
        total.add(sweep(family, seeds, odd, options.every, options.show))
    print(f"all: {total}")
    return 1 if total.differences else 0


if __name__ == "__main__":
    sys.exit(main())
