"""More rollouts for the prompts that were solved less than half of the time, up to a target.

Source: DARS (Yang et al. 2025; arXiv 2508.13755) and its released code: 8 first, accuracy a (a
    sixteenth if none), then ceil((T - 8 S) / S) more with S = 2 a (1 - a), bounded; equal treatment
    (ET): T = 4, 32 rollouts at most; hardness-weighted (HW): T = 8 (1 - a), 64 at most.
Reads: rewards of a group's first round.
Memory: none.
Needs: nothing.
Deviations: groups that are all solved or all failed are dropped by the selector (`dapo_filter`),
    not here. Its breadth variant is a matter of batch size. Where the budget is short the largest
    numbers are cut.
Fails when: the budget is that of equal groups: it wants 1.5 to 4 times as many, most of them for
    prompts that keep failing, and "no extra cost" holds at convergence only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import ClassVar, Final

from sojourn.errors import UserError, unknown
from sojourn.policies.allocate.sharing import tally
from sojourn.rollout.memory import Memoryless
from sojourn.rollout.model import GroupResult
from sojourn.rollout.needs import RolloutNeed
from sojourn.rollout.slots import Pick, Round, Setting
from sojourn.rollout.views import GroupView, View

VARIANTS: Final = ("equal", "hardness")


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the schedule.

    Attributes:
        first: Rollouts of the first round.
        variant: "equal" treatment or "hardness"-weighted.
        target: T; of equal treatment as it is, else times 2 (1 - a).
        rollouts_max: Rollouts of a group at most.
    """

    first: int = 8
    variant: str = "equal"
    target: float = 4.0
    rollouts_max: int = 32

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if not 2 <= self.first <= self.rollouts_max:
            raise UserError(
                f"allocate.first is {self.first}; it must be from 2 to rollouts_max, "
                f"{self.rollouts_max}"
            )
        if self.variant not in VARIANTS:
            raise unknown("allocate.variant", self.variant, VARIANTS)
        if self.target <= 0.0:
            raise UserError(f"allocate.target is {self.target:g}; it must be above 0")

    @classmethod
    def hardness_weighted(cls) -> Config:
        """Return the HW schedule."""
        return cls(variant="hardness", rollouts_max=64)


class Dars(Memoryless):
    """Rounds by accuracy."""

    needs: ClassVar[frozenset[RolloutNeed]] = frozenset()
    together: ClassVar[bool] = False

    def __init__(self, config: Config, setting: Setting) -> None:
        self.config = config

    def open(self, picks: Sequence[Pick], budget: int, view: View) -> Sequence[Round]:
        """Give each the first round."""
        return [Round(self.config.first, reason="first round")] * len(picks)

    def more(self, groups: Sequence[GroupView], budget: int, view: View) -> Sequence[Round]:
        """Give those that were mostly failed what the schedule wants, once."""
        return [
            Round(self.extra(tally(one, view).rate) if one.rounds < 2 else 0, reason="schedule")
            for one in groups
        ]

    def extra(self, accuracy: float) -> int:
        """Return the rollouts that a prompt gets beyond the first."""
        config = self.config
        accuracy = accuracy or 0.5 / config.first
        if accuracy >= 0.5:
            return 0
        spread = 2.0 * accuracy * (1.0 - accuracy)
        target = config.target
        if config.variant == "hardness":
            target *= 2.0 * (1.0 - accuracy)
        wanted = ceil((target - config.first * spread) / spread)
        return max(min(wanted, config.rollouts_max - config.first), 0)

    def observe(self, result: GroupResult, view: View) -> None:
        """Take no note."""
