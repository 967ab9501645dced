"""Bar: group-aware placement closes half of the makespan gap to clairvoyant longest-first.

Run: python -m benchmarks.rollout_bars.placement [--seeds 12] [--batches 2] [--cases 0 1]

Lengths are log-normal; the share of the variance of their logarithm that siblings have in common is
swept. At .5 at least half of the gap from least in flight to longest first, with true lengths, is
to be closed; at 0 the batch may take 2 % longer at most. Two baselines: least in flight as verl has
it, with queues in the engines, and the same with one queue before them, which takes away what
Seer's rule gains by waiting in one place.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from math import exp, log, sqrt
from random import Random
from statistics import fmean
from typing import Any, Final, NamedTuple

from benchmarks.rollout_bars.listing import Fate, Listing, Shape
from benchmarks.rollout_bars.paired import RESAMPLES, Interval, interval
from sojourn.policies.dispatch import seer_inspired
from sojourn.recipes.rollouts import rollout_recipe
from sojourn.rollout.machine import RolloutMachine
from sojourn.rollout.model import Prompt, Rollout
from sojourn.rollout.plan import Plan
from sojourn.rollout.slots import Setting
from sojourn.rollout.streams import Stream

MEDIAN: Final = 2000
SPREAD: Final = 1.0
TOKENS_MAX: Final = 16_384
CORRELATIONS: Final = (0.0, 0.25, 0.5, 0.75, 1.0)


class Case(NamedTuple):
    """A setting of the bar: engines, groups of a batch and their size."""

    name: str
    shape: Shape
    groups: int = 64
    rollouts: int = 8


CASES: Final = (
    Case("4 engines, 16 seats", Shape(seats=16)),
    Case("4 engines, 32 seats", Shape(seats=32)),
    Case("4 engines, 64 seats", Shape(seats=64)),
    Case("4 engines, 8 seats", Shape(seats=8)),
    Case("8 engines, 8 seats", Shape(engines=8, seats=8)),
    Case("2 engines, 32 seats", Shape(engines=2, seats=32)),
    Case("4 engines, 16 seats, steep steps", Shape(seats=16, step_each=0.0005)),
    Case("4 engines, 16 seats", Shape(seats=16), 32, 16),
)
"""The first is the bar's; rollouts over seats is how many waves there are."""


def fates(seed: int, correlation: float) -> dict[tuple[int, int], Fate]:
    """Return lengths by group and sibling, drawn when they are first asked for."""

    class Drawn(dict[tuple[int, int], Fate]):
        def __missing__(self, key: tuple[int, int]) -> Fate:
            shared = Random(f"{seed}/group/{key[0]}").gauss(0.0, 1.0)
            own = Random(f"{seed}/rollout/{key}")
            mixed = sqrt(correlation) * shared + sqrt(1.0 - correlation) * own.gauss(0.0, 1.0)
            length = max(int(exp(log(MEDIAN) + SPREAD * mixed)), 1)
            self[key] = Fate(length, float(own.random() < 0.5), shared)
            return self[key]

    return Drawn()


class LongestClairvoyant(seer_inspired.SeerInspired):
    """Longest first, with the truth; placed like the policy under test."""

    truth: Mapping[tuple[int, int], Fate]

    def key(self, rollout: Rollout, view: object) -> tuple[float, ...]:
        sibling = rollout.rid - view.group(rollout.group).rids[0]  # type: ignore[attr-defined]
        return (-float(min(self.truth[rollout.group, sibling].length, TOKENS_MAX)),)


class GroupsClairvoyant(LongestClairvoyant):
    """Longest first by what siblings have in common, without knowing any rollout's own part."""

    def key(self, rollout: Rollout, view: object) -> tuple[float, ...]:
        return (-self.truth[rollout.group, -1].score,)


POLICIES: Final[Mapping[str, dict[str, Any]]] = {
    "least in flight": {"dispatch": "least_in_flight"},
    "one queue": {"dispatch": {"policy": "least_in_flight", "engine_rollouts_max": -1}},
    "whole": {"dispatch": "seer_inspired"},
    "groups known": {"dispatch": "seer_inspired"},
    **{
        f"chunks of {tokens}": {
            "dispatch": "seer_inspired",
            "control": ["synchronous", {"policy": "divided", "chunk_tokens": tokens}],
        }
        for tokens in (4096,)
    },
    "longest first": {"dispatch": "seer_inspired"},
}


def makespans(
    case: Case, correlation: float, seed: int, batches: int, names: Sequence[str] = tuple(POLICIES)
) -> dict[str, list[float]]:
    """Return the seconds of each batch under each policy, on the same rollouts."""
    found: dict[str, list[float]] = {}
    for name in names:
        slots = POLICIES[name]
        plan = Plan(
            batch_groups=case.groups, rollouts_per_group=case.rollouts, tokens_max=TOKENS_MAX
        )
        prompts = tuple(Prompt(at) for at in range(case.groups * batches))
        wanted = dict(slots)
        if name == "one queue":
            wanted["dispatch"] = {**slots["dispatch"], "engine_rollouts_max": case.shape.seats}
        policies = rollout_recipe({"name": name, **wanted}, "bar").build(plan, prompts, seed)
        truth = fates(seed, correlation)
        if name in ("longest first", "groups known"):
            kind = LongestClairvoyant if name == "longest first" else GroupsClairvoyant
            bound = kind(seer_inspired.Config(), Setting(plan, prompts, Stream(seed, "bar")))
            bound.truth = truth
            policies = policies._replace(dispatch=bound)
        machine = RolloutMachine(plan, prompts, policies)

        def fate(
            rollout: Rollout,
            truth: Mapping[tuple[int, int], Fate] = truth,
            machine: RolloutMachine = machine,
        ) -> Fate:
            return truth[rollout.group, rollout.rid - machine.run.group(rollout.group).rids[0]]

        found[name] = Listing(machine, case.shape, fate).run(batches).makespans
    return found


def closed(base: Sequence[float], ours: Sequence[float], bound: Sequence[float]) -> Interval:
    """Return the share of the gap of the means that is closed, with a bootstrap over seeds."""
    dice = Random("bootstrap")
    seeds = range(len(base))

    def share(chosen: Sequence[int]) -> float:
        gap = sum(base[at] - bound[at] for at in chosen)
        return sum(base[at] - ours[at] for at in chosen) / gap if gap else 0.0

    drawn = sorted(share(dice.choices(seeds, k=len(base))) for _ in range(RESAMPLES))
    return Interval(share(seeds), drawn[RESAMPLES // 40], drawn[-RESAMPLES // 40])


def _job(job: tuple[Case, float, int, int, Sequence[str]]) -> dict[str, list[float]]:
    return makespans(*job)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--batches", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--cases", type=int, nargs="*", default=range(len(CASES)))
    parser.add_argument("--correlations", type=float, nargs="*", default=CORRELATIONS)
    parser.add_argument("--policies", nargs="*", choices=POLICIES, default=list(POLICIES))
    args = parser.parse_args()
    with ProcessPoolExecutor(args.workers) as pool:
        for case in (CASES[at] for at in args.cases):
            waves = case.groups * case.rollouts / (case.shape.engines * case.shape.seats)
            print(f"\n{case.name}; {case.groups} groups of {case.rollouts}: {waves:.0f} waves")
            for correlation in args.correlations:
                seeds = range(args.seeds)
                jobs = [(case, correlation, seed, args.batches, args.policies) for seed in seeds]
                runs = list(pool.map(_job, jobs))
                show(correlation, runs)


def show(correlation: float, runs: Sequence[Mapping[str, Sequence[float]]]) -> None:
    """Print the first batch, in which nothing is known yet, and the others, policy by policy."""
    for label, batches in (("first", slice(0, 1)), ("later", slice(1, None))):
        times = {name: [fmean(one[name][batches] or [0.0]) for one in runs] for name in runs[0]}
        base, bound = times["least in flight"], times["longest first"]
        if not sum(base):
            continue
        print(
            f"  correlation {correlation}, {label}: least in flight {fmean(base):.0f} s,"
            f" longest first {fmean(bound):.0f} s"
        )
        for name in times:
            if name in ("least in flight", "longest first"):
                continue
            ours = times[name]
            longer = interval([100 * (a / b - 1) for a, b in zip(ours, base, strict=True)])
            print(
                f"    {name:15} {fmean(ours):.0f} s, closed {closed(base, ours, bound).text(2)},"
                f" longer by {longer.text(1)} %",
                flush=True,
            )


if __name__ == "__main__":
    main()
