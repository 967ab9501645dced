"""A toy of training: prompts of known success probability that drift, gain, jump and forget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import exp
from random import Random
from typing import Any, NamedTuple

from sojourn.rollout.beliefs import BeliefRules, BeliefStore
from sojourn.rollout.model import Group, GroupResult, Prompt, Rollout
from sojourn.rollout.plan import Plan
from sojourn.rollout.slots import Setting
from sojourn.rollout.states import FINISHED
from sojourn.rollout.streams import Stream

ENDED = Rollout(0, 0, 0, 0, 0, status=FINISHED)
"""Stands for every rollout: only rewards matter here."""


@dataclass(frozen=True)
class World:
    """What is true.

    Attributes:
        prompts, batch, rollouts, steps: Sizes.
        mean, spread: Of the prompts' logits at the start.
        drift: Of all logits in one step.
        gain: Of a prompt's logit when a mixed group of it is trained.
        forgets: Share of what a prompt gained that is lost in one step without training it.
        wander: Standard deviation by which each logit moves in one step.
        jumps: Chance of a prompt in one step that its logit is drawn anew.
        shock_at, shock: Step at which all logits move at once, and by how much.
        domains: Groups of prompts whose logits have half of their variance, and all of `wander`,
            in common; 0 for none.
        noise: Chance that a reward is flipped.
    """

    prompts: int = 2000
    batch: int = 64
    rollouts: int = 8
    steps: int = 200
    mean: float = 0.0
    spread: float = 2.0
    drift: float = 0.003
    gain: float = 0.05
    forgets: float = 0.0
    wander: float = 0.0
    jumps: float = 0.0
    shock_at: int = -1
    shock: float = 0.0
    domains: int = 0
    noise: float = 0.0

    @property
    def plan(self) -> Plan:
        """The plan that policies see."""
        return Plan(batch_groups=self.batch, rollouts_per_group=self.rollouts, rounds_max=8)


class Truth:
    """Success probabilities of all prompts at the current step."""

    def __init__(self, world: World, seed: int) -> None:
        self.world, self.dice, self.step = world, Random(f"truth {seed}"), 0
        self.level = world.mean
        self.shared = [self.dice.gauss(0.0, 1.0) for _ in range(world.domains)]
        self.logits = [self._fresh(at) for at in range(world.prompts)]
        self.gained = [0.0] * world.prompts
        self.moved = [0.0] * max(world.domains, 1)

    def _fresh(self, at: int) -> float:
        own = self.dice.gauss(0.0, 1.0)
        if self.shared:
            own = (own + self.shared[at % len(self.shared)]) * 0.5**0.5
        return self.world.spread * own

    def probability(self, at: int) -> float:
        """Return the chance that a rollout of a prompt is rewarded."""
        logit = self.level + self.logits[at] + self.gained[at]
        if self.world.domains:
            logit += self.moved[at % self.world.domains]
        chance = 1.0 / (1.0 + exp(-logit))
        return chance + self.world.noise * (1.0 - 2.0 * chance)

    def advance(self, trained: Sequence[int]) -> None:
        """Go one step on, having trained on the groups of some prompts."""
        world, dice = self.world, self.dice
        self.step += 1
        self.level += world.drift + (world.shock if self.step == world.shock_at else 0.0)
        if world.forgets:
            self.gained = [one * (1.0 - world.forgets) for one in self.gained]
        for at in trained:
            self.gained[at] += world.gain
        if world.wander and world.domains:
            self.moved = [one + dice.gauss(0.0, world.wander) for one in self.moved]
        elif world.wander:
            self.logits = [one + dice.gauss(0.0, world.wander) for one in self.logits]
        if world.jumps:
            for at in range(world.prompts):
                if dice.random() < world.jumps:
                    self.logits[at], self.gained[at] = self._fresh(at), 0.0


@dataclass
class ToyView:
    """As much of a run's view as selectors and allocators read."""

    plan: Plan
    prompts: Sequence[Prompt]
    beliefs: BeliefStore
    version: int = 0
    step: int = 1
    open: dict[int, None] = field(default_factory=dict)
    rewards: dict[int, float] = field(default_factory=dict)

    def is_open(self, prompt_id: int) -> bool:
        return prompt_id in self.open

    def reward(self, rid: int) -> float | None:
        return self.rewards.get(rid)


class Outcome(NamedTuple):
    """What one run gave.

    Attributes:
        mixed: Groups with successes and failures, in each step.
        groups: Groups rolled out, in each step.
        policy: The selector at the end.
    """

    mixed: list[int]
    groups: list[int]
    policy: Any

    def ratio(self, first: int = 0, last: int | None = None) -> float:
        """Return the share of mixed groups over some steps."""
        return sum(self.mixed[first:last]) / sum(self.groups[first:last])


Maker = Callable[[Setting], Any]


class Oracle:
    """Knows every probability, and takes those with the highest chance of a mixed group."""

    def __init__(self, truth: Truth) -> None:
        self.truth = truth

    def chance(self, at: int) -> float:
        p, rollouts = self.truth.probability(at), self.truth.world.rollouts
        return 1.0 - p**rollouts - (1.0 - p) ** rollouts

    def choose(self, count: int) -> list[int]:
        ids = range(self.truth.world.prompts)
        return sorted(ids, key=self.chance, reverse=True)[:count]


def run(
    world: World,
    make: Maker | None,
    rules: BeliefRules,
    seed: int,
    *,
    fills: bool = False,
    watch: Callable[[int, Any, Truth, ToyView], None] | None = None,
) -> Outcome:
    """Train for some steps with a selector, or with the oracle where there is none.

    With `fills` each step goes on until it has a batch of mixed groups, as DAPO's filter does.
    """
    prompts = [Prompt(at) for at in range(world.prompts)]
    truth, plan = Truth(world, seed), world.plan
    view = ToyView(plan, prompts, BeliefStore(rules))
    policy = make(Setting(plan, prompts, Stream(seed, "select"))) if make else None
    oracle, uid = Oracle(truth), 0
    mixed, groups = [], []
    for step in range(world.steps):
        dice = Random(f"outcomes {seed} {step}")
        trained: list[int] = []
        rolled = 0
        while rolled < world.batch or (fills and len(trained) < world.batch):
            wanted = world.batch - (len(trained) if fills else rolled)
            chosen = (
                [one.prompt_id for one in policy.propose(wanted, view)]
                if policy
                else oracle.choose(wanted)
            )
            for at in chosen:
                chance = truth.probability(at)
                values = [float(dice.random() < chance) for _ in range(world.rollouts)]
                uid += 1
                rolled += 1
                group = Group(uid, at, view.version, view.step, 0)
                result = GroupResult(group, [ENDED] * len(values), list(values))
                view.beliefs.observe(at, sum(values), len(values), view.version)
                if policy:
                    policy.observe(result, view)
                    policy.keep(result, view)
                if result.mixed:
                    trained.append(at)
        mixed.append(len(trained))
        groups.append(rolled)
        truth.advance(trained)
        view.version += 1
        view.step += 1
        if watch is not None:
            watch(step, policy, truth, view)
    return Outcome(mixed, groups, policy)
