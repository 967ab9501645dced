"""Run random scenarios of rollouts until one breaks.

    python -m tests.rollout.explore --seeds 1000 [--from 0] [--all]

Prints each failing seed with what failed; exits with 1 if there was one. Not part of the tests:
they run a bounded number of the same seeds.
"""

import argparse
import sys
import time
import traceback
from collections import Counter

from tests.rollout.explored import check_seed


def main(arguments):
    """Check seeds one after another."""
    parser = argparse.ArgumentParser(prog="python -m tests.rollout.explore", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--from", dest="first", type=int, default=0)
    parser.add_argument("--all", action="store_true", help="go on after a failure")
    given = parser.parse_args(arguments)
    began, ends, failed = time.perf_counter(), Counter(), 0
    for seed in range(given.first, given.first + given.seeds):
        try:
            ends[check_seed(seed)] += 1
        except Exception as error:  # whatever broke is what is looked for
            failed += 1
            at = traceback.extract_tb(error.__traceback__)[-1]
            what = f"{type(error).__name__}: {str(error)[:300]}"
            print(f"seed {seed}: {what} ({at.name}:{at.lineno})", flush=True)
            if not given.all:
                traceback.print_exc()
                return 1
    seconds = time.perf_counter() - began
    print(f"{given.seeds} seeds, {failed} failed, {seconds:.0f} s: {dict(ends)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
