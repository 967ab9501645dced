"""Rewards less their group's median, over their median distance from it; one pivot is left out.

Source: MC-GRPO (Kim, 2026, arXiv 2601.22582) and its released code: G + 1 rollouts, so that exactly
    one is the median; it has no advantage and is not trained.
Reads: the rewards of the rollouts that are trained.
Memory: none.
Needs: nothing.
Deviations: where the median distance (MAD) is 0, as nearly always with rewards of 0 and 1, there is
    nothing to divide by, and preset "paper" divides by 1. Preset "code" divides by MAD + 0.001 and
    then multiplies by the size of the group over its advantages that are not 0: a lone success
    among G + 1 gets 1000 (G + 1), and only clipping hides it. Groups of even size have no pivot
    unless a reward equals their median.
Fails when: groups are large: the median of 0 and 1 says less than their mean. One more than half
    succeed: then the successes have no advantage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import ClassVar, Final

from sojourn.errors import UserError, unknown
from sojourn.rollout.memory import Memoryless
from sojourn.rollout.model import GroupResult, Subset
from sojourn.rollout.needs import RolloutNeed
from sojourn.rollout.slots import Setting
from sojourn.rollout.views import View

PRESETS: Final = ("code", "paper")


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the estimator.

    Attributes:
        preset: "paper" divides by the MAD where there is one, "code" as the released code does.
        epsilon: What preset "code" adds to the MAD.
    """

    preset: str = "paper"
    epsilon: float = 1e-3

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.preset not in PRESETS:
            raise unknown("advantage.preset", self.preset, PRESETS)
        if self.epsilon <= 0.0:
            raise UserError(f"advantage.epsilon is {self.epsilon}; it must be above 0")


class MedianCentred(Memoryless):
    """The median is the baseline, and one rollout that equals it the pivot."""

    needs: ClassVar[frozenset[RolloutNeed]] = frozenset()

    def __init__(self, config: Config, setting: Setting) -> None:
        self.config = config

    def compute(
        self, groups: Sequence[tuple[GroupResult, Subset]], view: View
    ) -> Sequence[Sequence[float | None]]:
        """Centre, scale and leave the pivot out, group by group."""
        return [self._group(result, subset) for result, subset in groups]

    def _group(self, result: GroupResult, subset: Subset) -> list[float | None]:
        rewards = [result.rewards[at] or 0.0 for at in subset.indices]
        if len(rewards) < 2:
            return [0.0] * len(rewards)
        centre = median(rewards)
        gaps = [one - centre for one in rewards]
        distance = median(abs(one) for one in gaps)
        found: list[float | None]
        if self.config.preset == "code":
            scaled = [one / (distance + self.config.epsilon) for one in gaps]
            uneven = sum(one != 0.0 for one in scaled)
            found = [one * len(scaled) / max(uneven, 1) for one in scaled]
        else:
            found = [one / (distance or 1.0) for one in gaps]
        if 0.0 in gaps:
            found[gaps.index(0.0)] = None
        return found
