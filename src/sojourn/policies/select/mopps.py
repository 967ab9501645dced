"""Of a random pool, the prompts whose drawn success probability is nearest to one half.

Source: MoPPS (Qu et al. 2025; arXiv 2507.04632) and its released code: counts with decay λ, a
    Thompson draw for each of 16 candidates per prompt, the smallest squared distance to the target.
Reads: beliefs of the candidates; which prompts are open.
Memory: its stream.
Needs: nothing. λ is `update_keep` in `[beliefs]` of a scenario or of a trainer's file: 1 unless
    it says otherwise, as the released code has it, and the same for every candidate.
Deviations: the paper forgets (λ below 1; `update_keep = 0.5`), the code ships λ = 1. Its
    slip of operator precedence, which sets both counts to 8 where groups have one rollout, is left
    out. The band's code was not read: prompts within it in random order, then the nearest.
Fails when: λ = 1 and training is long: old counts hold prompts at what they once were. Draws of
    prompts hardly seen are noise, and so are many of its picks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from sojourn.errors import UserError, unknown
from sojourn.policies.select.pool import Pooled
from sojourn.rollout.beliefs import BeliefRules
from sojourn.rollout.slots import Pick, Setting
from sojourn.rollout.views import View

VARIANTS: Final = ("nearest", "band")
BELIEFS: Final[Mapping[str, BeliefRules]] = MappingProxyType(
    {"released": BeliefRules(update_keep=1.0), "forgetting": BeliefRules(update_keep=0.5)}
)
"""How the run's beliefs must remember for MoPPS as released, and as described."""


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the choice.

    Attributes:
        pool: Candidates for each prompt wanted.
        target: Success probability that is best.
        variant: "nearest" to the target, or in the "band" from `low` to `high`.
        low: Lower end of the band.
        high: Upper end of the band.
        draws: Whether a probability is drawn; else it is the mean of what is believed.
    """

    pool: int = 16
    target: float = 0.5
    variant: str = "nearest"
    low: float = 0.3
    high: float = 0.7
    draws: bool = True

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.pool < 1:
            raise UserError(f"select.pool is {self.pool}; it must be at least 1")
        if self.variant not in VARIANTS:
            raise unknown("select.variant", self.variant, VARIANTS)
        if not 0.0 <= self.low <= self.target <= self.high <= 1.0:
            raise UserError(
                f"select.low, target and high are {self.low:g}, {self.target:g} and "
                f"{self.high:g}; they must be in order, from 0 to 1"
            )

    @classmethod
    def posterior_mean(cls) -> Config:
        """Return the rule without draws, a control for what drawing is worth."""
        return cls(draws=False)


class Mopps(Pooled):
    """Thompson draws around a target."""

    def __init__(self, config: Config, setting: Setting) -> None:
        super().__init__(setting, config.pool)
        self.config = config

    def propose(self, count: int, view: View) -> list[Pick]:
        """Take the candidates nearest to the target."""
        pool = self.pool(count, view)
        scores = [self._score(one, view) for one in pool]
        return self.best(pool, scores, count, f"{self.config.variant} draw")

    def _score(self, prompt_id: int, view: View) -> float:
        config, belief = self.config, view.beliefs.read(prompt_id, view.version)
        drawn = self.stream.beta(belief.alpha, belief.beta) if config.draws else belief.mean
        if config.variant == "band" and config.low <= drawn <= config.high:
            return 0.0  # a tie: the pool's order is random
        return -((drawn - config.target) ** 2)
