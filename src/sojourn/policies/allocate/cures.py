"""Rollouts in proportion to the spread of a prompt's gradients, from probes.

Source: CurES (Zeng et al. 2025; arXiv 2510.01037) and its released code: 4 probes, 8 on average,
    numbers in proportion to σ with σ² = p (1 - p)² E[g₊²] + p² (1 - p) E[g₋²]
    - p² (1 - p)² (E[g₊] - E[g₋])², the gradient norms of right and wrong answers.
Reads: rewards of a group's first round; the budget that is left.
Memory: none.
Needs: nothing.
Deviations: gradient norms are not reported by any engine: all alike, σ² = p (1 - p). Probes are
    trained too. Two presets: "released" rounds each number on its own, so that their sum is not the
    budget; "even" keeps the sum.
Fails when: four probes all fail or all succeed: the prompt gets nothing more, though at a success
    rate of 1 in 8 that happens to 6 of 10.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import ClassVar, Final

from sojourn.errors import UserError, unknown
from sojourn.policies.allocate.sharing import proportional, tally
from sojourn.rollout.memory import Memoryless
from sojourn.rollout.model import GroupResult
from sojourn.rollout.needs import RolloutNeed
from sojourn.rollout.slots import Pick, Round, Setting
from sojourn.rollout.views import GroupView, View

VARIANTS: Final = ("released", "even")


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the shares.

    Attributes:
        probes: Rollouts of the first round.
        variant: "released" or "even".
    """

    probes: int = 4
    variant: str = "released"

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.probes < 1:
            raise UserError(f"allocate.probes is {self.probes}; it must be at least 1")
        if self.variant not in VARIANTS:
            raise unknown("allocate.variant", self.variant, VARIANTS)

    @classmethod
    def even(cls) -> Config:
        """Return the preset that keeps the sum."""
        return cls(variant="even")


class Cures(Memoryless):
    """Probes, then shares."""

    needs: ClassVar[frozenset[RolloutNeed]] = frozenset()
    together: ClassVar[bool] = True

    def __init__(self, config: Config, setting: Setting) -> None:
        self.config = config

    def open(self, picks: Sequence[Pick], budget: int, view: View) -> Sequence[Round]:
        """Give each the probes."""
        return [Round(self.config.probes, reason="probes")] * len(picks)

    def more(self, groups: Sequence[GroupView], budget: int, view: View) -> Sequence[Round]:
        """Divide what is left by the spreads, once."""
        if any(one.rounds > 1 for one in groups):
            return [Round(0)] * len(groups)
        rates = [tally(one, view).rate for one in groups]
        spreads = [sqrt(one * (1.0 - one)) for one in rates]
        counts = proportional(spreads, budget)
        if self.config.variant == "released" and sum(spreads) > 0.0:
            counts = [round(budget * one / sum(spreads)) for one in spreads]
        return [Round(one, reason="spread") for one in counts]

    def observe(self, result: GroupResult, view: View) -> None:
        """Take no note."""
