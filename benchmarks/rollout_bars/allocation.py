"""Bar: the variance of what is estimated is within 1.05 of oracle Neyman, at equal spend.

Run: python -m benchmarks.rollout_bars --bars allocation

Prompts are drawn at random. What is estimated is each prompt's success probability, and what is
compared is the sum of p (1 - p) / n. Two oracles know p: one keeps the same floor and whole
numbers, the other is the continuous optimum without either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import count as numbers
from itertools import repeat
from math import inf, sqrt
from random import Random
from typing import Any, Final, NamedTuple

from benchmarks.rollout_bars.paired import interval
from benchmarks.rollout_bars.rows import Options, Row, of
from benchmarks.rollout_bars.selection import WORLDS
from benchmarks.rollout_bars.toy import ENDED, ToyView, Truth, World
from sojourn.policies.allocate import (
    cures,
    dars,
    fixed,
    gvm,
    rollout_gdro_inspired,
    tracked_neyman,
    xrpo_inspired,
)
from sojourn.policies.allocate.sharing import least_variance
from sojourn.rollout.beliefs import BeliefRules, BeliefStore
from sojourn.rollout.model import Group, GroupResult, Prompt
from sojourn.rollout.opening import within
from sojourn.rollout.slots import Pick, Setting
from sojourn.rollout.streams import Stream

FLOOR: Final = 2
CEILING: Final = 64
FORGET: Final = BeliefRules(update_keep=0.5)
REMEMBER: Final = BeliefRules()
GDRO = rollout_gdro_inspired
POLICIES: Final[Mapping[str, tuple[Any, str, dict[str, Any], BeliefRules]]] = {
    "fixed": (fixed, "Fixed", {}, REMEMBER),
    "gdro price, keep 1": (GDRO, "RolloutGdroInspired", {}, REMEMBER),
    "gdro price, keep .5": (GDRO, "RolloutGdroInspired", {}, FORGET),
    "gdro exact, keep 1": (GDRO, "RolloutGdroInspired", {"variant": "exact"}, REMEMBER),
    "gdro exact, keep .5": (GDRO, "RolloutGdroInspired", {"variant": "exact"}, FORGET),
    "gdro exact, probes 4": (
        GDRO,
        "RolloutGdroInspired",
        {"variant": "exact", "probes": 4},
        FORGET,
    ),
    "cures": (cures, "Cures", {}, REMEMBER),
    "cures even": (cures, "Cures", {"variant": "even"}, REMEMBER),
    "gvm, probes 4": (gvm, "Gvm", {"probes": 4}, REMEMBER),
    "dars, first 4": (dars, "Dars", {"first": 4}, REMEMBER),
    "xrpo_inspired": (xrpo_inspired, "XrpoInspired", {}, REMEMBER),
    "tracked_neyman": (tracked_neyman, "TrackedNeyman", {}, REMEMBER),
    "tracked, probes 2": (tracked_neyman, "TrackedNeyman", {"probes": 2}, REMEMBER),
    "tracked, probes 4": (tracked_neyman, "TrackedNeyman", {"probes": 4}, REMEMBER),
}
OURS: Final = ("tracked_neyman", "tracked, probes 2")
RATIO_MAX: Final = 1.05
WARM: Final = 100
"""Steps that are not counted."""
SHORT: Final = ("fixed", "gdro exact, keep .5", "tracked_neyman", "tracked, probes 2")


@dataclass
class ToyGroup:
    """As much of a group as allocators read."""

    uid: int
    prompt_id: int
    rids: list[int] = field(default_factory=list)
    rounds: int = 0

    @property
    def budget_spent(self) -> int:
        return len(self.rids)


class Sums(NamedTuple):
    """Of one run, over the steps that count.

    Attributes:
        variance: Sum of v / n of the policy.
        bounded, free: Those of the oracle with floor and whole numbers, and of the optimum.
        error: Sum of squared errors of the group means.
        bias: Sum of the errors.
        spent, budget: Rollouts.
        least: Fewest rollouts of a prompt that had failed at every rollout of its last two groups.
        groups: Groups.
    """

    variance: float
    bounded: float
    free: float
    error: float
    bias: float
    spent: int
    budget: int
    least: float
    groups: int


def one_run(world: World, name: str, seed: int, first: int) -> Sums:
    """Train for some steps; steps before `first` are not counted."""
    module, label, fields, rules = POLICIES[name]
    prompts = [Prompt(at) for at in range(world.prompts)]
    truth, plan = Truth(world, seed), world.plan
    setting = Setting(plan, prompts, Stream(seed, "allocate"))
    policy = getattr(module, label)(module.Config(**fields), setting)
    view = ToyView(plan, prompts, BeliefStore(rules))
    draw = Random(f"prompts {seed}")
    rids, total, carried = numbers(), Sums(0, 0, 0, 0, 0, 0, 0, inf, 0), 0
    failures: dict[int, int] = {}
    for step in range(world.steps):
        dice = Random(f"outcomes {seed} {step}")
        ids = draw.sample(range(world.prompts), world.batch)
        chances = [truth.probability(at) for at in ids]
        budget = plan.rollouts_per_group * len(ids)
        groups, carried = _roll(policy, view, ids, chances, budget + carried, dice, rids)
        means: list[float] = []
        trained: list[int] = []
        for group, chance in zip(groups, chances, strict=True):
            values = [view.rewards.pop(rid) for rid in group.rids]
            at, known = group.prompt_id, failures.get(group.prompt_id, 0)
            if known >= 2 and step >= first:
                total = total._replace(least=min(total.least, len(values)))
            failures[at] = 0 if any(values) else known + 1
            means.append(sum(values) / len(values) - chance)
            result = GroupResult(
                Group(group.uid, at, view.version, view.step, 0), [ENDED] * len(values), [*values]
            )
            view.beliefs.observe(at, sum(values), len(values), view.version)
            policy.observe(result, view)
            if result.mixed:
                trained.append(at)
        if step >= first:
            total = _add(total, chances, [len(one.rids) for one in groups], means, budget)
        truth.advance(trained)
        view.version += 1
        view.step += 1
    return total


def _roll(
    policy: Any,
    view: ToyView,
    ids: Sequence[int],
    chances: Sequence[float],
    budget: int,
    dice: Random,
    rids: Any,
) -> tuple[list[ToyGroup], int]:
    """Roll out groups as the machine does; return them and what is left of the budget."""
    groups = [ToyGroup(at, one) for at, one in enumerate(ids)]
    rounds = within(policy.open([Pick(one) for one in ids], budget, view), budget, 1)
    while any(one.rollouts for one in rounds):
        for group, one, chance in zip(groups, rounds, chances, strict=True):
            group.rounds += bool(one.rollouts)
            for _ in range(one.rollouts):
                rid = next(rids)
                group.rids.append(rid)
                view.rewards[rid] = float(dice.random() < chance)
        budget -= sum(one.rollouts for one in rounds)
        if budget < 1:
            break
        rounds = within(policy.more(groups, budget, view), budget, 0)
    return groups, budget


def _add(
    total: Sums,
    chances: Sequence[float],
    counts: Sequence[int],
    errors: Sequence[float],
    budget: int,
) -> Sums:
    variances = [one * (1.0 - one) for one in chances]
    best, _ = least_variance(variances, budget, [FLOOR] * len(counts), CEILING)
    return Sums(
        total.variance + sum(v / n for v, n in zip(variances, counts, strict=True)),
        total.bounded + sum(v / n for v, n in zip(variances, best, strict=True)),
        total.free + sum(map(sqrt, variances)) ** 2 / budget,
        total.error + sum(one * one for one in errors),
        total.bias + sum(errors),
        total.spent + sum(counts),
        total.budget + budget,
        total.least,
        total.groups + len(counts),
    )


def compare(title: str, options: Options, names: Sequence[str]) -> list[Row]:
    """Return the rows of a world: variance against both oracles, spend, bias and the floor."""
    found: list[Row] = []
    for name in names:
        with ProcessPoolExecutor(options.jobs) as pool:
            runs = list(
                pool.map(one_run, repeat(WORLDS[title]), repeat(name), options.range, repeat(WARM))
            )
        where = f"{name}; {title}"
        ratio = interval([one.variance / one.bounded for one in runs])
        spend = interval([100.0 * (one.spent / one.budget - 1.0) for one in runs])
        least = interval([one.least for one in runs])
        least_of_all = min(one.least for one in runs)
        close = _bar(name, f"≤ {RATIO_MAX}", ratio.high <= RATIO_MAX)
        even = _bar(name, "± 1", max(abs(spend.low), abs(spend.high)) <= 1.0)
        kept = _bar(name, f"≥ {FLOOR}", least_of_all >= FLOOR)
        made = [of(ratio, "variance over the oracle's", where, options, *close)]
        if name in SHORT:
            free = interval([one.variance / one.free for one in runs])
            error = interval([one.error / one.bounded for one in runs])
            bias = interval([one.bias / one.groups for one in runs])
            made += [
                of(free, "variance over the continuous optimum", where, options),
                of(error, "squared error over the oracle's variance", where, options),
                of(bias, "bias of the group mean", where, options, digits=4),
                of(spend, "spend beyond the budget, %", where, options, *even, 2),
                of(least, "fewest rollouts where all failed twice", where, options, *kept, 1),
            ]
        found += made
        for one in made:
            options.say(f"{one.setting}: {one.what} {one.value()}")
    return found


def _bar(name: str, bar: str, met: bool) -> tuple[str, bool | None]:
    """Return a bar and whether it is met, of what is judged; nothing of what is not."""
    return (bar, met) if name in OURS else ("", None)


def rows(options: Options) -> list[Row]:
    """Return all allocators in the base world on fewer seeds, and the main ones in four."""
    few = options._replace(seeds=max(options.seeds // 4, 2))
    found = compare("base", options, SHORT)
    found += compare("base", few, [one for one in POLICIES if one not in SHORT])
    for title in ("hard data", "jumps", "fast"):
        found += compare(title, options._replace(seeds=max(options.seeds // 2, 2)), SHORT)
    return found
