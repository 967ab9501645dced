"""Of a random pool, the prompts whose drawn outcome varies most, with beliefs on two time scales.

Source: after the abstract of VADE (Hu et al. 2025; arXiv 2511.18902): beta counts of each sample, a
    Thompson draw that maximises information, a prior decay on two scales. No code was to be had.
Reads: beliefs of the candidates; which prompts are open.
Memory: its stream.
Needs: nothing. The two decays are those of the run's beliefs: `[beliefs]` of a scenario sets them,
    and `BELIEFS` has the published ones.
Deviations: the information of a draw θ is taken to be θ (1 - θ), the decays to be 0.7 at a
    prompt's own update and 0.998 at each version: neither is in the abstract. The pool is MoPPS's.
Fails when: as MoPPS; it ranks as MoPPS does at a target of one half, and differs by its decays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from sojourn.errors import UserError
from sojourn.policies.select.pool import Pooled
from sojourn.rollout.beliefs import BeliefRules
from sojourn.rollout.slots import Pick, Setting
from sojourn.rollout.views import View

BELIEFS: Final[Mapping[str, BeliefRules]] = MappingProxyType(
    {"assumed": BeliefRules(update_keep=0.7, version_keep=0.998)}
)
"""How the run's beliefs must remember."""


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the choice.

    Attributes:
        pool: Candidates for each prompt wanted.
    """

    pool: int = 16

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.pool < 1:
            raise UserError(f"select.pool is {self.pool}; it must be at least 1")


class VadeInspired(Pooled):
    """Thompson draws by their variance."""

    def __init__(self, config: Config, setting: Setting) -> None:
        super().__init__(setting, config.pool)

    def propose(self, count: int, view: View) -> list[Pick]:
        """Take the candidates whose draw is most uncertain."""
        pool = self.pool(count, view)
        scores = []
        for one in pool:
            belief = view.beliefs.read(one, view.version)
            drawn = self.stream.beta(belief.alpha, belief.beta)
            scores.append(drawn * (1.0 - drawn))
        return self.best(pool, scores, count, "variance of a draw")
