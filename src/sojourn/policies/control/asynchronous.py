"""Generation never waits for training: whatever staleness admits is opened at once.

Source: AReaL (Fu et al., arXiv 2505.24298), its rollout executor and staleness manager.
Reads: nothing; admission is the version ledger's.
Memory: none.
Needs: version tags.
Deviations: AReaL interrupts what runs when weights change; here that is the host's, by the mode in
    which it pauses its engines.
Fails when: no versions may pass: then it is the synchronous loop without its order. Engines share
    their GPUs with the trainer: nothing can overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sojourn.rollout import states
from sojourn.rollout.actions import Proposal, Resume
from sojourn.rollout.events import BatchWanted, Heard
from sojourn.rollout.memory import Memoryless, Passive
from sojourn.rollout.needs import RolloutNeed
from sojourn.rollout.slots import Setting
from sojourn.rollout.views import View


@dataclass(frozen=True, slots=True)
class Config:
    """No parameters: the plan says how many versions may pass."""


class Asynchronous(Passive, Memoryless):
    """Opens all that is admitted and stops nothing."""

    needs: ClassVar[frozenset[RolloutNeed]] = frozenset({RolloutNeed.VERSIONS})

    def __init__(self, config: Config, setting: Setting) -> None:
        """Take nothing from either."""

    def on_event(self, event: Heard, view: View) -> Sequence[Proposal]:
        """Resume, when a batch is wanted, what something else may have parked."""
        if not isinstance(event, BatchWanted):
            return ()
        return [Resume(one.rid) for one in view.in_status(states.PARKED)]
