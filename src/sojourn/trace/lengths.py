"""Laws for lengths, turns and pauses, and the one-line notation for them.

A law is written `name:key=value,key=value`, or as a bare number for a constant: `1200`,
`uniform:low=10,high=500`, `lognormal:mean=1200,p50=700,cap=8192`, `lognormal:p50=700,sigma=1`,
`exponential:mean=20`, `geometric:mean=5`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from sojourn.errors import UserError, unknown
from sojourn.trace.checks import TOKENS_MAX, FloatArray, IntArray

_SIGMA_MAX: Final = 10.0


class Law(Protocol):
    """A distribution of non-negative numbers."""

    @property
    def mean(self) -> float:
        """The mean before any cap."""
        ...

    def draw(self, count: int, rng: np.random.Generator) -> FloatArray:
        """Return `count` independent values."""
        ...


@dataclass(frozen=True, slots=True)
class Constant:
    """Always the same value."""

    value: float

    @property
    def mean(self) -> float:
        """The value."""
        return self.value

    def draw(self, count: int, rng: np.random.Generator) -> FloatArray:  # noqa: ARG002
        """Return the value `count` times; nothing is drawn from `rng`."""
        return np.full(count, self.value)


@dataclass(frozen=True, slots=True)
class Uniform:
    """Every whole number from `low` to `high` alike, both included."""

    low: float
    high: float

    @property
    def mean(self) -> float:
        """The middle of the range."""
        return (self.low + self.high) / 2

    def draw(self, count: int, rng: np.random.Generator) -> FloatArray:
        """Return `count` independent values."""
        values = rng.integers(round(self.low), round(self.high), size=count, endpoint=True)
        return values.astype(np.float64)


@dataclass(frozen=True, slots=True)
class Lognormal:
    """The exponential of a normal law with deviation `sigma`; larger values become `cap`."""

    mean: float
    sigma: float
    cap: float = math.inf

    def draw(self, count: int, rng: np.random.Generator) -> FloatArray:
        """Return `count` independent values."""
        location = math.log(self.mean) - self.sigma**2 / 2
        return np.minimum(rng.lognormal(location, self.sigma, count), self.cap)


@dataclass(frozen=True, slots=True)
class Exponential:
    """The memoryless law of a time; larger values become `cap`."""

    mean: float
    cap: float = math.inf

    def draw(self, count: int, rng: np.random.Generator) -> FloatArray:
        """Return `count` independent values."""
        return np.minimum(rng.exponential(self.mean, count), self.cap)


@dataclass(frozen=True, slots=True)
class Geometric:
    """The memoryless law of a count from 1 on: each turn is the last with chance 1 / mean."""

    mean: float

    def draw(self, count: int, rng: np.random.Generator) -> FloatArray:
        """Return `count` independent values."""
        return rng.geometric(1 / self.mean, count).astype(np.float64)


def tokens(values: FloatArray) -> IntArray:
    """Return drawn values as token counts: rounded, at least 1."""
    return np.clip(np.rint(values), 1, TOKENS_MAX).astype(np.int64)


def parse_law(text: str | float, what: str) -> Law:
    """Return the law that a line of the notation stands for; `what` names it in errors.

    Raises:
        UserError: If the law or one of its keys is unknown, missing or out of range.
    """
    if isinstance(text, int | float) and not isinstance(text, bool):
        return _constant({"value": float(text)}, what)
    try:
        return _constant({"value": float(text)}, what)
    except ValueError:
        name, values = parse_call(str(text), what)
    if name not in _LAWS:
        raise unknown(f"law for {what}", name, _LAWS)
    build, keys = _LAWS[name]
    check_keys(values, keys, f"{what} ({name})")
    for key, value in values.items():
        most = _SIGMA_MAX if key == "sigma" else TOKENS_MAX
        if value > most:
            raise UserError(f"{what}: {key} is {value:g}; it must be at most {most:g}")
    return build(values, what)


def parse_call(text: str, what: str) -> tuple[str, dict[str, float]]:
    """Return the name and the values of `name:key=value,…`.

    Raises:
        UserError: If a part is not key=number.
    """
    name, _, rest = text.partition(":")
    return name.strip(), parse_pairs(rest, what)


def parse_pairs(text: str, what: str) -> dict[str, float]:
    """Return the values of `key=value,key=value`.

    Raises:
        UserError: If a part is not key=number.
    """
    values: dict[str, float] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        key, _, value = part.partition("=")
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise UserError(f"{what}: {part!r} is not key=number") from None
        values[key.strip()] = number
    return values


def check_keys(values: Mapping[str, object], allowed: Sequence[str], what: str) -> None:
    """Check that only known keys are given.

    Raises:
        UserError: For the first other one, naming the nearest key.
    """
    for key in values:
        if key not in allowed:
            raise unknown(f"key of {what}", key, allowed)


def _positive(values: dict[str, float], key: str, what: str) -> float:
    if key not in values:
        raise UserError(f"{what}: {key} is missing")
    if values[key] <= 0:
        raise UserError(f"{what}: {key} is {values[key]:g}; it must be above 0")
    return values[key]


def _constant(values: dict[str, float], what: str) -> Law:
    value = values.get("value", math.nan)
    if not 0 <= value <= TOKENS_MAX:
        raise UserError(f"{what}: value is {value:g}; it must be from 0 to {TOKENS_MAX}")
    return Constant(value)


def _uniform(values: dict[str, float], what: str) -> Law:
    low, high = values.get("low", 0.0), _positive(values, "high", what)
    if not 0 <= low <= high:
        raise UserError(f"{what}: low is {low:g}; it must be from 0 to high, {high:g}")
    return Uniform(low, high)


def _lognormal(values: dict[str, float], what: str) -> Law:
    given = [key for key in ("mean", "p50", "sigma") if key in values]
    if len(given) != 2:
        raise UserError(f"{what}: a lognormal law needs two of mean, p50 and sigma")
    mean, middle, sigma = (values.get(key, 0.0) for key in ("mean", "p50", "sigma"))
    for key in given:
        _positive(values, key, what)
    if "sigma" not in values:
        if mean <= middle:
            raise UserError(
                f"{what}: mean is {mean:g}; it must be above p50, {middle:g}, in a lognormal law"
            )
        sigma = math.sqrt(2 * (math.log(mean) - math.log(middle)))
        if sigma > _SIGMA_MAX:
            raise UserError(f"{what}: mean is {mean:g}; it is too far above p50, {middle:g}")
    elif "mean" not in values:
        mean = middle * math.exp(sigma**2 / 2)
    return Lognormal(mean, sigma, _cap(values, what))


def _exponential(values: dict[str, float], what: str) -> Law:
    return Exponential(_positive(values, "mean", what), _cap(values, what))


def _geometric(values: dict[str, float], what: str) -> Law:
    mean = _positive(values, "mean", what)
    if mean < 1:
        raise UserError(f"{what}: mean is {mean:g}; a geometric law counts from 1")
    return Geometric(mean)


def _cap(values: dict[str, float], what: str) -> float:
    return _positive(values, "cap", what) if "cap" in values else math.inf


_LAWS: Final[dict[str, tuple[Callable[[dict[str, float], str], Law], tuple[str, ...]]]] = {
    "fixed": (_constant, ("value",)),
    "uniform": (_uniform, ("low", "high")),
    "lognormal": (_lognormal, ("mean", "p50", "sigma", "cap")),
    "exponential": (_exponential, ("mean", "cap")),
    "geometric": (_geometric, ("mean",)),
}
