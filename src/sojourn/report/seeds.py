"""Means, intervals and distances over few seeds, in plain Python."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf, log, sqrt
from statistics import NormalDist, mean, stdev
from typing import Any, Final

LEVEL: Final = 0.95
STUDENT: Final = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447}
"""Two-sided 95 % quantiles where the expansion in the normal quantile is coarse."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over seeds and its 95 % interval; None with one seed."""

    mean: float
    interval: tuple[float, float] | None

    def to_json(self) -> dict[str, Any]:
        """Return both as JSON values."""
        return {"mean": self.mean, "interval": None if self.interval is None else [*self.interval]}


def student(free: int) -> float:
    """Return the two-sided 95 % quantile of Student's t."""
    if free in STUDENT:
        return STUDENT[free]
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return z + first / free + second / free**2


def estimate(values: Sequence[float | None], least: float = -inf) -> Estimate | None:
    """Return the mean of the values that there are, and its interval.

    No value is below `least`, so neither is an end of the interval.
    """
    known = [value for value in values if value is not None]
    if not known:
        return None
    centre = mean(known)
    if len(known) < 2:
        return Estimate(centre, None)
    half = student(len(known) - 1) * stdev(known) / sqrt(len(known))
    return Estimate(centre, (max(centre - half, least), centre + half))


def paired_ratio(ours: Sequence[float], theirs: Sequence[float]) -> Estimate | None:
    """Return the geometric mean of the ratios, seed by seed; None if one is not positive."""
    if len(ours) != len(theirs) or not ours or min(*ours, *theirs) <= 0.0:
        return None
    found = estimate([log(one / other) for one, other in zip(ours, theirs, strict=True)])
    assert found is not None
    ends = None if found.interval is None else (exp(found.interval[0]), exp(found.interval[1]))
    return Estimate(exp(found.mean), ends)


def distance(one: Sequence[int], other: Sequence[int]) -> float:
    """Return the Kolmogorov-Smirnov distance of two samples; 0 if one is empty."""
    if not one or not other:
        return 0.0
    first, second = sorted(one), sorted(other)
    points = sorted({*first, *second})
    return max(
        abs(bisect_right(first, at) / len(first) - bisect_right(second, at) / len(second))
        for at in points
    )


def quantiles(values: Sequence[int], points: int = 100) -> tuple[float, ...]:
    """Return so many quantiles and the extremes, for a chart."""
    if not values:
        return ()
    ordered = sorted(values)
    last = len(ordered) - 1
    return tuple(float(ordered[round(last * at / points)]) for at in range(points + 1))
