"""Each step generates at most a window of tokens of every rollout, and keeps what is unfinished.

Source: the loop of T-PPO (Truncated Proximal Policy Optimization, arXiv 2506.15050, 2025).
Reads: whether a batch is wanted, how many groups it needs, how many are open or usable, and the
    states of rollouts.
Memory: where the latest submission of each live rollout was to end.
Needs: abort and keep, resume from token ids, version tags.
Deviations: only the loop. T-PPO trains on every window, with a critic that bootstraps at the cut;
    without one a group is trained when all of it is done, so more groups are open than a batch has.
    The window's size is not known from the abstract.
Fails when: the plan lets no group be older than a version: every open group then holds up the
    batch. Windows are short: each one costs a prefill. Turns are long: tools are not waited for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import ClassVar

from sojourn.errors import UserError
from sojourn.rollout import states as st
from sojourn.rollout.actions import Abort, Proposal, Resume
from sojourn.rollout.events import Batched, Finished, Heard
from sojourn.rollout.memory import Passive
from sojourn.rollout.needs import RolloutNeed
from sojourn.rollout.slots import Metrics, Setting, State, Stretch
from sojourn.rollout.views import RolloutView, View


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the windows.

    Attributes:
        window_tokens: Tokens of each rollout in a window.
        ratio: Groups open or usable for each group that the batch needs.
    """

    window_tokens: int = 4096
    ratio: float = 2.0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.window_tokens < 1:
            raise UserError(f"control.window_tokens is {self.window_tokens}; it must be at least 1")
        if self.ratio < 1.0:
            raise UserError(f"control.ratio is {self.ratio}; it must be at least 1")


class Windowed(Passive):
    """Begins a window when the last one is over and leaves the batch short of groups."""

    needs: ClassVar[frozenset[RolloutNeed]] = frozenset(
        {RolloutNeed.ABORT_KEEP, RolloutNeed.RESUME, RolloutNeed.VERSIONS}
    )

    def __init__(self, config: Config, setting: Setting) -> None:
        self.config = config
        self.goals: dict[int, int] = {}
        self.windows = 0

    def appetite(self, view: View) -> int:
        """Replace what was trained."""
        if not view.wanted:
            return 0
        return ceil(self.config.ratio * view.need) - view.usable - len(view.open_groups)

    def ready(self, view: View) -> bool:
        """Wait for the end of the window."""
        return view.on_engines == 0

    def stretch(self, rollout: RolloutView, view: View) -> Stretch:
        """Let a rollout go for one window."""
        self.goals[rollout.rid] = rollout.sampled + self.config.window_tokens
        return Stretch(tokens=self.config.window_tokens)

    def on_event(self, event: Heard, view: View) -> Sequence[Proposal]:
        """Begin the next window, or take it back if a batch came of the last one after all."""
        if isinstance(event, Batched):
            begun = (*view.in_status(st.PENDING), *view.in_status(st.RUNNING))
            return [Abort(one.rid, keep=True, reason="the window is over") for one in begun]
        if not view.wanted or view.on_engines or any(True for _ in view.in_status(st.PENDING)):
            return ()
        if self._may_come(view):
            return ()
        resumed = [Resume(one.rid) for one in self._unfinished(event, view)]
        self.windows += bool(resumed)
        return resumed

    def _may_come(self, view: View) -> bool:
        """Return whether rewards that are on their way may complete the batch."""
        awaited = 0
        for uid, group in view.open_groups.items():
            members = view.members(uid)
            live = any(one.status in st.LIVE for one in members)
            if live and view.overdue(uid):
                return False  # it holds up the batch
            awaited += not live and group.waiting > 0
        return view.usable + awaited >= view.need

    def _unfinished(self, event: Heard, view: View) -> Iterator[RolloutView]:
        parked = list(view.in_status(st.PARKED))
        known = {one.rid for one in parked}
        self.goals = {rid: goal for rid, goal in self.goals.items() if rid in known}
        for one in parked:
            just_ended = isinstance(event, Finished) and event.rid == one.rid
            cut_short = just_ended and one.sampled < self.goals.get(one.rid, 0)
            if one.sampled < one.token_limit and not cut_short:
                yield one  # others are at a limit, and about to be truncated

    def metrics(self) -> Metrics:
        """Return the windows that resumed something."""
        return {"windows": float(self.windows)}

    def state_dict(self) -> State:
        """Return the ends of submissions and the count of windows."""
        return {"goals": [*self.goals.items()], "windows": self.windows}

    def load_state_dict(self, state: State) -> None:
        """Take them over."""
        self.goals = dict(state["goals"])
        self.windows = state["windows"]
