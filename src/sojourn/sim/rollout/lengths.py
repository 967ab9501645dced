"""True lengths of rollouts: a marginal law, and how alike the rollouts of one prompt are.

Lengths are made from a standard normal score, so that any marginal law goes with any correlation
(a Gaussian copula): score = √ρ · (the prompt's own) + √(1 − ρ) · (the rollout's own). With ρ = 0
siblings tell nothing about each other, with ρ = 1 one of them tells all.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import erfc, exp, log, sqrt
from statistics import NormalDist
from typing import Final, Protocol

from sojourn.errors import UserError

STANDARD: Final = NormalDist()
TOKENS_MAX: Final = 10**7


class Law(Protocol):
    """A law of lengths as a function of a standard normal score, rising."""

    def at(self, score: float) -> float:
        """Return the length in tokens at a score."""


@dataclass(frozen=True, slots=True)
class LengthPlan:
    """How long rollouts are.

    Attributes:
        median_tokens, sigma_log: Of the log-normal body.
        tail_share, tail_alpha: Share of rollouts in a Pareto tail, and its exponent: the smaller,
            the heavier; below 1 the mean would be infinite but for the limit of tokens.
        group_correlation: ρ: correlation of the scores of two rollouts of one prompt.
        difficulty_correlation: Correlation of a prompt's own score with how hard it is.
        wrong_factor: How many times as long a failure is as a success of the same score.
        growth_log: Growth of the logarithm of all lengths with each weight version.
        recorded: Lengths whose distribution takes the place of the law; empty for none.
    """

    median_tokens: float = 1500.0
    sigma_log: float = 0.8
    tail_share: float = 0.0
    tail_alpha: float = 1.5
    group_correlation: float = 0.5
    difficulty_correlation: float = 0.3
    wrong_factor: float = 1.2
    growth_log: float = 0.0
    recorded: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name, least, most in (
            ("median_tokens", 1.0, TOKENS_MAX),
            ("sigma_log", 0.0, 5.0),
            ("tail_share", 0.0, 0.5),
            ("tail_alpha", 0.3, 100.0),
            ("group_correlation", 0.0, 1.0),
            ("difficulty_correlation", -1.0, 1.0),
            ("wrong_factor", 0.1, 10.0),
            ("growth_log", -0.1, 0.1),
        ):
            value = getattr(self, name)
            if not least <= value <= most:
                raise UserError(
                    f"lengths.{name} is {value:g}; it must be from {least:g} to {most:g}"
                )

    def law(self) -> Law:
        """Return the marginal law."""
        return Recorded(self.recorded) if self.recorded else Body(self)


class Body:
    """A log-normal law, with a Pareto tail behind it if the plan says so."""

    def __init__(self, plan: LengthPlan) -> None:
        self.location = log(plan.median_tokens)
        self.sigma = plan.sigma_log
        self.share = plan.tail_share
        self.power = 1.0 / plan.tail_alpha
        self.begins = STANDARD.inv_cdf(1.0 - plan.tail_share) if plan.tail_share else float("inf")

    def at(self, score: float) -> float:
        """Return the length at a score; the tail goes on where the body has its quantile."""
        if score <= self.begins:
            return exp(self.location + self.sigma * score)
        beyond = max(0.5 * erfc(score / sqrt(2.0)), 1e-12)
        return float(
            exp(self.location + self.sigma * self.begins) * (self.share / beyond) ** self.power
        )


class Recorded:
    """The distribution of recorded lengths, linear between neighbours."""

    def __init__(self, tokens: tuple[int, ...]) -> None:
        self.tokens = sorted(tokens)

    def at(self, score: float) -> float:
        """Return the quantile that belongs to a score."""
        place = STANDARD.cdf(score) * (len(self.tokens) - 1)
        low = int(place)
        high = min(low + 1, len(self.tokens) - 1)
        return self.tokens[low] + (place - low) * (self.tokens[high] - self.tokens[low])


def blend(shared: float, own: float, correlation: float) -> float:
    """Return a standard normal number that has so much of `shared`; both are independent."""
    weight = abs(correlation)
    sign = 1.0 if correlation >= 0.0 else -1.0
    return sign * weight * shared + sqrt(1.0 - weight * weight) * own
