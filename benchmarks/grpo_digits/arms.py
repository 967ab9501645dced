"""What is compared: policies of the rollout machine, and what was planted to lose."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from sojourn.policies.advantage.grpo import Config as GrpoConfig
from sojourn.policies.advantage.grpo import Grpo
from sojourn.policies.allocate.fixed import Config as FixedConfig
from sojourn.policies.allocate.fixed import Fixed
from sojourn.policies.control.april import April
from sojourn.policies.control.april import Config as AprilConfig
from sojourn.policies.control.arrol_inspired import ArrolInspired
from sojourn.policies.control.arrol_inspired import Config as ArrolConfig
from sojourn.policies.control.synchronous import Config as SynchronousConfig
from sojourn.policies.control.synchronous import Synchronous
from sojourn.policies.dispatch.least_in_flight import Config as LeastConfig
from sojourn.policies.dispatch.least_in_flight import LeastInFlight
from sojourn.policies.replay.no_replay import Config as NoReplayConfig
from sojourn.policies.replay.no_replay import NoReplay
from sojourn.policies.select.mopps import BELIEFS, Mopps
from sojourn.policies.select.mopps import Config as MoppsConfig
from sojourn.policies.select.uniform import Config as UniformConfig
from sojourn.policies.select.uniform import Uniform
from sojourn.policies.subsample.whole_group import Config as WholeConfig
from sojourn.policies.subsample.whole_group import WholeGroup
from sojourn.rollout.actions import Proposal
from sojourn.rollout.beliefs import BeliefRules
from sojourn.rollout.events import Heard, Progress
from sojourn.rollout.model import Prompt
from sojourn.rollout.plan import Plan
from sojourn.rollout.slots import Pick, Policies, Setting
from sojourn.rollout.streams import Stream
from sojourn.rollout.views import View

CHECK_TOKENS = 10
"""Where rollouts are scored and pruned: in the second or third column."""

STALE_BATCHES = 8
"""Batches trained on between two sets of weights, where weights are stale on purpose."""


class ShuffledView:
    """A view in which every prompt has another one's beliefs."""

    def __init__(self, view: View, other: Sequence[int]) -> None:
        self._view = view
        self._other = other

    def __getattr__(self, name: str) -> Any:
        return getattr(self._view, name)

    @property
    def beliefs(self) -> ShuffledView:
        return ShuffledView(self._view.beliefs, self._other)

    def read(self, prompt_id: int, version: int) -> Any:
        return self._view.read(self._other[prompt_id], version)


class ShuffledMopps(Mopps):
    """Planted to lose: it selects by the difficulty of some other prompt, always the same one."""

    def __init__(self, config: MoppsConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        self.other = list(range(len(setting.prompts)))
        random.Random(setting.plan.seed).shuffle(self.other)

    def propose(self, count: int, view: View) -> list[Pick]:
        return super().propose(count, ShuffledView(view, self.other))


class RandomScores(ArrolInspired):
    """Planted to lose: it prunes by the same rule, as many, but by noise in place of scores."""

    def on_event(self, event: Heard, view: View) -> Sequence[Proposal]:
        if isinstance(event, Progress) and event.features:
            event = event._replace(features=(self.stream.uniform(),))
        return super().on_event(event, view)


Maker = Callable[[Setting], Any]


@dataclass(frozen=True, slots=True)
class Arm:
    """A way to run: policies, plan and learner.

    Attributes:
        words: What it is, for the page.
        select, controls: Makers of the policies that differ.
        plan: Fields of the plan that differ.
        rules: How the beliefs remember.
        corrects: Whether the learner corrects for stale tokens.
        spoilt: Share of the problems to train on whose answer on file is wrong, so that nothing
            solves them.
    """

    words: str
    select: Maker = lambda setting: Uniform(UniformConfig(), setting)
    controls: tuple[Maker, ...] = (lambda setting: Synchronous(SynchronousConfig(), setting),)
    plan: dict[str, Any] = field(default_factory=dict)
    rules: BeliefRules = field(default_factory=BeliefRules)
    corrects: bool = True
    spoilt: float = 0.0


PRUNING = ArrolConfig(
    check_tokens=CHECK_TOKENS,
    rollouts_min=256,
    groups_min=4,
    calibration_error_max=1.0,
    concordance_min=0.0,
)
"""Pruning without its gate, which noise in place of scores would never open."""

MOST = replace(PRUNING, keep_share=0.25)
SPOILT = 0.75
SYNCHRONOUS: Maker = lambda setting: Synchronous(SynchronousConfig(), setting)  # noqa: E731
ARMS: dict[str, Arm] = {
    "sync": Arm("synchronous: 32 prompts at random, all rollouts to their end"),
    "april": Arm(
        "APRIL, 1.25 times the groups, the rest carried over",
        controls=(lambda setting: April(AprilConfig(ratio=1.25), setting),),
        plan={"staleness_versions": 2},
    ),
    "stale": Arm(
        f"new weights after {STALE_BATCHES} batches only, corrected",
        plan={"batches_per_version": STALE_BATCHES},
    ),
    "stale-uncorrected": Arm(
        f"planted: new weights after {STALE_BATCHES} batches only, not corrected",
        plan={"batches_per_version": STALE_BATCHES},
        corrects=False,
    ),
    "mopps-spoilt": Arm(
        "three problems in four spoilt, prompts by MoPPS",
        select=lambda setting: Mopps(MoppsConfig(pool=4), setting),
        rules=BELIEFS["forgetting"],
        spoilt=SPOILT,
    ),
    "mopps-spoilt-shuffled": Arm(
        "planted: the same with the difficulties of other prompts",
        select=lambda setting: ShuffledMopps(MoppsConfig(pool=4), setting),
        rules=BELIEFS["forgetting"],
        spoilt=SPOILT,
    ),
    "prune-most": Arm(
        "three quarters pruned by log-probability at the checkpoint",
        controls=(SYNCHRONOUS, lambda setting: ArrolInspired(MOST, setting)),
    ),
    "prune-most-random": Arm(
        "planted: three quarters pruned by noise at the checkpoint",
        controls=(SYNCHRONOUS, lambda setting: RandomScores(MOST, setting)),
    ),
    "mopps": Arm(
        "prompts by MoPPS with forgetting",
        select=lambda setting: Mopps(MoppsConfig(pool=4), setting),
        rules=BELIEFS["forgetting"],
    ),
    "mopps-shuffled": Arm(
        "planted: MoPPS with the difficulties of other prompts",
        select=lambda setting: ShuffledMopps(MoppsConfig(pool=4), setting),
        rules=BELIEFS["forgetting"],
    ),
    "prune": Arm(
        "half pruned by log-probability at the checkpoint",
        controls=(SYNCHRONOUS, lambda setting: ArrolInspired(PRUNING, setting)),
    ),
    "prune-random": Arm(
        "planted: half pruned by noise at the checkpoint",
        controls=(SYNCHRONOUS, lambda setting: RandomScores(PRUNING, setting)),
    ),
}


class Made(NamedTuple):
    """An arm's plan and policies, for a seed."""

    plan: Plan
    policies: Policies


def make(arm: Arm, prompts: Sequence[Prompt], seed: int, sizes: dict[str, int]) -> Made:
    """Return the plan and the policies of an arm."""
    plan = Plan(**{**sizes, **arm.plan, "seed": seed})

    def setting(name: str) -> Setting:
        return Setting(plan, prompts, Stream(seed, name))

    policies = Policies(
        select=arm.select(setting("select")),
        allocate=Fixed(FixedConfig(), setting("allocate")),
        controls=tuple(maker(setting(f"control {at}")) for at, maker in enumerate(arm.controls)),
        dispatch=LeastInFlight(LeastConfig(), setting("dispatch")),
        replay=NoReplay(NoReplayConfig(), setting("replay")),
        subsample=WholeGroup(WholeConfig(), setting("subsample")),
        advantage=Grpo(GrpoConfig(), setting("advantage")),
    )
    return Made(plan, policies)
