"""Time: whole picoseconds, so that a jump over n steps equals n single steps exactly."""

from __future__ import annotations

from typing import Final, TypeAlias

Time: TypeAlias = int
"""A moment or a duration in picoseconds; 2**62 of them are 53 days."""

SECOND: Final = 1_000_000_000_000  # picoseconds in a second
NEVER: Final = 1 << 62  # a moment after every other


def from_seconds(seconds: float) -> Time:
    """Return `seconds` as whole picoseconds, rounded to the nearest."""
    return round(seconds * SECOND)


def to_seconds(time: Time) -> float:
    """Return a time in seconds."""
    return time / SECOND
