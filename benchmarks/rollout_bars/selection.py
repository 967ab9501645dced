"""Bar: selection beats Thompson draws and the posterior mean, both with a decay of one half.

Run: python -m benchmarks.rollout_bars --bars selection
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import repeat
from random import Random
from statistics import fmean, quantiles
from typing import Any, Final

from benchmarks.rollout_bars.paired import Interval, gain, interval
from benchmarks.rollout_bars.rows import Options, Row, of
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
VISITS_MAX: Final = 10
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


def compare(title: str, options: Options, names: Sequence[str]) -> list[Row]:
    """Return the rows of a world: mixed groups, the gap to the oracle, and our gains."""
    outcomes = measure(WORLDS[title], list(names), options.range, options.jobs)
    ratios = {name: [one.ratio() for one in runs] for name, runs in outcomes.items()}
    low, high = ratios["uniform"], ratios["oracle"]
    found = []
    for name, own in ratios.items():
        where = f"{name}; {title}"
        found.append(of(interval(own), "share of groups that are mixed", where, options))
        if name not in ("uniform", "oracle"):
            share = [(a - b) / (c - b) for a, b, c in zip(own, low, high, strict=True)]
            what = "share of the gap from uniform to the oracle"
            found.append(of(interval(share), what, where, options))
    for other in ("thompson .5", "mean .5") if "likely_mixed" in names else ():
        over = gain(ratios["likely_mixed"], ratios[other])
        what, where = f"mixed groups above {other}", f"likely_mixed; {title}"
        bar, met = ("> 0", over.low > 0.0) if title == "base" else ("", None)
        found.append(of(over, what, where, options, bar, met, 4))
    for one in found:
        options.say(f"{one.setting}: {one.what} {one.value()}")
    return found


def cost(world: World, options: Options) -> list[Row]:
    """Return rollouts for each mixed group when every step is filled up to a batch of them."""
    spent = {}
    for name in ("dapo_filter", "thompson .5", "mean .5", "likely_mixed"):
        with ProcessPoolExecutor(options.jobs) as pool:
            runs = list(pool.map(one_run, repeat(world), repeat(name), options.range, repeat(True)))
        spent[name] = [world.rollouts / one.ratio() for one in runs]
    what = "rollouts for each mixed group, batches filled up"
    found = [of(interval(own), what, f"{name}; base", options) for name, own in spent.items()]
    saved = gain(spent["dapo_filter"], spent["likely_mixed"])
    what = "rollouts for each mixed group below dapo_filter"
    met = saved.low > 0.0
    found.append(of(saved, what, "likely_mixed; base", options, "> 0", met))
    for one in found:
        options.say(f"{one.setting}: {one.what} {one.value()}")
    return found


def recovery(options: Options) -> list[Row]:
    """Return visits after a jump of one prompt until the belief stays within 0.15, of 25."""
    jumps = ((0.9, 0.5), (0.05, 0.5), (0.5, 0.95), (0.1, 0.9), (0.98, 0.3))
    found = []
    for name in ("thompson 1", "thompson .5", "likely_mixed"):
        counts = [[_visits(name, *jump, seed) for jump in jumps] for seed in options.range]
        flat = [one for seed in counts for one in seed]
        where = f"{name}; five jumps by 0.4 to 0.8"
        mean = interval([fmean(one) for one in counts])
        bar, met = "", None
        tenths = quantiles(flat, n=10)
        if name == "likely_mixed":
            bar, met = f"≤ {VISITS_MAX}", tenths[8] <= VISITS_MAX
        what = "visits after a jump until the belief has followed, "
        found.append(of(mean, what + "mean", where, options))
        spread = Interval(tenths[8], tenths[8], tenths[8])
        found.append(of(spread, what + "nine in ten", where, options, bar, met, 1))
        options.say(f"{where}: mean {mean.text(1)}, nine in ten {tenths[8]:.1f}, {max(flat)}")
    return found


def _visits(name: str, before: float, after: float, seed: int) -> int:
    """Return visits of one of 100 prompts, every fifth version, until the belief has followed."""
    plan, dice = Plan(batch_groups=20), Random(f"jump {seed} {before} {after}")
    prompts = [Prompt(at) for at in range(100)]
    make, rules = POLICIES[name]
    assert make is not None, "the oracle believes nothing"
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


def rows(options: Options) -> list[Row]:
    """Return the base world, cost and recovery, and the rest on a quarter of the seeds.

    DAPO's filter chooses as `uniform` does; it differs in what a batch costs.
    """
    found = compare("base", options, SHORT)
    found += cost(BASE, options._replace(seeds=max(options.seeds // 2, 2)))
    found += recovery(options)
    few = options._replace(seeds=max(options.seeds // 4, 2))
    others = [name for name in POLICIES if name not in (*SHORT, "dapo_filter")]
    found += compare("base", few, ["uniform", *others, "oracle"])
    for title in WORLDS:
        if title != "base":
            found += compare(title, few, SHORT)
    return found
