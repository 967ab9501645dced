"""Ratios and spreads that are None, never NaN, where there is nothing to count."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

import numpy as np

from sojourn.report.served import FloatArray


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and quantiles of a duration in seconds; None where no request has one.

    Quantiles are numpy's linear ones.
    """

    mean: float | None
    p50: float | None
    p90: float | None
    p99: float | None

    def to_json(self) -> dict[str, float | None]:
        """Return the four numbers by name."""
        return {"mean": self.mean, "p50": self.p50, "p90": self.p90, "p99": self.p99}


def spread(values: FloatArray) -> Spread:
    """Return mean and quantiles of the values that are not NaN."""
    known = values[~np.isnan(values)]
    if not known.size:
        return Spread(None, None, None, None)
    p50, p90, p99 = (float(q) for q in np.quantile(known, (0.5, 0.9, 0.99)))
    return Spread(float(known.mean()), p50, p90, p99)


def ratio(part: float, whole: float) -> float | None:
    """Return `part / whole`, or None when there is no whole."""
    if not whole or not isfinite(whole):
        return None
    return float(part) / float(whole)
