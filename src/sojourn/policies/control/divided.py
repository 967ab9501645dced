"""Rollouts go to engines in chunks of tokens, and between two chunks they wait like all others.

Source: the divided rollout of Seer, 2025, arXiv 2511.14617, of which a summary was at hand.
Reads: limits of rollouts.
Memory: where the latest submission of each live rollout was to end.
Needs: abort and keep, resume from token ids.
Deviations: there is no KV pool across engines: what goes on elsewhere costs a prefill. The size of
    a chunk is not known. It only makes room for the dispatch slot to choose again: combine it with
    one that orders by expected length, and with a control that opens groups.
Fails when: chunks are short: each costs a prefill. Nothing waits: then there is nothing to choose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sojourn.errors import UserError
from sojourn.rollout import states as st
from sojourn.rollout.actions import Proposal, Resume
from sojourn.rollout.events import LENGTH, Finished, Heard, Settled
from sojourn.rollout.memory import Passive
from sojourn.rollout.needs import RolloutNeed
from sojourn.rollout.slots import Metrics, Setting, State, Stretch
from sojourn.rollout.views import RolloutView, View


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the chunks.

    Attributes:
        chunk_tokens: Tokens of a rollout after which it waits again.
    """

    chunk_tokens: int = 2048

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.chunk_tokens < 1:
            raise UserError(f"control.chunk_tokens is {self.chunk_tokens}; it must be at least 1")


class Divided(Passive):
    """Resumes at once what has come to the end of its chunk, if nobody parks it."""

    needs: ClassVar[frozenset[RolloutNeed]] = frozenset(
        {RolloutNeed.ABORT_KEEP, RolloutNeed.RESUME}
    )

    def __init__(self, config: Config, setting: Setting) -> None:
        self.config = config
        self.goals: dict[int, dict[int, int]] = {}  # by group and rollout
        self.chunks = 0

    def stretch(self, rollout: RolloutView, view: View) -> Stretch:
        """Let a rollout go for one chunk."""
        goal = rollout.sampled + self.config.chunk_tokens
        self.goals.setdefault(rollout.group, {})[rollout.rid] = goal
        return Stretch(tokens=self.config.chunk_tokens)

    def on_event(self, event: Heard, view: View) -> Sequence[Proposal]:
        """Let a rollout go on that stopped where its chunk ends, and not at a limit."""
        if isinstance(event, Settled):
            self.goals.pop(event.group, None)
        elif isinstance(event, Finished) and event.reason == LENGTH:
            rollout = view.rollout(event.rid)
            if rollout is None or rollout.status != st.PARKED:
                return ()
            goal = self.goals.get(rollout.group, {}).get(rollout.rid, 0)
            if rollout.sampled == goal < rollout.token_limit:
                self.chunks += 1
                return [Resume(rollout.rid)]
        return ()

    def metrics(self) -> Metrics:
        """Return how many chunks were followed by another."""
        return {"chunks": float(self.chunks)}

    def state_dict(self) -> State:
        """Return the ends of submissions and the count of chunks."""
        goals = [[uid, [*goals.items()]] for uid, goals in self.goals.items()]
        return {"goals": goals, "chunks": self.chunks}

    def load_state_dict(self, state: State) -> None:
        """Take them over."""
        self.goals = {uid: dict(goals) for uid, goals in state["goals"]}
        self.chunks = state["chunks"]
