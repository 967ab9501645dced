"""How long a rollout is expected to be, given how long its siblings have been running."""

from __future__ import annotations

from collections.abc import Iterable
from math import exp, log, sqrt
from statistics import NormalDist
from typing import Final

from sojourn.rollout.lengths import LengthBelief

STANDARD: Final = NormalDist()
TAIL_MIN: Final = 1e-9


def with_running(belief: LengthBelief, running: Iterable[float]) -> LengthBelief:
    """Return a belief that knows of siblings which are still running after so many tokens.

    What siblings have in common and what each has of its own are normal on the log scale. That one
    has come so far truncates their sum; mean and variance of the common part follow exactly, one
    sibling after another, and it is taken for normal again (assumed-density filtering).
    """
    own = belief.within_log**2
    centre = belief.mean_log
    common = max(belief.sd_log**2 - own, 0.0)
    for tokens in running:
        if tokens < 1.0:
            continue
        spread = sqrt(common + own)
        score = (log(tokens) - centre) / spread
        tail = max(1.0 - STANDARD.cdf(score), TAIL_MIN)
        hazard = max(STANDARD.pdf(score) / tail, score)
        share = common / spread
        centre += share * hazard
        common = max(common - share**2 * hazard * (hazard - score), 0.0)
    return belief._replace(mean_log=centre, sd_log=sqrt(common + own))


def common_share(belief: LengthBelief) -> float:
    """Return the share of the variance of log lengths that siblings are believed to share.

    It is that of a prompt never seen, whatever is known of this one by now.
    """
    own = belief.within_log**2
    if own <= 0.0:
        return 1.0
    beyond = belief.sd_log**2 / own - 1.0  # one over the observations that the belief is worth
    if beyond <= 0.0:
        return 0.0
    return 1.0 / (1.0 + max(1.0 / beyond - belief.weight, 0.0))


def expected_remaining(belief: LengthBelief, done: float, limit: float) -> float:
    """Return the tokens expected beyond `done`, for a length that a limit cuts."""
    if done >= limit:
        return 0.0
    beyond = max(belief.survival(done), TAIL_MIN)
    return max(_cut_mean(belief, limit) - _cut_mean(belief, done), 0.0) / beyond


def _cut_mean(belief: LengthBelief, limit: float) -> float:
    """Return the expectation of the smaller of length and limit."""
    if limit <= 0.0:
        return 0.0
    score = (log(limit) - belief.mean_log) / belief.sd_log
    below = exp(belief.mean_log + 0.5 * belief.sd_log**2) * STANDARD.cdf(score - belief.sd_log)
    return below + limit * (1.0 - STANDARD.cdf(score))
