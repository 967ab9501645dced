"""When requests arrive: renewal processes, evenly or burstily paced, and on/off bursts.

An arrival law is written `poisson`, `even`, `gamma:cv=2`, `weibull:cv=2` or `weibull:shape=0.5`;
a burst `on=10,off=50,factor=5` (seconds, seconds, ratio).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from sojourn.errors import UserError, unknown
from sojourn.trace.checks import SECONDS_MAX, FloatArray
from sojourn.trace.lengths import check_keys, parse_call, parse_pairs

_CHUNK: Final = 4096
_SHAPES: Final = {"gamma": (1e-4, 1e3), "weibull": (0.128, 1e3)}
"""Shapes that a law may have; the smallest give a coefficient of variation of `CV_MAX`."""
_PERIODS_MAX: Final = 10_000_000
_GAPS_MAX: Final = 200_000_000
CV_MAX: Final = 100.0
FACTOR_MAX: Final = 1e6


@dataclass(frozen=True, slots=True)
class ArrivalLaw:
    """The law of the gaps between arrivals, up to their mean.

    Attributes:
        name: "poisson", "even", "gamma" or "weibull".
        shape: Shape of the Gamma or Weibull law; 1 is Poisson in both.
    """

    name: str = "poisson"
    shape: float = 1.0

    def gaps(self, count: int, rng: np.random.Generator) -> FloatArray:
        """Return `count` independent gaps of mean 1."""
        if self.name == "even":
            return np.ones(count)
        if self.name == "gamma":
            return rng.gamma(self.shape, 1 / self.shape, count)
        if self.name == "weibull":
            return rng.weibull(self.shape, count) / math.gamma(1 + 1 / self.shape)
        return rng.exponential(1.0, count)


@dataclass(frozen=True, slots=True)
class Burst:
    """A rate that switches between a high and a low level, with the same mean as without.

    Attributes:
        on_seconds: How long the high level lasts.
        off_seconds: How long the low level lasts.
        factor: High level over low level.
    """

    on_seconds: float
    off_seconds: float
    factor: float

    def __post_init__(self) -> None:
        for key in ("on_seconds", "off_seconds", "factor"):
            most = FACTOR_MAX if key == "factor" else SECONDS_MAX
            if not 0 < getattr(self, key) <= most:
                raise UserError(
                    f"burst: {key} is {getattr(self, key):g}; it must be above 0, at most {most:g}"
                )

    def integral(
        self, horizon_seconds: float, phase_seconds: float
    ) -> tuple[FloatArray, FloatArray]:
        """Return times and, for each, the integral from 0 of the rate over its mean."""
        period = self.on_seconds + self.off_seconds
        low = period / (self.factor * self.on_seconds + self.off_seconds)
        if horizon_seconds > _PERIODS_MAX * period:
            raise UserError(
                f"burst: on and off last {period:g} s together; in {horizon_seconds:g} s of "
                f"arrivals they must last at least {horizon_seconds / _PERIODS_MAX:g} s"
            )
        cycles = math.ceil(horizon_seconds / period) + 2
        starts = np.arange(cycles) * period - phase_seconds
        times = np.stack([starts, starts + self.on_seconds], axis=1).reshape(-1)
        levels = np.tile([self.factor * low, low], cycles)[:-1]
        area = np.concatenate([[0.0], np.cumsum(np.diff(times) * levels)])
        return times, area - np.interp(0.0, times, area)


def arrival_times(
    law: ArrivalLaw,
    rate_rps: float,
    horizon_seconds: float,
    rng: np.random.Generator,
    burst: Burst | None = None,
    phase_seconds: float = 0.0,
) -> FloatArray:
    """Return the arrivals in [0, horizon), in seconds; the first comes one gap after 0.

    A longer horizon only appends: the arrivals of the shorter one stay the same. A burst
    stretches time, so that the law of the gaps holds in expected arrivals, not in seconds.
    """
    if burst is None:
        expected = rate_rps * horizon_seconds
    else:
        times, area = burst.integral(horizon_seconds, phase_seconds)
        expected = rate_rps * float(np.interp(horizon_seconds, times, area))
    gaps = law.gaps(_CHUNK, rng)
    total = float(gaps.sum())
    chunks = [gaps]
    while total < expected:
        if len(chunks) * _CHUNK > _GAPS_MAX:
            raise UserError(
                f"arrivals ({law.name}): {_GAPS_MAX} gaps do not fill the time; give a law that "
                "is less bursty, or a lower rate or shorter duration"
            )
        chunks.append(law.gaps(_CHUNK, rng))
        total += float(chunks[-1].sum())
    counted = np.cumsum(np.concatenate(chunks))
    counted = counted[counted < expected]
    if burst is None:
        return counted / rate_rps
    return np.interp(counted / rate_rps, area, times)


def parse_arrivals(text: str) -> ArrivalLaw:
    """Return the arrival law that the notation stands for.

    Raises:
        UserError: If the law or a key is unknown, or a value out of range.
    """
    name, values = parse_call(text, "arrivals")
    keys = {"poisson": (), "even": (), "gamma": ("cv", "shape"), "weibull": ("cv", "shape")}
    if name not in keys:
        raise unknown("arrival law", name, keys)
    check_keys(values, keys[name], f"arrivals ({name})")
    if not keys[name]:
        return ArrivalLaw(name)
    if len(values) != 1:
        raise UserError(f"arrivals: {name} needs one of cv and shape, like {name}:cv=2")
    if "shape" in values:
        shape = values["shape"]
        low, high = _SHAPES[name]
        if not low <= shape <= high:
            raise UserError(
                f"arrivals: shape is {shape:g}; it must be from {low:g} to {high:g} in a {name} law"
            )
        return ArrivalLaw(name, shape)
    cv = values["cv"]
    if not 0.05 <= cv <= CV_MAX:
        raise UserError(f"arrivals: cv is {cv:g}; it must be from 0.05 to {CV_MAX:g}")
    return ArrivalLaw(name, 1 / cv**2 if name == "gamma" else weibull_shape(cv))


def weibull_shape(cv: float) -> float:
    """Return the Weibull shape whose coefficient of variation is `cv`, by bisection."""
    low, high = 0.02, 100.0
    for _ in range(100):
        middle = math.sqrt(low * high)
        ratio = math.lgamma(1 + 2 / middle) - 2 * math.lgamma(1 + 1 / middle)
        if math.expm1(ratio) > cv**2:
            low = middle
        else:
            high = middle
    return math.sqrt(low * high)


def parse_burst(text: str) -> Burst:
    """Return the burst that `on=…,off=…,factor=…` stands for.

    Raises:
        UserError: If a key is unknown or missing, or a value is not above 0.
    """
    values = parse_pairs(text, "burst")
    check_keys(values, ("on", "off", "factor"), "burst")
    missing = [key for key in ("on", "off", "factor") if key not in values]
    if missing:
        raise UserError(f"burst: {missing[0]} is missing; write on=10,off=50,factor=5")
    return Burst(values["on"], values["off"], values["factor"])
