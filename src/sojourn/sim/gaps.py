"""The longest pause inside a stream, found without touching every stream at every step."""

from __future__ import annotations

from bisect import bisect_right

from sojourn.decide.clock import Time


class LongestGaps:
    """Running maxima of the time between two decode steps.

    `ticks` rises and `gaps` falls: an entry is kept only while no later gap is longer, so the
    longest gap after a tick is the first entry behind it.
    """

    __slots__ = ("gaps", "ticks")

    def __init__(self) -> None:
        self.ticks: list[int] = []
        self.gaps: list[Time] = []

    def push(self, tick: int, gap: Time) -> None:
        """Add the gap that ended with `tick`, or the longest of several up to it."""
        while self.gaps and self.gaps[-1] <= gap:
            self.gaps.pop()
            self.ticks.pop()
        self.ticks.append(tick)
        self.gaps.append(gap)

    def longest_after(self, tick: int) -> Time:
        """Return the longest gap that ended after `tick`; 0 for none."""
        place = bisect_right(self.ticks, tick)
        return self.gaps[place] if place < len(self.gaps) else 0
