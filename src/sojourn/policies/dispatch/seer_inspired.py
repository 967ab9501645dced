"""One rollout of each group goes first; what it shows puts the longest of the others first.

Source: after Seer, 2025, arXiv 2511.14617, of which a summary was at hand: a probe per group runs
    first, its length is the group's estimate, and the longest go first; a group whose probe is
    still running is taken for a long one.
Reads: length beliefs of prompts, states and starts of siblings, seats and rollouts in flight of
    engines.
Memory: the probe of each group, starts of running rollouts, how fast tokens come.
Needs: nothing.
Deviations: an estimate is the posterior of a log-normal length: prompts lean on the pool as far as
    lengths differ within prompts, earlier visits count, and so does how long siblings have been
    running. Rollouts wait here and not in the engines. Chunks are the control `divided`. Left out:
    the KV pool across engines, and drafts from siblings.
Fails when: there are seats for all: then nobody waits, and order decides nothing. Siblings have
    little in common in length: then it is as good as any other order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from sojourn.decide.clock import Time
from sojourn.errors import UserError
from sojourn.policies.dispatch.seats import emptiest
from sojourn.policies.dispatch.sibling_lengths import expected_remaining, with_running
from sojourn.rollout import states as st
from sojourn.rollout.actions import Proposal
from sojourn.rollout.events import Finished, Heard, Settled, Started
from sojourn.rollout.needs import RolloutNeed
from sojourn.rollout.slots import UNLIMITED, Metrics, Setting, State
from sojourn.rollout.views import EngineView, RolloutView, View

PACE_KEEP = 0.95  # weight of earlier paces at each new one


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the placement.

    Attributes:
        seats: Rollouts at once on an engine that does not say how many it has.
        growth: Factor by which the longest running sibling grows between two rankings of a group.
    """

    seats: int = 256
    growth: float = 1.25

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.seats < 1:
            raise UserError(f"dispatch.seats is {self.seats}; it must be at least 1")
        if self.growth <= 1.0:
            raise UserError(f"dispatch.growth is {self.growth}; it must be above 1")


class SeerInspired:
    """Probes, then the longest expected remainder."""

    needs: ClassVar[frozenset[RolloutNeed]] = frozenset()

    def __init__(self, config: Config, setting: Setting) -> None:
        self.config = config
        self.probes: dict[int, int] = {}
        self.starts: dict[int, dict[int, tuple[Time, int]]] = {}  # by group and running rollout
        self.ranked: dict[int, float] = {}  # by group: elapsed tokens at which it is ranked anew
        self.pace = 0.0  # tokens of a rollout in a unit of time

    def key(self, rollout: RolloutView, view: View) -> tuple[float, ...]:
        """Rank probes first, and the others by the tokens that they are expected to need."""
        uid = rollout.group
        probe = self.probes.setdefault(uid, rollout.rid)
        belief = view.beliefs.length(rollout.prompt_id)
        apart = [
            float(one.sampled)
            for one in view.members(uid)
            if one.rid != rollout.rid and one.status in (st.PENDING, st.PARKED) and one.sampled
        ]
        belief = with_running(belief, [*self._elapsed(uid, view.time), *apart])
        remaining = expected_remaining(belief, rollout.sampled, rollout.token_limit)
        return float(probe != rollout.rid), -remaining

    def _elapsed(self, uid: int, now: Time) -> list[float]:
        running = self.starts.get(uid, {}).values()
        return [had + self.pace * (now - since) for since, had in running]

    def changed(self, event: Heard, view: View) -> Iterable[int]:
        """Rank anew where a sibling has ended, or the longest running one has grown enough."""
        if not isinstance(event, Finished):
            return ()
        ended = view.rollout(event.rid)
        due = [] if ended is None else [ended.group]
        for uid in self.starts:
            longest = max(self._elapsed(uid, view.time), default=0.0)
            if longest > self.ranked.get(uid, 1.0):
                self.ranked[uid] = self.config.growth * longest
                due.append(uid)
        members = (one for uid in due if uid in view.open_groups for one in view.members(uid))
        return [one.rid for one in members if one.status == st.PENDING]

    def admit(self, view: View) -> int:
        """Limit nothing in all; seats do."""
        return UNLIMITED

    def place(self, rollout: RolloutView, engines: Sequence[EngineView], view: View) -> int | None:
        """Take the engine with the smallest share of its seats taken."""
        return emptiest(engines, self.config.seats)

    def priority(self, rollout: RolloutView, view: View) -> int:
        """Give all the same: what is sent has a seat."""
        return 0

    def on_event(self, event: Heard, view: View) -> Sequence[Proposal]:
        """Follow who is running, and how fast; want nothing."""
        if isinstance(event, Settled):
            for memory in (self.probes, self.starts, self.ranked):
                memory.pop(event.group, None)
        elif not isinstance(event, Started) and (rid := getattr(event, "rid", -1)) >= 0:
            rollout = view.rollout(rid)
            if rollout is not None and rollout.status != st.RUNNING:
                self._stopped(rollout, view.time)
        elif isinstance(event, Started) and (begun := view.rollout(event.rid)) is not None:
            self.starts.setdefault(begun.group, {})[begun.rid] = (view.time, begun.sampled)
        return ()

    def _stopped(self, rollout: RolloutView, now: Time) -> None:
        since, had = self.starts.get(rollout.group, {}).pop(rollout.rid, (now, 0))
        if now > since:
            pace = (rollout.sampled - had) / (now - since)
            self.pace = PACE_KEEP * self.pace + (1.0 - PACE_KEEP) * pace if self.pace else pace

    def metrics(self) -> Metrics:
        """Return how many groups have a probe."""
        return {"probes": float(len(self.probes))}

    def state_dict(self) -> State:
        """Return probes, starts, rankings and pace."""
        starts = [
            [uid, [[rid, *one] for rid, one in of.items()]] for uid, of in self.starts.items()
        ]
        rest = {"ranked": [*self.ranked.items()], "pace": self.pace}
        return {"probes": [*self.probes.items()], "starts": starts, **rest}

    def load_state_dict(self, state: State) -> None:
        """Take them over."""
        self.probes, self.ranked = dict(state["probes"]), dict(state["ranked"])
        self.starts = {uid: {rid: (at, had) for rid, at, had in of} for uid, of in state["starts"]}
        self.pace = state["pace"]
