"""Rollouts in proportion to gradient norm over the root of the acceptance rate, from probes.

Source: GVM-RAFT (Yao et al. 2025; arXiv 2505.02391) and its released code: 8 probes, weight
    G / sqrt(p + α / p^(β - 1)) with α = 0.001 and β = 2, 0 where no probe succeeded; numbers in
    proportion, rounded so that their sum stays.
Reads: rewards of a group's first round; the budget that is left.
Memory: none.
Needs: nothing.
Deviations: gradient norms are not reported by any engine: G = 1 for all. Probes are trained too.
    Two presets: "released" keeps the weight 1 of a prompt that every probe solved, which is right
    for RAFT; "contrast", ours, gives it none, for in GRPO such rollouts teach nothing.
Fails when: the plan's mean is not above the probes: nothing is left to divide. "released" with
    GRPO: solved prompts take most of the budget late in training. Prompts that no probe solved get
    nothing more, however close they are.
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

VARIANTS: Final = ("released", "contrast")


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the weights.

    Attributes:
        probes: Rollouts of the first round.
        alpha: Size of the penalty for rates near 0.
        beta: Its exponent.
        variant: "released" or "contrast".
    """

    probes: int = 8
    alpha: float = 0.001
    beta: float = 2.0
    variant: str = "released"

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.probes < 1:
            raise UserError(f"allocate.probes is {self.probes}; it must be at least 1")
        if self.alpha <= 0.0 or self.beta < 1.0:
            raise UserError("allocate.alpha must be above 0 and allocate.beta at least 1")
        if self.variant not in VARIANTS:
            raise unknown("allocate.variant", self.variant, VARIANTS)

    @classmethod
    def contrast(cls) -> Config:
        """Return the preset for estimators that compare the rollouts of a group."""
        return cls(variant="contrast")


class Gvm(Memoryless):
    """Probes, then shares."""

    needs: ClassVar[frozenset[RolloutNeed]] = frozenset()
    together: ClassVar[bool] = True

    def __init__(self, config: Config, setting: Setting) -> None:
        self.config = config

    def open(self, picks: Sequence[Pick], budget: int, view: View) -> Sequence[Round]:
        """Give each the probes."""
        return [Round(self.config.probes, reason="probes")] * len(picks)

    def more(self, groups: Sequence[GroupView], budget: int, view: View) -> Sequence[Round]:
        """Divide what is left by the weights, once."""
        if any(one.rounds > 1 for one in groups):
            return [Round(0)] * len(groups)
        weights = [self.weight(tally(one, view).rate) for one in groups]
        return [Round(one, reason="weight") for one in proportional(weights, budget)]

    def weight(self, rate: float) -> float:
        """Return the weight of a prompt with a success rate."""
        config = self.config
        if rate <= 0.0 or (rate >= 1.0 and config.variant == "contrast"):
            return 0.0
        near = rate ** (config.beta - 1.0)
        return 1.0 / sqrt(rate + config.alpha / near) if near else 0.0

    def observe(self, result: GroupResult, view: View) -> None:
        """Take no note."""
