"""Means and differences over paired seeds, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from statistics import fmean
from typing import NamedTuple

RESAMPLES = 10_000


class Interval(NamedTuple):
    """A mean over seeds and its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float

    def text(self, digits: int = 3) -> str:
        return f"{self.mean:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


def interval(values: Sequence[float]) -> Interval:
    """Return the mean of one value for each seed, with its interval."""
    dice, count = Random("bootstrap"), len(values)
    means = sorted(fmean(dice.choices(values, k=count)) for _ in range(RESAMPLES))
    return Interval(fmean(values), means[RESAMPLES // 40], means[-RESAMPLES // 40])


def gain(ours: Sequence[float], theirs: Sequence[float]) -> Interval:
    """Return by how much one is higher, seed by seed."""
    return interval([one - other for one, other in zip(ours, theirs, strict=True)])
