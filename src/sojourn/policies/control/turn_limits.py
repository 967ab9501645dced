"""Limits turns to a percentile of what rollouts need unrestricted, and extends where it pays.

Source: after a study of turn control on SWE-bench with three closed models, 2025, arXiv 2510.16786,
    of which a summary was at hand: limits at the 25th, 50th and 75th percentile, and extensions.
Reads: turns of rollouts, rewards of their siblings.
Memory: turns of the latest unrestricted rollouts; which rollouts are unrestricted or extended.
Needs: to be told where a turn ends.
Deviations: the limit follows training: a random share stays unrestricted, with its propensity on
    record, and shows what would be needed. The size of extensions is not known, nor whom they go
    to; here a rollout gets one if no sibling has succeeded yet. Reminders are up to the host. The
    plan's limit is the lowest there is: a control may extend it only.
Fails when: the plan limits no turns. The rollouts that need many turns are those that succeed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import ClassVar

from sojourn.errors import UserError
from sojourn.rollout import states as st
from sojourn.rollout.actions import Extend, Proposal
from sojourn.rollout.events import Finished, Heard, Settled, Started, ToolReturn, TurnEnd
from sojourn.rollout.memory import Passive
from sojourn.rollout.needs import RolloutNeed
from sojourn.rollout.slots import Metrics, Setting, State
from sojourn.rollout.views import RolloutView, View

UNRESTRICTED, LIMITED, OVER = "unrestricted", "percentile", "over"


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the limits.

    Attributes:
        percentile: Share of unrestricted rollouts that would keep to the limit.
        turns_most: Limit of the unrestricted ones.
        random_share: Share of rollouts that are unrestricted.
        extension_turns: Turns that an extension gives; 0 for none.
        unrestricted_min: Rollouts to be seen first, all unrestricted; four times as many are kept.
        success_min: Reward, as a share of a success, that makes an extension needless.
    """

    percentile: float = 0.75
    turns_most: int = 100
    random_share: float = 0.1
    extension_turns: int = 8
    unrestricted_min: int = 64
    success_min: float = 0.5

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name in ("percentile", "random_share"):
            if not 0.0 < getattr(self, name) <= 1.0:
                share = getattr(self, name)
                raise UserError(f"control.{name} is {share}; it must be above 0, at most 1")
        for name, least in (("turns_most", 1), ("unrestricted_min", 1), ("extension_turns", 0)):
            if (value := getattr(self, name)) < least:
                raise UserError(f"control.{name} is {value}; it must be at least {least}")


class TurnLimits(Passive):
    """Sets a rollout's limit when it starts, and looks again when it is reached."""

    needs: ClassVar[frozenset[RolloutNeed]] = frozenset({RolloutNeed.TURNS})

    def __init__(self, config: Config, setting: Setting) -> None:
        if not setting.plan.turns_max:
            raise UserError("plan.turns_max is 0; with control turn_limits it must be at least 1")
        self.config = config
        self.plan = setting.plan
        self.stream = setting.stream
        self.turns: deque[int] = deque(maxlen=4 * config.unrestricted_min)
        self.kinds: dict[int, dict[int, str]] = {}  # by group and rollout
        self.counts = {"unrestricted": 0, "extended": 0}

    def limit(self) -> int:
        """Return the limit of the restricted."""
        if len(self.turns) < self.config.unrestricted_min:
            return self.config.turns_most
        ordered = sorted(self.turns)
        found = ordered[ceil(self.config.percentile * len(ordered)) - 1]
        return min(max(found, self.plan.turns_max), self.config.turns_most)

    def on_event(self, event: Heard, view: View) -> Sequence[Proposal]:
        """Set limits, extend them, and learn from the unrestricted."""
        if isinstance(event, Settled):
            self.kinds.pop(event.group, None)
            return ()
        if not isinstance(event, Started | TurnEnd | ToolReturn | Finished):
            return ()
        rollout = view.rollout(event.rid)
        if rollout is None:
            return ()
        kinds = self.kinds.setdefault(rollout.group, {})
        kind = kinds.get(rollout.rid)
        if kind is None:
            return self._begin(rollout, kinds)
        reached = isinstance(event, TurnEnd) and rollout.turns >= rollout.turn_limit
        if kind == UNRESTRICTED and (rollout.status in st.SCORED or reached):
            self.turns.append(rollout.turns + isinstance(event, Finished))
            kinds[rollout.rid] = OVER
        if kind == LIMITED and reached:
            kinds[rollout.rid] = OVER
            return self._extend(rollout, view)
        return ()

    def _begin(self, rollout: RolloutView, kinds: dict[int, str]) -> Sequence[Proposal]:
        share = self.config.random_share
        learning = len(self.turns) < self.config.unrestricted_min
        free = learning or self.stream.uniform() < share
        kinds[rollout.rid] = UNRESTRICTED if free else LIMITED
        self.counts["unrestricted"] += free
        limit = self.config.turns_most if free else self.limit()
        chance = 1.0 if learning else share if free else 1.0 - share
        more = max(limit - rollout.turn_limit, 0)
        return [Extend(rollout.rid, 0, more, kinds[rollout.rid], chance)]

    def _extend(self, rollout: RolloutView, view: View) -> Sequence[Proposal]:
        more = min(self.config.extension_turns, self.config.turns_most - rollout.turn_limit)
        rewards = (view.reward(one.rid) for one in view.members(rollout.group))
        known = (self.plan.success(one) for one in rewards if one is not None)
        if more < 1 or any(one >= self.config.success_min for one in known):
            return ()
        self.counts["extended"] += 1
        return [Extend(rollout.rid, 0, more, "no success yet")]

    def metrics(self) -> Metrics:
        """Return the limit now, and how many were unrestricted or extended."""
        return {"limit": float(self.limit()), **self.counts}

    def state_dict(self) -> State:
        """Return turns, kinds, stream and counts."""
        return {
            "turns": list(self.turns),
            "kinds": [[uid, [*kinds.items()]] for uid, kinds in self.kinds.items()],
            "stream": self.stream.state_dict(),
            "counts": dict(self.counts),
        }

    def load_state_dict(self, state: State) -> None:
        """Take them over."""
        self.turns = deque(state["turns"], self.turns.maxlen)
        self.kinds = {uid: dict(kinds) for uid, kinds in state["kinds"]}
        self.stream.load_state_dict(state["stream"])
        self.counts = dict(state["counts"])
