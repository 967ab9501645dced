"""Short rounds leave slow rollouts behind; they are made up for together in a long round.

Source: after RollPacker (tail batching), 2025, of which a summary and part of the code were at
    hand: a short round starts more prompts and more rollouts than it needs and takes the first;
    prompts that lose the race wait until they fill a batch of their own, which is not raced.
Reads: which rollouts of a group have ended, which groups are open after a batch, the batch's size.
Memory: the groups that were left behind, and whether a long round runs.
Needs: abort and keep, resume from token ids.
Deviations: what was left behind keeps its tokens and goes on from them, where the original begins
    again under new weights. Seats that a long round leaves idle go to new prompts. How many
    prompts and rollouts are started is for the control and the allocation to say.
Fails when: it is combined with a control that opens no more than a batch: nothing is raced. The
    plan lets no group grow old: those left behind are overdue at once. The first rollouts to end
    are the short ones: data get shorter; compare trained with offered length.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import ClassVar

from sojourn.errors import UserError
from sojourn.policies.dispatch.seats import emptiest
from sojourn.rollout import states as st
from sojourn.rollout.actions import Abort, Close, Proposal, Resume
from sojourn.rollout.events import Batched, BatchWanted, Finished, Heard, Settled
from sojourn.rollout.needs import RolloutNeed
from sojourn.rollout.slots import UNLIMITED, Metrics, Setting, State
from sojourn.rollout.views import EngineView, RolloutView, View

NEEDS = frozenset({RolloutNeed.ABORT_KEEP, RolloutNeed.RESUME})


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the rounds.

    Attributes:
        taken_share: Share of a group's rollouts whose end ends the group in a short round.
        queue_groups: Groups left behind that make a long round; 0 for as many as a batch has.
        seats: Rollouts at once on an engine that does not say how many it has.
    """

    taken_share: float = 0.8
    queue_groups: int = 0
    seats: int = 256

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if not 0.0 < self.taken_share <= 1.0:
            share = self.taken_share
            raise UserError(f"dispatch.taken_share is {share}; it must be above 0, at most 1")
        for name, least in (("queue_groups", 0), ("seats", 1)):
            if (value := getattr(self, name)) < least:
                raise UserError(f"dispatch.{name} is {value}; it must be at least {least}")


class RollpackerInspired:
    """New groups first in a short round, those left behind first in a long one."""

    needs: ClassVar[frozenset[RolloutNeed]] = NEEDS

    def __init__(self, config: Config, setting: Setting) -> None:
        self.config = config
        self.queue = config.queue_groups or setting.plan.batch_groups
        self.behind: dict[int, None] = {}
        self.long = False
        self.counts = {"long_rounds": 0, "races": 0}

    def key(self, rollout: RolloutView, view: View) -> tuple[float, ...]:
        """Put those whose round it is first."""
        return (float((rollout.group in self.behind) != self.long),)

    def changed(self, event: Heard, view: View) -> Iterable[int]:
        """Rank all anew after a batch."""
        after_batch = isinstance(event, Batched)
        return [one.rid for one in view.in_status(st.PENDING)] if after_batch else ()

    def admit(self, view: View) -> int:
        """Limit nothing in all; seats do."""
        return UNLIMITED

    def place(self, rollout: RolloutView, engines: Sequence[EngineView], view: View) -> int | None:
        """Take the emptiest engine; in a short round those left behind wait."""
        left_behind = rollout.group in self.behind
        if left_behind and not self.long and not view.overdue(rollout.group):
            if view.on_engines:
                return None
            self.long = True  # the others did not fill the batch
            self.counts["long_rounds"] += 1
        return emptiest(engines, self.config.seats)

    def priority(self, rollout: RolloutView, view: View) -> int:
        """Give all the same: what is sent has a seat."""
        return 0

    def on_event(self, event: Heard, view: View) -> Sequence[Proposal]:
        """End races, and leave behind what is unfinished after a batch."""
        if isinstance(event, Settled):
            self.behind.pop(event.group, None)
        elif isinstance(event, Finished):
            return self._race(event.rid, view)
        elif isinstance(event, Batched):
            return self._round(view)
        elif isinstance(event, BatchWanted):
            # One that was told to stop and has not yet stopped would park when nobody looks.
            stopping = [one for one in view.in_status(st.RUNNING) if one.stop]
            return [Resume(one.rid) for one in (*view.in_status(st.PARKED), *stopping)]
        return ()

    def _race(self, rid: int, view: View) -> Sequence[Proposal]:
        """Close a group of a short round when enough of its rollouts have ended."""
        rollout = view.rollout(rid)
        if rollout is None or self.long or rollout.group in self.behind:
            return ()
        members = view.members(rollout.group)
        ended = sum(one.status in st.SCORED for one in members)
        if ended == len(members) or ended < ceil(self.config.taken_share * len(members)):
            return ()
        self.counts["races"] += 1
        return [Close(rollout.group, reason="enough have ended")]

    def _round(self, view: View) -> Sequence[Proposal]:
        """Leave behind every group that has begun, and begin the next round."""
        stopped: list[Proposal] = []
        for uid in view.open_groups:
            members = view.members(uid)
            if any(one.attempt for one in members):
                self.behind[uid] = None
                busy = [one.rid for one in members if one.status in (st.RUNNING, st.ACTING)]
                stopped += [Abort(rid, keep=True, reason="left behind") for rid in busy]
        self.long = len(self.behind) >= self.queue
        self.counts["long_rounds"] += self.long
        return stopped

    def metrics(self) -> Metrics:
        """Return what waits, and the rounds and races so far."""
        return {"left_behind": float(len(self.behind)), **self.counts}

    def state_dict(self) -> State:
        """Return the rounds."""
        return {"behind": [*self.behind], "long": self.long, "counts": dict(self.counts)}

    def load_state_dict(self, state: State) -> None:
        """Take them over."""
        self.behind = dict.fromkeys(state["behind"])
        self.long = state["long"]
        self.counts = dict(state["counts"])
