"""Bar: selection beats Thompson draws and the posterior mean, both with a decay of one half.

Run: python -m benchmarks.rollout_bars.selection [--seeds 10] [--worlds base,jumps] [--steps 200]
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import repeat
from random import Random
from statistics import fmean, quantiles
from typing import Any, Final

from benchmarks.rollout_bars.paired import gain, interval
from benchmarks.rollout_bars.toy import ENDED, Maker, Outcome, ToyView, World, run
from sojourn.policies.select import (
    cures,
    dapo_filter,
    insight_inspired,
    likely_mixed,
    mopps,
    prompt_gdro_inspired,
    uniform,
    vade_inspired,
)
from sojourn.rollout.beliefs import BeliefRules, BeliefStore
from sojourn.rollout.model import Group, GroupResult, Prompt
from sojourn.rollout.plan import Plan
from sojourn.rollout.slots import Setting
from sojourn.rollout.streams import Stream

BASE: Final = World()
WORLDS: Final[Mapping[str, World]] = {
    "base": BASE,
    "no motion": replace(BASE, drift=0.0, gain=0.0),
    "fast": replace(BASE, drift=0.02, gain=0.3),
    "wander": replace(BASE, wander=0.1),
    "jumps": replace(BASE, jumps=0.005),
    "forgetting": replace(BASE, gain=0.3, forgets=0.02),
    "shock": replace(BASE, shock_at=100, shock=-2.0),
    "domains": replace(BASE, domains=20, wander=0.1),
    "noisy rewards": replace(BASE, noise=0.05),
    "hard data": replace(BASE, mean=-3.0),
    "many prompts": replace(BASE, prompts=20_000),
}
FORGET: Final = BeliefRules(update_keep=0.5)
REMEMBER: Final = BeliefRules()


def _of(module: Any, name: str, **fields: Any) -> Maker:
    return lambda setting: getattr(module, name)(module.Config(**fields), setting)


POLICIES: Final[Mapping[str, tuple[Maker | None, BeliefRules]]] = {
    "uniform": (_of(uniform, "Uniform"), REMEMBER),
    "dapo_filter": (_of(dapo_filter, "DapoFilter"), REMEMBER),
    "thompson 1": (_of(mopps, "Mopps"), REMEMBER),
    "thompson .5": (_of(mopps, "Mopps"), FORGET),
    "mean 1": (_of(mopps, "Mopps", draws=False), REMEMBER),
    "mean .5": (_of(mopps, "Mopps", draws=False), FORGET),
    "vade_inspired": (_of(vade_inspired, "VadeInspired"), vade_inspired.BELIEFS["assumed"]),
    "insight_inspired 1": (_of(insight_inspired, "InsightInspired"), FORGET),
    "insight_inspired G": (_of(insight_inspired, "InsightInspired", outcomes=0), FORGET),
    "cures released": (_of(cures, "Cures"), REMEMBER),
    "cures entropy": (_of(cures, "Cures", variant="entropy"), REMEMBER),
    "gdro_inspired": (_of(prompt_gdro_inspired, "PromptGdroInspired"), FORGET),
    "likely_mixed": (_of(likely_mixed, "LikelyMixed"), REMEMBER),
    "oracle": (None, REMEMBER),
}
SHORT: Final = ("uniform", "thompson .5", "mean .5", "likely_mixed", "oracle")


def one_run(world: World, name: str, seed: int, fills: bool = False) -> Outcome:
    make, rules = POLICIES[name]
    return run(world, make, rules, seed, fills=fills)._replace(policy=None)


def measure(world: World, names: list[str], seeds: range, jobs: int) -> dict[str, list[Outcome]]:
    cells = [(name, seed) for name in names for seed in seeds]
    with ProcessPoolExecutor(jobs) as pool:
        found = list(pool.map(one_run, repeat(world), *zip(*cells, strict=True)))
    return {
        name: [one for (own, _), one in zip(cells, found, strict=True) if own == name]
        for name in names
    }


def show(title: str, outcomes: Mapping[str, list[Outcome]]) -> None:
    ratios = {name: [one.ratio() for one in runs] for name, runs in outcomes.items()}
    late = {name: fmean(one.ratio(-50) for one in runs) for name, runs in outcomes.items()}
    low, high = ratios["uniform"], ratios["oracle"]
    print(f"\n{title}\n{'selector':20} effective groups       last 50  share of the gap")
    for name, own in ratios.items():
        share = [(a - b) / (c - b) for a, b, c in zip(own, low, high, strict=True)]
        print(f"{name:20} {interval(own).text()}  {late[name]:.3f}    {interval(share).text()}")
    for other in ("thompson .5", "mean .5"):
        print(f"likely_mixed - {other}: {gain(ratios['likely_mixed'], ratios[other]).text(4)}")


def cost(world: World, seeds: range, jobs: int) -> None:
    """Rollouts for each mixed group when every step is filled up to a batch of them."""
    print("\nrollouts for each trained group, batches filled up with mixed groups")
    spent = {}
    for name in ("dapo_filter", "thompson .5", "mean .5", "likely_mixed"):
        with ProcessPoolExecutor(jobs) as pool:
            runs = list(pool.map(one_run, repeat(world), repeat(name), seeds, repeat(True)))
        spent[name] = [world.rollouts / one.ratio() for one in runs]
        print(f"{name:20} {interval(spent[name]).text(2)}")
    print(
        f"dapo_filter - likely_mixed: {gain(spent['dapo_filter'], spent['likely_mixed']).text(2)}"
    )


def recovery(seeds: int) -> None:
    """Visits after a jump of one prompt until the believed probability stays within 0.15."""
    print("\nvisits until the belief stays within 0.15 after a jump (of 25): median, 90 %, worst")
    jumps = ((0.9, 0.5), (0.05, 0.5), (0.5, 0.95), (0.1, 0.9), (0.98, 0.3))
    for name in ("thompson 1", "thompson .5", "likely_mixed"):
        counts = [_visits(name, *jump, seed) for jump in jumps for seed in range(seeds)]
        tenths = quantiles(counts, n=10)
        print(f"{name:20} {tenths[4]:.1f}  {tenths[8]:.1f}  {max(counts)}")


def _visits(name: str, before: float, after: float, seed: int) -> int:
    """Return visits of one of 100 prompts, every fifth version, until the belief has followed."""
    plan, dice = Plan(batch_groups=20), Random(f"jump {seed} {before} {after}")
    prompts = [Prompt(at) for at in range(100)]
    make, rules = POLICIES[name]
    policy = make(Setting(plan, prompts, Stream(seed, "select")))
    view = ToyView(plan, prompts, BeliefStore(rules))
    others = [dice.random() for _ in prompts]
    near = []
    for visit in range(20 + 25):
        for at in range(100):
            view.version = 5 * visit + at // 20
            chance = others[at] if at else (before if visit < 20 else after)
            values = [float(dice.random() < chance) for _ in range(8)]
            view.beliefs.observe(at, sum(values), 8, view.version)
            policy.observe(GroupResult(Group(0, at, 0, 0, 0), [ENDED] * 8, list(values)), view)
        if visit >= 20:
            near.append(abs(_believed(policy, view) - after) < 0.15)
    return next((at + 1 for at in range(25) if fmean(near[at : at + 3]) == 1.0), 25)


def _believed(policy: Any, view: ToyView) -> float:
    if isinstance(policy, likely_mixed.LikelyMixed):
        return policy.filter.probability(0, view.version)
    return view.beliefs.read(0, view.version).mean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--worlds", default="base")
    parser.add_argument("--short", action="store_true", help="only what the bar compares")
    given = parser.parse_args()
    seeds = range(given.first, given.first + given.seeds)
    names = list(WORLDS) if given.worlds == "all" else given.worlds.split(",")
    for name in names:
        chosen = list(SHORT if given.short or name != "base" else POLICIES)
        chosen = [one for one in chosen if one != "dapo_filter"]  # the same as uniform here
        show(name, measure(WORLDS[name], chosen, seeds, given.jobs))
    if "base" in names and not given.short:
        cost(BASE, seeds, given.jobs)
        recovery(given.seeds)


if __name__ == "__main__":
    main()
