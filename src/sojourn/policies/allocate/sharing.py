"""Dividing a number of rollouts among groups: in proportion, or for the least variance."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from sojourn.rollout.views import GroupView, View


class Tally(NamedTuple):
    """What the rollouts of a group have given so far."""

    successes: float
    trials: int

    @property
    def rate(self) -> float:
        """Share of successes; 0 without any rollout."""
        return self.successes / self.trials if self.trials else 0.0


def tally(group: GroupView, view: View) -> Tally:
    """Return what the rewarded rollouts of a group have given."""
    rewards = [view.reward(rid) for rid in group.rids]
    shares = [view.plan.success(one) for one in rewards if one is not None]
    return Tally(sum(shares), len(shares))


def proportional(weights: Sequence[float], total: int) -> list[int]:
    """Return whole numbers in proportion to weights that add up to `total` exactly.

    Largest remainders are rounded up. Without any weight nobody gets anything.
    """
    whole = sum(weights)
    if whole <= 0.0 or total <= 0:
        return [0] * len(weights)
    exact = [total * one / whole for one in weights]
    counts = [int(one) for one in exact]
    by_rest = sorted(range(len(exact)), key=lambda at: counts[at] - exact[at])
    for at in by_rest[: total - sum(counts)]:
        counts[at] += 1
    return counts


def least_variance(
    variances: Sequence[float], total: int, low: Sequence[int], high: int
) -> tuple[list[int], float]:
    """Return the numbers of rollouts with the least sum of variance / number, and the price.

    Neyman allocation in whole numbers: from `low` (at least 1 each) up, each next rollout goes
    where it takes most variance away, v / (n (n + 1)); that of the last one given is the price.
    Those without variance come last, so that `total` is spent unless all are at `high`.
    """
    counts = list(low)
    left, price = total - sum(counts), 0.0
    heap = [
        (-one / (count * (count + 1)), count, at)
        for at, (one, count) in enumerate(zip(variances, counts, strict=True))
        if count < high
    ]
    heapify(heap)
    while left > 0 and heap:
        fall, _, at = heappop(heap)
        counts[at] += 1
        left -= 1
        price = -fall
        if counts[at] < high:
            one = counts[at]
            heappush(heap, (-variances[at] / (one * (one + 1)), one, at))
    return counts, price
