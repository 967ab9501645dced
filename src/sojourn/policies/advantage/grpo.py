"""Rewards less their group's mean, over their group's standard deviation.

Source: GRPO (Shao et al., DeepSeekMath, arXiv 2402.03300); without the deviation it is that of
    Dr. GRPO (Liu et al., arXiv 2503.20783).
Reads: the rewards of the rollouts that are trained.
Memory: none.
Needs: nothing.
Deviations: mean and deviation are over the rollouts of the subset, however many there are in each
    group. A group of one gets 0, where verl gives it its raw reward; so does one of equal rewards.
Fails when: all rewards of most groups are equal: their advantages are 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

from sojourn.errors import UserError
from sojourn.rollout.memory import Memoryless
from sojourn.rollout.model import GroupResult, Subset
from sojourn.rollout.needs import RolloutNeed
from sojourn.rollout.slots import Setting
from sojourn.rollout.views import View


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the estimator.

    Attributes:
        divides: Whether the standard deviation divides; false is the rule of Dr. GRPO.
        unbiased: Whether the variance is over n - 1, as in torch and verl, or over n.
        epsilon: Added to the standard deviation.
    """

    divides: bool = True
    unbiased: bool = True
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.epsilon < 0.0:
            raise UserError(f"advantage.epsilon is {self.epsilon}; it must be at least 0")


class Grpo(Memoryless):
    """Each group is its own baseline, whatever its size."""

    needs: ClassVar[frozenset[RolloutNeed]] = frozenset()

    def __init__(self, config: Config, setting: Setting) -> None:
        self.config = config

    def compute(
        self, groups: Sequence[tuple[GroupResult, Subset]], view: View
    ) -> Sequence[Sequence[float | None]]:
        """Centre and scale the rewards of each subset."""
        return [self._group(result, subset) for result, subset in groups]

    def _group(self, result: GroupResult, subset: Subset) -> list[float | None]:
        rewards = [result.rewards[at] or 0.0 for at in subset.indices]
        count = len(rewards)
        if count < 2:
            return [0.0] * count
        mean = sum(rewards) / count
        if max(rewards) == min(rewards):
            return [0.0] * count
        if not self.config.divides:
            return [one - mean for one in rewards]
        squares = sum((one - mean) ** 2 for one in rewards)
        deviation = sqrt(squares / (count - self.config.unbiased)) + self.config.epsilon
        return [(one - mean) / deviation if deviation else 0.0 for one in rewards]
