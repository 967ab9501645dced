"""Numbers as people read them: seconds, counts, shares and rates in a few characters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import floor, log10
from typing import Final

NOTHING: Final = "–"
"""What stands where there is no number."""

_NUMBER_AND_UNIT: Final = re.compile(r"([\d\]]) (%|m?s\b|req/s|[kMGT]?B\b)")
_PREFIXES: Final = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def significant(value: float | None, digits: int = 3) -> str:
    """Return a plain decimal of about `digits` significant digits, never in powers of ten."""
    if value is None:
        return NOTHING
    if value == 0:
        return "0"
    places = max(0, digits - 1 - floor(log10(abs(value))))
    text = f"{value:.{min(places, 9)}f}"
    # 9.996 has one digit fewer than its rounded form: count again on the rounded number.
    rounded = float(text)
    if rounded and places:
        places = max(0, digits - 1 - floor(log10(abs(rounded))))
        text = f"{value:.{min(places, 9)}f}"
    return text


def seconds(value: float | None) -> str:
    """Return a duration with its unit: ms below one second, s above."""
    if value is None:
        return NOTHING
    if 0 < abs(value) < 0.9995:
        return f"{significant(value * 1e3)} ms"
    return f"{significant(value)} s"


def count(value: float | None) -> str:
    """Return a count, from ten thousand on with k, M, G or T."""
    if value is None:
        return NOTHING
    if abs(value) >= 9_999.5:
        for factor, prefix in _PREFIXES:
            if abs(value) >= 0.9995 * factor:
                return f"{significant(value / factor)}{prefix}"
    return f"{value:.0f}"


def share(value: float | None) -> str:
    """Return a share as a percentage that says 0 % and 100 % only when it is exactly so."""
    if value is None:
        return NOTHING
    percent = 100.0 * value
    if percent in (0.0, 100.0):
        return f"{percent:.0f} %"
    if percent < 1.0:
        return "<0.1 %" if percent < 0.1 else f"{percent:.1f} %"
    if percent > 99.0:
        return ">99.9 %" if percent > 99.9 else f"{floor(percent * 10) / 10:.1f} %"
    return f"{percent:.0f} %"


def dollars(value: float | None) -> str:
    """Return an amount of money, from ten thousand on with k, M, G or T."""
    if value is None:
        return NOTHING
    return f"${count(value) if abs(value) >= 9_999.5 else significant(value)}"


def size(value: float | None) -> str:
    """Return a number of bytes with its unit."""
    if value is None:
        return NOTHING
    for factor, prefix in _PREFIXES:
        if abs(value) >= 0.9995 * factor:
            return f"{significant(value / factor)} {prefix}B"
    return f"{value:.0f} B"


def rate(value: float | None) -> str:
    """Return a rate or another bare number with three digits."""
    return significant(value)


def rate_with_interval(value: float | None, interval: tuple[float, float] | None) -> str:
    """Return `value [low, high]`, all with as many decimals as the value has."""
    if value is None:
        return NOTHING
    text = significant(value)
    if interval is None:
        return text
    places = len(text.partition(".")[2]) if value else 2
    return f"{text} [{interval[0]:.{places}f}, {interval[1]:.{places}f}]"


def change(now: float | None, before: float | None) -> str:
    """Return the relative change from `before` to `now`, signed, in percent."""
    if now is None or not before:
        return NOTHING
    percent = 100.0 * (now / before - 1.0)
    if abs(percent) < 0.5:
        return "±0 %"
    return f"{'+' if percent > 0 else '−'}{abs(percent):.0f} %"


def bound(text: str) -> str:
    """Return a text in which no line may break between a number and its unit."""
    return _NUMBER_AND_UNIT.sub("\\1\u00a0\\2", text)


class RateFactor(float):
    """A factor on the trace's own rate, where a load would be a fraction of stock's capacity."""


def at_load(load: float | None) -> str:
    """Return a load as part of a sentence."""
    return at_loads([load])


def at_loads(loads: Sequence[float | None], between: str = " and ") -> str:
    """Return several loads as part of a sentence."""
    if None in loads:
        return "as traced"
    return f"at {load_heading(loads)} {between.join(map(load_name, loads))}"


def load_name(load: float | None) -> str:
    """Return the name of a load: its fraction of the stock capacity, or that it is the trace's."""
    if load is None:
        return "as traced"
    return f"{load:g}×" if isinstance(load, RateFactor) else f"{load:g}"


def load_heading(loads: Sequence[float | None]) -> str:
    """Return what the loads are: `rate` where they are factors on the trace's own."""
    return "rate" if any(isinstance(load, RateFactor) for load in loads) else "load"
