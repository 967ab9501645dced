"""As many groups as a batch needs, all of them to the end, and then the update.

Source: the synchronous loop of verl, TRL and OpenRLHF.
Reads: whether a batch is wanted, how many groups it needs, and how many are open or usable.
Memory: none.
Needs: nothing.
Deviations: a group that is filtered is replaced by one more at once, not by another full batch.
Fails when: lengths have a long tail: most engines wait for the last few rollouts of each batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sojourn.rollout import states
from sojourn.rollout.actions import Proposal, Resume
from sojourn.rollout.events import BatchWanted, Heard
from sojourn.rollout.memory import Memoryless
from sojourn.rollout.needs import RolloutNeed
from sojourn.rollout.slots import Setting, Stretch
from sojourn.rollout.views import RolloutView, View


@dataclass(frozen=True, slots=True)
class Config:
    """No parameters."""


class Synchronous(Memoryless):
    """Nothing is opened beyond the batch, and nothing is stopped."""

    needs: ClassVar[frozenset[RolloutNeed]] = frozenset()

    def __init__(self, config: Config, setting: Setting) -> None:
        """Take nothing from either."""

    def appetite(self, view: View) -> int:
        """Open what the batch lacks."""
        return view.need - view.usable - len(view.open_groups) if view.wanted else 0

    def ready(self, view: View) -> bool:
        """Wait for every group that was opened."""
        return not view.open_groups

    def stretch(self, rollout: RolloutView, view: View) -> Stretch:
        """Let every rollout go to its limit."""
        return Stretch()

    def on_event(self, event: Heard, view: View) -> Sequence[Proposal]:
        """Resume, when a batch is wanted, what something else may have parked."""
        if not isinstance(event, BatchWanted):
            return ()
        return [Resume(one.rid) for one in view.in_status(states.PARKED)]
