"""Expectations under a beta distribution: information, and the chance of a mixed group."""

from __future__ import annotations

from math import exp, lgamma, log
from typing import Final

DIGAMMA_FROM: Final = 8.0


def digamma(value: float) -> float:
    """Return the derivative of the logarithm of the gamma function, for values above 0.

    Recurrence up to 8, then six terms of the asymptotic series: to 1e-11.
    """
    shift = 0.0
    while value < DIGAMMA_FROM:
        shift -= 1.0 / value
        value += 1.0
    inverse = 1.0 / (value * value)
    series = 1 / 252 - inverse * (1 / 240 - inverse * (1 / 132 - inverse * 691 / 32760))
    series = inverse * (1 / 12 - inverse * (1 / 120 - inverse * series))
    return shift + log(value) - 0.5 / value - series


def log_beta(alpha: float, beta: float) -> float:
    """Return the logarithm of the beta function."""
    return lgamma(alpha) + lgamma(beta) - lgamma(alpha + beta)


def information(alpha: float, beta: float, outcomes: int = 1) -> float:
    """Return the mutual information of a probability and the successes of so many rollouts.

    In nats: entropy of the beta-binomial count less the expected entropy of the binomial one,
    both in closed form.
    """
    base, whole = log_beta(alpha, beta), digamma(alpha + beta + outcomes)
    ways, gain = 0.0, 0.0
    for hits in range(outcomes + 1):
        misses = outcomes - hits
        if hits:
            ways += log((misses + 1) / hits)
        chance = ways + log_beta(alpha + hits, beta + misses) - base
        known = ways - outcomes * whole
        known += hits * digamma(alpha + hits) + misses * digamma(beta + misses)
        gain += exp(chance) * (known - chance)
    return max(gain, 0.0)


def mixed_chance(alpha: float, beta: float, rollouts: int) -> float:
    """Return the probability that so many rollouts neither all succeed nor all fail."""
    base = log_beta(alpha, beta)
    solved = exp(log_beta(alpha + rollouts, beta) - base)
    failed = exp(log_beta(alpha, beta + rollouts) - base)
    return max(1.0 - solved - failed, 0.0)


def outcome_variance(alpha: float, beta: float) -> float:
    """Return the expected variance p (1 - p) of one rollout."""
    total = alpha + beta
    return alpha * beta / (total * (total + 1.0))
