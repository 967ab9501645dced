"""Intervals for goodput by resampling blocks of consecutive requests.

Neighbouring requests share a queue, so whether they meet their SLOs is correlated; drawing single
requests would make the interval too narrow. Blocks longer than the correlation keep it.

Source: Politis and Romano, "A circular block-resampling procedure for stationary data", 1992; for
the widening with few blocks, Hesterberg, "What teachers should know about the bootstrap", The
American Statistician 69(4), 2015, section 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cbrt, ceil, sqrt
from statistics import NormalDist
from typing import Any, Final

import numpy as np

from sojourn.report.served import BoolArray, FloatArray

LEVEL: Final = 0.95
RESAMPLES: Final = 1_000
SOJOURNS_IN_BLOCK: Final = 2.0
"""A block spans the arrivals of this many mean E2E times: requests further apart hardly met."""
BLOCKS_MIN: Final = 10
"""Below ten blocks the spread between them says too little, so blocks stop growing there."""


@dataclass(frozen=True, slots=True)
class Gain:
    """The difference in goodput between two recipes that ran the same requests.

    Attributes:
        goodput_rps: The first recipe's goodput less the second's.
        interval: Its 95 % interval.
    """

    goodput_rps: float
    interval: tuple[float, float]

    @property
    def clear(self) -> bool:
        """Whether the interval excludes zero."""
        return self.interval[0] > 0.0 or self.interval[1] < 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the gain as JSON values."""
        return {"goodput_rps": self.goodput_rps, "interval": list(self.interval)}


def block_length(requests: int, offered_rps: float, e2e_seconds_mean: float | None) -> int:
    """Return how many consecutive requests one block holds.

    The larger of n^(1/3), the classical rate for a mean, and of the requests that arrive within
    `SOJOURNS_IN_BLOCK` mean E2E times; but never so many that fewer than `BLOCKS_MIN` blocks
    cover the run (in overload the E2E time grows with the run and has no useful bound).
    """
    if requests <= 1:
        return 1
    length = max(1, ceil(cbrt(requests) - 1e-9))
    if e2e_seconds_mean is not None:
        length = max(length, ceil(SOJOURNS_IN_BLOCK * offered_rps * e2e_seconds_mean))
    return max(1, min(length, requests // BLOCKS_MIN))


def goodput_interval(
    met: BoolArray, offered_rps: float, block: int, seed: int
) -> tuple[float, float] | None:
    """Return the 95 % interval of goodput: the share that met their SLOs × the offered rate.

    The offered rate belongs to the trace, not to the recipe, and is taken as it is. None
    without requests.

    Args:
        met: Whether each request met every SLO it had, in order of arrival.
        offered_rps: Requests per second offered.
        block: Consecutive requests in a block; see `block_length`.
        seed: Seed of the resampling.
    """
    n = met.size
    if n == 0:
        return None
    share = float(met.mean())
    if share in (0.0, 1.0):
        # Resampling a constant yields a point. The exact binomial bound for independent requests
        # is the least that has to be allowed for.
        least = float(((1 - LEVEL) / 2) ** (1 / n))
        low, high = (least, 1.0) if share else (0.0, 1.0 - least)
    else:
        low, high = _interval(met.astype(np.float64), share, block, seed)
    return max(0.0, low) * offered_rps, min(1.0, high) * offered_rps


def paired_gain(
    first: tuple[BoolArray, float], second: tuple[BoolArray, float], block: int, seed: int
) -> Gain:
    """Return the gain of one run over another on the same requests, row by row.

    The same blocks are drawn from both, so what a burst did to both cancels.

    Args:
        first: Whether each request met its SLOs, and the offered rate, of the run in question.
        second: The same for the run it is compared with; as many requests, in the same order.
        block: Consecutive requests in a block.
        seed: Seed of the resampling.
    """
    if first[0].size != second[0].size or not first[0].size:
        raise ValueError(
            f"a paired comparison needs the same requests in both runs, "
            f"got {first[0].size} and {second[0].size}"
        )
    values = first[1] * first[0].astype(np.float64) - second[1] * second[0]
    centre = float(values.mean())
    return Gain(centre, _interval(values, centre, block, seed))


def _interval(values: FloatArray, centre: float, block: int, seed: int) -> tuple[float, float]:
    """Return the percentile interval of the mean, widened for few blocks."""
    means = _resampled_means(values, block, np.random.default_rng(seed))
    low, high = np.quantile(means, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    widen = _widening(ceil(values.size / block))
    return centre - widen * (centre - float(low)), centre + widen * (float(high) - centre)


def _resampled_means(values: FloatArray, block: int, rng: np.random.Generator) -> FloatArray:
    """Return `RESAMPLES` means, each of n values drawn in circular blocks."""
    n = values.size
    assert 1 <= block <= n, f"a block of {block} does not fit {n} requests"
    blocks = ceil(n / block)
    last = n - (blocks - 1) * block
    total = np.concatenate(([0.0], np.cumsum(np.concatenate((values, values[:block])))))
    starts = rng.integers(0, n, size=(RESAMPLES, blocks), dtype=np.int32)
    whole = starts[:, : blocks - 1]
    sums = (total[whole + np.int32(block)] - total[whole]).sum(axis=1)
    cut = starts[:, blocks - 1]
    return np.asarray((sums + total[cut + np.int32(last)] - total[cut]) / n)


def _widening(blocks: int) -> float:
    """Return Student's t over the normal quantile, times √(k/(k−1)), for k blocks."""
    if blocks < 2:
        return 1.0
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    free = blocks - 1
    student = z + (z**3 + z) / (4 * free) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)
    return student / z * sqrt(blocks / free)
