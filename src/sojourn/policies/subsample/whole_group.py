"""Every rollout that has a reward is trained.

Source: GRPO (Shao et al., DeepSeekMath, arXiv 2402.03300).
Reads: which rollouts have a reward, and with what probability controls kept them.
Memory: none.
Needs: nothing.
Deviations: none.
Fails when: groups are large and most of their rollouts say the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sojourn.rollout.corrections import kept_probabilities
from sojourn.rollout.memory import Memoryless
from sojourn.rollout.model import GroupResult, Subset
from sojourn.rollout.needs import RolloutNeed
from sojourn.rollout.slots import Setting
from sojourn.rollout.views import View


@dataclass(frozen=True, slots=True)
class Config:
    """No parameters."""


class WholeGroup(Memoryless):
    """The whole group, with certainty."""

    needs: ClassVar[frozenset[RolloutNeed]] = frozenset()

    def __init__(self, config: Config, setting: Setting) -> None:
        """Take nothing from either."""

    def select(self, result: GroupResult, view: View) -> Subset:
        """Take all that are scored."""
        scored = tuple(result.scored)
        return Subset(scored, tuple(kept_probabilities(result)))
