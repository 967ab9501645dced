"""Rounds of rollouts, each to the prompt whose confidence interval it would shrink most.

Source: after summaries of XRPO (Bamba et al. 2025; arXiv 2510.06672): half-width
    h(n) = t(1 - α/2, n - 1) s / sqrt(n) of a group's mean; a base round, then rounds by
    h(n) - h(n + 1) and a bonus for exploration; in-context exemplars where nothing succeeded.
Reads: rewards of a group so far; the budget that is left.
Memory: none.
Needs: nothing; with `exemplar_tokens`, a trainer that keeps hint segments out of the loss.
Deviations: the bonus is not in what was read; it is c sqrt(ln N / n), N the rollouts of all groups
    asked about. Exemplars are counted as a hint of a given length; which they are is the host's
    matter. Sharpened advantages are another slot's.
Fails when: the bonus is 0: a group without a difference has s = 0, gains nothing, and is never
    tried again. Exemplars change the prompt: hinted rollouts are compared with unhinted ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heapreplace
from math import ceil, log, sqrt
from typing import ClassVar, Final

from sojourn.errors import UserError
from sojourn.policies.allocate.sharing import Tally, tally
from sojourn.policies.allocate.student import quantile
from sojourn.rollout.memory import Memoryless
from sojourn.rollout.model import GroupResult
from sojourn.rollout.needs import RolloutNeed
from sojourn.rollout.slots import Pick, Round, Setting
from sojourn.rollout.views import GroupView, View

ALPHA_MIN: Final = 1e-9
"""Below, 1 less half of it is 1 to a computer."""


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the rounds.

    Attributes:
        base: Rollouts of the first round.
        rounds: Rounds behind it, with equal shares of what is left.
        alpha: Chance that a mean lies outside its interval.
        bonus: Weight of exploration: c.
        exemplar_tokens: Length of the hint behind which a group without a success goes on; 0 for
            none.
    """

    base: int = 4
    rounds: int = 2
    alpha: float = 0.05
    bonus: float = 0.05
    exemplar_tokens: int = 0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.base < 2:
            raise UserError(f"allocate.base is {self.base}; it must be at least 2")
        if self.rounds < 1:
            raise UserError(f"allocate.rounds is {self.rounds}; it must be at least 1")
        if not ALPHA_MIN <= self.alpha < 1.0:
            raise UserError(
                f"allocate.alpha is {self.alpha:g}; it must be at least {ALPHA_MIN:g}, below 1"
            )
        if self.bonus < 0.0 or self.exemplar_tokens < 0:
            raise UserError("allocate.bonus and allocate.exemplar_tokens must be at least 0")


class XrpoInspired(Memoryless):
    """A base round, and rounds by priority."""

    needs: ClassVar[frozenset[RolloutNeed]] = frozenset()
    together: ClassVar[bool] = True

    def __init__(self, config: Config, setting: Setting) -> None:
        self.config = config

    def open(self, picks: Sequence[Pick], budget: int, view: View) -> Sequence[Round]:
        """Give each the base round."""
        return [Round(self.config.base, reason="base round")] * len(picks)

    def more(self, groups: Sequence[GroupView], budget: int, view: View) -> Sequence[Round]:
        """Give this round's share of the budget, one rollout at a time, where it gains most."""
        done = max(one.rounds for one in groups)  # a group may have been left out of a round
        left = self.config.rounds + 1 - done
        if left < 1:
            return [Round(0)] * len(groups)
        seen = [tally(one, view) for one in groups]
        total = max(sum(one.trials for one in seen), 2)
        counts = [max(one.trials, 1) for one in seen]
        # Where nobody gains anything, those with fewest go first.
        heap = [
            (-self.priority(one, one.trials, total), counts[at], at) for at, one in enumerate(seen)
        ]
        heapify(heap)
        for _ in range(ceil(budget / left)):
            at = heap[0][2]
            counts[at] += 1
            heapreplace(heap, (-self.priority(seen[at], counts[at], total), counts[at], at))
        rounds = []
        for one, count in zip(seen, counts, strict=True):
            hint = 0 if one.successes else self.config.exemplar_tokens
            extra = count - max(one.trials, 1)
            rounds.append(Round(extra, hint_tokens=hint if extra else 0, reason="interval"))
        return rounds

    def priority(self, seen: Tally, count: int, total: int) -> float:
        """Return what a group gains by one rollout more than `count`, bonus included."""
        count = max(count, 2)
        rate = seen.rate
        spread = sqrt(rate * (1.0 - rate) * seen.trials / max(seen.trials - 1, 1))
        gain = self.width(spread, count) - self.width(spread, count + 1)
        return gain + self.config.bonus * sqrt(log(total) / count)

    def width(self, spread: float, count: int) -> float:
        """Return half the width of the interval of a mean of so many rollouts."""
        return quantile(1.0 - self.config.alpha / 2.0, count - 1) * spread / sqrt(count)

    def observe(self, result: GroupResult, view: View) -> None:
        """Take no note."""
