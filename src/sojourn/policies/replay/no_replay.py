"""No group is trained twice.

Source: the on-policy loop of GRPO (Shao et al., arXiv 2402.03300).
Reads: the size of a batch.
Memory: none.
Needs: nothing.
Deviations: none.
Fails when: generation takes most of the time and groups with a signal are rare.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sojourn.rollout.memory import Memoryless
from sojourn.rollout.model import GroupResult, Reward
from sojourn.rollout.needs import RolloutNeed
from sojourn.rollout.slots import Setting
from sojourn.rollout.views import View


@dataclass(frozen=True, slots=True)
class Config:
    """No parameters."""


class NoReplay(Memoryless):
    """Keeps nothing."""

    needs: ClassVar[frozenset[RolloutNeed]] = frozenset()

    def __init__(self, config: Config, setting: Setting) -> None:
        """Take nothing from either."""

    def fresh(self, view: View) -> int:
        """Take all groups of a batch from generation."""
        return view.plan.batch_groups

    def put(self, result: GroupResult, view: View) -> None:
        """Keep nothing."""

    def sample(self, count: int, view: View) -> Sequence[GroupResult]:
        """Give nothing."""
        return ()

    def evict(self, version: int) -> int:
        """Forget nothing."""
        return 0

    def revise(self, reward: Reward) -> None:
        """Take no note."""
