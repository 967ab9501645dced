"""The same number of rollouts for every prompt, all at once.

Source: GRPO (Shao et al., DeepSeekMath, arXiv 2402.03300); verl's `rollout.n`.
Reads: the plan's rollouts for each group.
Memory: none.
Needs: nothing.
Deviations: none.
Fails when: prompts differ in difficulty: the easy and the hopeless get as much as those that teach.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sojourn.errors import UserError
from sojourn.rollout.memory import Memoryless
from sojourn.rollout.model import GroupResult
from sojourn.rollout.needs import RolloutNeed
from sojourn.rollout.slots import Pick, Round, Setting
from sojourn.rollout.views import GroupView, View


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the allocation.

    Attributes:
        rollouts: Rollouts of each group; 0 for what the plan's budget gives each.
    """

    rollouts: int = 0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.rollouts < 0:
            raise UserError(f"allocate.rollouts is {self.rollouts}; it must be at least 0")


class Fixed(Memoryless):
    """One round of equal size."""

    needs: ClassVar[frozenset[RolloutNeed]] = frozenset()
    together: ClassVar[bool] = False

    def __init__(self, config: Config, setting: Setting) -> None:
        self.rollouts = config.rollouts or setting.plan.rollouts_per_group

    def open(self, picks: Sequence[Pick], budget: int, view: View) -> Sequence[Round]:
        """Give each the same."""
        return [Round(self.rollouts)] * len(picks)

    def more(self, groups: Sequence[GroupView], budget: int, view: View) -> Sequence[Round]:
        """Give no more."""
        return [Round(0)] * len(groups)

    def observe(self, result: GroupResult, view: View) -> None:
        """Take no note."""
