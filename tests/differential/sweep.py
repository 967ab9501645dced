"""Compares our plans with vLLM's over many workloads and limits: `sweep.py --seeds 10`."""

from __future__ import annotations

import argparse
import sys
from time import perf_counter

from itertools import chain
from families import FAMILIES, cases, odd_cases
from plan_rows import cached_tokens, first_difference, leap, simulate
from vllm_stub import drive


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
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    odd = range(options.first_seed, options.first_seed + options.odd)
    differing = 0
    for family in options.family or FAMILIES:
        began = perf_counter()
        count = steps = preempted = cached = wrong = 0
        for case in chain(cases(family, seeds, options.every), odd_cases(family, odd)):
            theirs, finish = drive(case.workload, case.limits, case.cost)
            count += 1
            steps += len(theirs)
            preempted += sum(len(row.preempted) for row in theirs)
            cached += cached_tokens(theirs)
            try:
                ours, finish_ours = simulate(case.workload, case.limits, case.cost)
                told = first_difference(ours, theirs)
                if told is None and finish != finish_ours:
                    told = "finish times differ"
                if told is None and leap(case.workload, case.limits, case.cost) != finish:
                    told = "finish times differ when identical steps are jumped over"
            except AssertionError as error:
                told = f"{type(error).__name__}: {error}"
            if told is not None:
                wrong += 1
                if wrong <= options.show:
                    print(f"{case.name}: {told}")
        differing += wrong
        print(
            f"{family}: {count} cases, {steps} steps, {preempted} preemptions, "
            f"{cached} cached tokens, {wrong} differ, {perf_counter() - began:.0f} s",
            flush=True,
        )
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
