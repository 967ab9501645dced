"""More groups than a batch needs; when enough are done the rest is stopped and kept for later.

Source: APRIL (Zhou et al., arXiv 2509.18521), as in slime; 64 groups for a batch of 32.
Reads: whether a batch is wanted, how many groups it needs, how many are open or usable, and which
    rollouts are live.
Memory: none.
Needs: abort and keep, resume from token ids, version tags.
Deviations: groups beyond the batch that are done at the same time wait for the next one;
    `discards_surplus` discards them, as the loop of slime does. What was kept is resumed from its
    token ids; early versions of the code made them from text again. A ratio that gives no whole
    number of groups is kept to on average: one more in some steps.
Fails when: the ratio is high: most tokens are then carried into later batches, and made by old
    weights. Tails are so heavy that the same few rollouts are carried again and again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import floor
from typing import ClassVar, Final

from sojourn.errors import UserError
from sojourn.rollout import states
from sojourn.rollout.actions import Abort, Close, Proposal, Resume
from sojourn.rollout.events import Batched, BatchWanted, Heard
from sojourn.rollout.memory import Memoryless
from sojourn.rollout.needs import RolloutNeed
from sojourn.rollout.slots import Setting, Stretch
from sojourn.rollout.views import RolloutView, View

ROUNDING: Final = 1e-6
"""What a product may lack of a whole number."""


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of oversubmission.

    Attributes:
        ratio: Groups open or usable for each group that the batch needs, on average over steps.
        discards_surplus: Whether groups that are done beyond the batch are discarded.
    """

    ratio: float = 2.0
    discards_surplus: bool = False

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.ratio < 1.0:
            raise UserError(f"control.ratio is {self.ratio}; it must be at least 1")


class April(Memoryless):
    """Opens too many, stops the slow ones, and serves them first in the next step."""

    needs: ClassVar[frozenset[RolloutNeed]] = frozenset(
        {RolloutNeed.ABORT_KEEP, RolloutNeed.RESUME, RolloutNeed.VERSIONS}
    )

    def __init__(self, config: Config, setting: Setting) -> None:
        self.config = config

    def appetite(self, view: View) -> int:
        """Open what is lacking to the ratio; what was carried over counts."""
        if not view.wanted:
            return 0
        whole = self.config.ratio * view.need
        groups = floor(whole * view.step + ROUNDING) - floor(whole * (view.step - 1) + ROUNDING)
        return groups - view.usable - len(view.open_groups)

    def ready(self, view: View) -> bool:
        """Let the batch go as soon as there is one."""
        return True

    def stretch(self, rollout: RolloutView, view: View) -> Stretch:
        """Let every rollout go to its limit."""
        return Stretch()

    def on_event(self, event: Heard, view: View) -> Sequence[Proposal]:
        """Stop everything when a batch was made; resume it when the next one is wanted."""
        if isinstance(event, Batched):
            return [*self._stops(view)]
        if isinstance(event, BatchWanted):
            stopping = (one for one in view.in_status(states.RUNNING) if one.stop)
            return [Resume(one.rid) for one in (*view.in_status(states.PARKED), *stopping)]
        return ()

    def _stops(self, view: View) -> Iterator[Proposal]:
        for status in (states.PENDING, states.RUNNING, states.ACTING):
            for one in view.in_status(status):
                yield Abort(one.rid, keep=True, reason="the batch is full")
        if self.config.discards_surplus:
            for uid in view.usable_groups:
                yield Close(uid, reason="beyond the batch")
