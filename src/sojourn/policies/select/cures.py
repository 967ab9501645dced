"""Prompts drawn with a weight that grows with the spread of their rewards.

Source: CurES (Zeng et al. 2025; arXiv 2510.01037) and its released code (ZexuSun/CurES at 0d65c47):
    weight exp(sqrt(p (1 - p)) / T) with p = (successes + 1) / (rollouts + 2).
Reads: beliefs of the candidates; their successes so far; which prompts are open.
Memory: its stream.
Needs: nothing. Its p is that of beliefs that forget nothing (`update_keep` 1, a prior of 1 and 1).
Deviations: two presets. "released": T = 100 (successes of the prompt + 1), which makes all prompts
    as likely as each other to within half a percent. "entropy": exp(p (1 - p) / 0.1), the form in a
    second copy of the sampler that no run uses. Weights are compared within a pool of candidates.
Fails when: released: nothing is selected. Entropy: the best prompt is 12 times as likely as the
    worst, no more, so that most picks still are whatever the data set is full of.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Final

from sojourn.errors import UserError, unknown
from sojourn.policies.select.pool import Pooled
from sojourn.rollout.slots import Pick, Setting
from sojourn.rollout.views import View

VARIANTS: Final = ("released", "entropy")


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the weight.

    Attributes:
        pool: Candidates for each prompt wanted.
        variant: "released" or "entropy".
        temperature: T of a prompt without a success, as released.
        entropy_temperature: That of the other preset.
    """

    pool: int = 16
    variant: str = "released"
    temperature: float = 100.0
    entropy_temperature: float = 0.1

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.pool < 1:
            raise UserError(f"select.pool is {self.pool}; it must be at least 1")
        if self.variant not in VARIANTS:
            raise unknown("select.variant", self.variant, VARIANTS)
        for name in ("temperature", "entropy_temperature"):
            if getattr(self, name) <= 0.0:
                raise UserError(f"select.{name} is {getattr(self, name):g}; it must be above 0")

    @classmethod
    def entropy(cls) -> Config:
        """Return the preset whose temperature has an effect."""
        return cls(variant="entropy")


class Cures(Pooled):
    """Draws by weight."""

    def __init__(self, config: Config, setting: Setting) -> None:
        super().__init__(setting, config.pool)
        self.config = config

    def propose(self, count: int, view: View) -> list[Pick]:
        """Draw from the candidates."""
        pool = self.pool(count, view)
        logs = [self.log_weight(one, view) for one in pool]
        return self.drawn(pool, logs, count, f"{self.config.variant} weight")

    def log_weight(self, prompt_id: int, view: View) -> float:
        """Return the logarithm of a prompt's weight."""
        config, belief = self.config, view.beliefs.read(prompt_id, view.version)
        spread = belief.mean * (1.0 - belief.mean)
        if config.variant == "entropy":
            return spread / config.entropy_temperature
        accepted = max(belief.alpha - 1.0, 0.0)
        return sqrt(spread) / (config.temperature * (accepted + 1.0))
