"""Of a random pool, the prompts whose rollouts would tell most, weighted by how mixed they are.

Source: after summaries of InSight (Zhou et al. 2026; arXiv 2603.01907): weighted mutual information
    of a beta belief's success rate and the outcomes, at the mean of the belief and not at a draw.
Reads: beliefs of the candidates; which prompts are open.
Memory: its stream.
Needs: nothing.
Deviations: the weight is not in what was read; it is m (1 - m) of the mean m. The information is
    in closed form, and equals the paper's as far as that is the mutual information. The pool is
    MoPPS's.
Fails when: prompts seen often are still the best to train: their information is spent, and it goes
    for the unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sojourn.errors import UserError
from sojourn.policies.select.beta_math import information
from sojourn.policies.select.pool import Pooled
from sojourn.rollout.slots import Pick, Setting
from sojourn.rollout.views import View

OUTCOMES_MAX: Final = 4096
"""The information of more is a long sum, and no larger for any purpose here."""


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the choice.

    Attributes:
        pool: Candidates for each prompt wanted.
        outcomes: Rollouts whose information counts; 0 for as many as a group has.
    """

    pool: int = 16
    outcomes: int = 1

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.pool < 1:
            raise UserError(f"select.pool is {self.pool}; it must be at least 1")
        if not 0 <= self.outcomes <= OUTCOMES_MAX:
            raise UserError(
                f"select.outcomes is {self.outcomes}; it must be from 0 to {OUTCOMES_MAX}"
            )

    @classmethod
    def whole_group(cls) -> Config:
        """Return the extension to all rollouts of a group."""
        return cls(outcomes=0)


class InsightInspired(Pooled):
    """Information times weight."""

    def __init__(self, config: Config, setting: Setting) -> None:
        super().__init__(setting, config.pool)
        self.outcomes = config.outcomes or setting.plan.rollouts_per_group

    def propose(self, count: int, view: View) -> list[Pick]:
        """Take the candidates with the most weighted information."""
        pool = self.pool(count, view)
        scores = []
        for one in pool:
            belief = view.beliefs.read(one, view.version)
            weight = belief.mean * (1.0 - belief.mean)
            scores.append(weight * information(belief.alpha, belief.beta, self.outcomes))
        return self.best(pool, scores, count, "weighted information")
