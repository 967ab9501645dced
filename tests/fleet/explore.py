"""Run random fleets with random faults until one breaks.

    python -m tests.fleet.explore --seeds 1000 [--from 0] [--route NAME] [--place NAME] [--all]

Prints each failing seed with what failed; exits with 1 if there was one. Not part of the tests:
they run a bounded number of the same cases.
"""

import argparse
import sys
import time
import traceback
from collections import Counter

from tests.fleet.fleet_cases import Dice, check_case, fleet_case, registered


def main(arguments):
    """Check seeds one after another."""
    parser = argparse.ArgumentParser(prog="python -m tests.fleet.explore", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--from", dest="first", type=int, default=0)
    parser.add_argument("--route", action="append")
    parser.add_argument("--place", action="append")
    parser.add_argument("--scale", action="append")
    parser.add_argument("--all", action="store_true", help="go on after a failure")
    given = parser.parse_args(arguments)
    began, failures, seen = time.perf_counter(), Counter(), Counter()
    with registered():
        for seed in range(given.first, given.first + given.seeds):
            case = fleet_case(
                Dice(seed), routes=given.route, places=given.place, scales=given.scale
            )
            try:
                sim, record = check_case(case)
            except Exception as error:  # whatever broke is what is looked for
                slots = [getattr(case.design, slot)[0] for slot in ("route", "place", "scale")]
                recipes = [one.recipe.name for one in case.design.groups]
                at = traceback.extract_tb(error.__traceback__)[-1]
                what = f"{type(error).__name__}: {str(error)[:300]}"
                failures[f"{what[:70]} ({at.name}:{at.lineno})"] += 1
                print(f"seed {seed}: {'/'.join(slots)} {recipes}: {what}", flush=True)
                if not given.all:
                    traceback.print_exc()
                    return 1
            else:
                seen["requests"] += len(record.requests.outcome)
                seen["moves"] += len(sim.moves.past)
                seen["lost"] += sim.fleet_record.lost_requests
    seconds = time.perf_counter() - began
    print(f"{given.seeds} seeds, {sum(failures.values())} failed, {seconds:.0f} s: {dict(seen)}")
    for what, times in failures.most_common():
        print(f"{times:6d} {what}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
