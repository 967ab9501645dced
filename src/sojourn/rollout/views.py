"""What rollout policies may read: rollouts, groups, engines and the state of the run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from sojourn.decide.clock import Time
from sojourn.rollout.beliefs import Belief, Outcome
from sojourn.rollout.lengths import LengthBelief
from sojourn.rollout.model import Prompt
from sojourn.rollout.plan import Plan


class RolloutView(Protocol):
    """A rollout; the fields are those of `model.Rollout`."""

    @property
    def rid(self) -> int: ...
    @property
    def group(self) -> int: ...
    @property
    def prompt_id(self) -> int: ...
    @property
    def parent(self) -> int: ...
    @property
    def status(self) -> str: ...
    @property
    def since(self) -> Time: ...
    @property
    def length(self) -> int: ...
    @property
    def sampled(self) -> int: ...
    @property
    def attempt(self) -> int: ...
    @property
    def engine(self) -> int: ...
    @property
    def token_limit(self) -> int: ...
    @property
    def turn_limit(self) -> int: ...
    @property
    def turns(self) -> int: ...
    @property
    def features(self) -> tuple[float, ...]: ...
    @property
    def stop(self) -> str: ...
    @property
    def awaits_tool(self) -> bool: ...
    @property
    def opened(self) -> Time: ...
    @property
    def newest_version(self) -> int: ...


class GroupView(Protocol):
    """A group; the fields are those of `model.Group`."""

    @property
    def uid(self) -> int: ...
    @property
    def prompt_id(self) -> int: ...
    @property
    def opened_at_version(self) -> int: ...
    @property
    def step(self) -> int: ...
    @property
    def cohort(self) -> int: ...
    @property
    def n_target(self) -> int: ...
    @property
    def status(self) -> str: ...
    @property
    def budget_spent(self) -> int: ...
    @property
    def rids(self) -> Sequence[int]: ...
    @property
    def waiting(self) -> int: ...
    @property
    def rounds(self) -> int: ...
    @property
    def opened(self) -> Time: ...


class EngineView(Protocol):
    """An engine that can be given rollouts.

    Attributes:
        id: Its number, never used again after it is gone.
        version: Version of its weights.
        seats, kv_tokens: Rollouts it runs at once and tokens its KV cache holds; 0 if not known.
        in_flight: Rollouts sent to it that have not come back; counted here, never stale.
        context_tokens: Prompt and output tokens of those, as far as reported.
        kv, running, waiting, preemptions: Its own last report.
        reported: When that was; -1 for never.
    """

    @property
    def id(self) -> int: ...
    @property
    def version(self) -> int: ...
    @property
    def seats(self) -> int: ...
    @property
    def kv_tokens(self) -> int: ...
    @property
    def in_flight(self) -> int: ...
    @property
    def context_tokens(self) -> int: ...
    @property
    def kv(self) -> float: ...
    @property
    def running(self) -> int: ...
    @property
    def waiting(self) -> int: ...
    @property
    def preemptions(self) -> int: ...
    @property
    def reported(self) -> Time: ...


class BeliefView(Protocol):
    """The reading side of `beliefs.BeliefStore`."""

    @property
    def pool_mean(self) -> float: ...
    def read(self, prompt_id: int, version: int) -> Belief: ...
    def recent(self, prompt_id: int) -> tuple[Outcome, ...]: ...
    def domain_share(self, domain: str) -> float: ...
    def length(self, prompt_id: int) -> LengthBelief: ...


class View(Protocol):
    """The state of a run as its policies see it; all of it current whenever one is called.

    Attributes:
        time: Now.
        plan: Sizes and limits of the run.
        prompts: All prompts; the index is the id.
        beliefs: What is believed of each prompt.
        engines: Engines that are up, by number.
        version: Version of the weights in training.
        step: Training steps asked for so far: 0 before the first `BatchWanted`.
        wanted: Whether the trainer waits for a batch.
        need: Newly generated groups that the coming batch takes; fewer than its size where the
            replay slot gives the rest.
        usable: Groups that are settled and wait to be trained.
        usable_groups: Those groups, in the order in which they settled.
        open_groups: Groups that are open, in the order of opening.
        admission: Groups that staleness lets be opened now.
        budget: Rollouts that may be submitted beyond those that were.
        on_engines: Rollouts in state running.
    """

    @property
    def time(self) -> Time: ...
    @property
    def plan(self) -> Plan: ...
    @property
    def prompts(self) -> Sequence[Prompt]: ...
    @property
    def beliefs(self) -> BeliefView: ...
    @property
    def engines(self) -> Mapping[int, EngineView]: ...
    @property
    def version(self) -> int: ...
    @property
    def step(self) -> int: ...
    @property
    def wanted(self) -> bool: ...
    @property
    def need(self) -> int: ...
    @property
    def usable(self) -> int: ...
    @property
    def open_groups(self) -> Mapping[int, GroupView]: ...
    @property
    def usable_groups(self) -> Mapping[int, GroupView]: ...
    @property
    def admission(self) -> int: ...
    @property
    def budget(self) -> int: ...
    @property
    def on_engines(self) -> int: ...

    def group(self, uid: int) -> GroupView:
        """Return a group that is open or settled."""

    def rollout(self, rid: int) -> RolloutView | None:
        """Return a rollout, or None if its group is over."""

    def members(self, uid: int) -> Sequence[RolloutView]:
        """Return the rollouts of an open or settled group, in the order they were made."""

    def in_status(self, status: str) -> Iterable[RolloutView]:
        """Return the live rollouts of a state, in the order in which they entered it."""

    def reward(self, rid: int) -> float | None:
        """Return the reward of a rollout that holds now."""

    def is_open(self, prompt_id: int) -> bool:
        """Return whether a prompt has a group that is open or settled."""

    def overdue(self, uid: int) -> bool:
        """Return whether a group must be in the very next batch, or become too stale."""
