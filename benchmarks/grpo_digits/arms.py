"""What is compared: policies of the rollout machine, and what was planted to lose."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

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
from sojourn.rollout.actions import Abort, Proposal
from sojourn.rollout.beliefs import BeliefRules
from sojourn.rollout.events import Heard, Progress
from sojourn.rollout.memory import Passive
from sojourn.rollout.model import Prompt
from sojourn.rollout.needs import RolloutNeed
from sojourn.rollout.plan import Plan
from sojourn.rollout.slots import Metrics, Pick, Policies, Setting, State, Stretch
from sojourn.rollout.streams import Stream
from sojourn.rollout.views import RolloutView, View

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


class RandomPruning(Passive):
    """Planted to lose: at the checkpoint a coin decides, from the batch on at which scores could.

    Needs nothing to be known, and so has no gate.
    """

    needs: ClassVar[frozenset[RolloutNeed]] = frozenset({RolloutNeed.REPORT})

    def __init__(self, config: ArrolConfig, setting: Setting) -> None:
        self.config = config
        self.stream = setting.stream
        self.pruned = 0

    def stretch(self, rollout: RolloutView, view: View) -> Stretch:
        return Stretch(report_at=(self.config.check_tokens,))

    def on_event(self, event: Heard, view: View) -> Sequence[Proposal]:
        if not isinstance(event, Progress) or view.step <= 1:
            return ()
        if self.stream.uniform() < self.config.keep_share:
            return ()
        self.pruned += 1
        return [Abort(event.rid, keep=False, reason="a coin", propensity=0.5)]

    def metrics(self) -> Metrics:
        return {"pruned": float(self.pruned)}

    def state_dict(self) -> State:
        return {"stream": self.stream.state_dict(), "pruned": self.pruned}

    def load_state_dict(self, state: State) -> None:
        self.stream.load_state_dict(state["stream"])
        self.pruned = state["pruned"]


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
    """

    words: str
    select: Maker = lambda setting: Uniform(UniformConfig(), setting)
    controls: tuple[Maker, ...] = (lambda setting: Synchronous(SynchronousConfig(), setting),)
    plan: dict[str, Any] = field(default_factory=dict)
    rules: BeliefRules = field(default_factory=BeliefRules)
    corrects: bool = True


PRUNING = ArrolConfig(check_tokens=CHECK_TOKENS)
SYNCHRONOUS: Maker = lambda setting: Synchronous(SynchronousConfig(), setting)  # noqa: E731
ARMS: dict[str, Arm] = {
    "sync": Arm("synchronous: 32 prompts at random, all rollouts to their end"),
    "april": Arm(
        "APRIL, 1.5 times the groups, the rest carried over",
        controls=(lambda setting: April(AprilConfig(ratio=1.5), setting),),
        plan={"staleness_versions": 2},
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
        "pruning by log-probability at the checkpoint, behind its gate",
        controls=(SYNCHRONOUS, lambda setting: ArrolInspired(PRUNING, setting)),
    ),
    "prune-random": Arm(
        "planted: pruning by a coin at the checkpoint",
        controls=(SYNCHRONOUS, lambda setting: RandomPruning(PRUNING, setting)),
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
