"""Quantiles of Student's t distribution."""

from __future__ import annotations

from functools import lru_cache
from math import pi, sqrt, tan
from statistics import NormalDist
from typing import Final

NORMAL: Final = NormalDist()


@lru_cache(maxsize=4096)
def quantile(share: float, freedom: int) -> float:
    """Return the value below which a share lies, for whole degrees of freedom from 1.

    Closed forms for 1 and 2; above, the expansion in Abramowitz and Stegun 26.7.5, within 0.5 %
    at 3 degrees for shares up to 0.975 and better beyond.
    """
    assert freedom >= 1
    assert 0.0 < share < 1.0
    if freedom == 1:
        return tan(pi * (share - 0.5))
    if freedom == 2:
        return (2.0 * share - 1.0) / sqrt(2.0 * share * (1.0 - share))
    x = NORMAL.inv_cdf(share)
    terms = (
        (x**3 + x) / 4.0,
        (5.0 * x**5 + 16.0 * x**3 + 3.0 * x) / 96.0,
        (3.0 * x**7 + 19.0 * x**5 + 17.0 * x**3 - 15.0 * x) / 384.0,
        (79.0 * x**9 + 776.0 * x**7 + 1482.0 * x**5 - 1920.0 * x**3 - 945.0 * x) / 92160.0,
    )
    return x + sum(term / float(freedom) ** (at + 1) for at, term in enumerate(terms))
