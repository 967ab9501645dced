"""The highest rate that a row sustains below a latency, its interval over seeds, and ratios."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, log, sqrt
from statistics import mean, stdev
from typing import Final

from benchmarks.replications.experiment import Points
from benchmarks.replications.settings import Settings, Work

STUDENT_975: Final = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365}
"""97.5 % quantile of Student's t by the number of seeds."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over seeds with half the width of its 95 % interval; inf is "beyond the rates run"."""

    value: float
    half: float

    def __str__(self) -> str:
        if self.value == inf:
            return "beyond"
        return f"{self.value:.2f} ± {self.half:.2f}"


def estimate(values: Sequence[float]) -> Estimate:
    """Return the mean of one value for each seed."""
    if inf in values:
        return Estimate(inf, inf)
    half = STUDENT_975[len(values)] * stdev(values) / sqrt(len(values))
    return Estimate(mean(values), half)


def knee(points: Points, work: Work, row: str, seed: int, threshold: float) -> float:
    """Return the rate at which the mean per-token latency passes a threshold, in one seed.

    The logarithm of the latency is interpolated between rates; inf if it stays below.
    """
    before, low = 0.0, 0.0
    for rate in work.rates:
        latency = points[work.name, row, rate, seed].per_token
        if latency > threshold:
            if not before:
                return rate
            share = log(threshold / low) / log(latency / low)
            return before + share * (rate - before)
        before, low = rate, latency
    return inf


def knees(settings: Settings, points: Points, work: Work, row: str, threshold: float) -> Estimate:
    """Return the knee over all seeds."""
    seeds = settings.run.seeds
    return estimate([knee(points, work, row, seed, threshold) for seed in seeds])


def ratio(
    settings: Settings, points: Points, work: Work, rows: tuple[str, str], threshold: float
) -> Estimate:
    """Return how many times the knee of one row is that of another, seed by seed."""
    pairs = [
        [knee(points, work, row, seed, threshold) for row in rows] for seed in settings.run.seeds
    ]
    return estimate([first / second if first < inf else inf for first, second in pairs])


def latency(settings: Settings, points: Points, work: Work, row: str, rate: float) -> Estimate:
    """Return the mean per-token latency at a rate over all seeds."""
    seeds = settings.run.seeds
    return estimate([points[work.name, row, rate, seed].per_token for seed in seeds])
