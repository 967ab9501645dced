"""What a bar gives to the page: rows of one number each, with its interval and verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from benchmarks.rollout_bars.paired import Interval

VERDICTS: Final = {True: "met", False: "**not met**", None: ""}


class Row(NamedTuple):
    """One number of a bar.

    Attributes:
        what: What is measured, with its unit.
        setting: In which case, by which policy.
        seeds: Which and how many, as "1000 to 1029".
        mean, low, high: The number and its 95 % interval over paired seeds; the same number three
            times where it has none.
        bar: What it must be, as text; empty where it is only reported.
        met: Whether it is; None where there is no bar.
        digits: After the point.
    """

    what: str
    setting: str
    seeds: str
    mean: float
    low: float
    high: float
    bar: str = ""
    met: bool | None = None
    digits: int = 3

    def value(self) -> str:
        """Return the number with its interval."""
        mean, low, high = (f"{one:.{self.digits}f}" for one in (self.mean, self.low, self.high))
        return mean if self.low == self.high else f"{mean} [{low}, {high}]"

    def cells(self) -> tuple[str, ...]:
        """Return the row of the page's table."""
        return self.what, self.setting, self.seeds, self.value(), self.bar, VERDICTS[self.met]


class Options(NamedTuple):
    """How a bar is run: seeds from the first, processes at once, and what says how far it is."""

    seeds: int
    first: int = 1000
    jobs: int = 1
    say: Callable[[str], None] = print

    @property
    def range(self) -> range:
        return range(self.first, self.first + self.seeds)

    @property
    def text(self) -> str:
        return f"{self.first} to {self.first + self.seeds - 1}"


Measure = Callable[[Options], Sequence[Row]]
"""What each bar's module has under the name `rows`."""


def of(
    found: Interval,
    what: str,
    setting: str,
    options: Options,
    bar: str = "",
    met: bool | None = None,
    digits: int = 3,
) -> Row:
    """Return the row of an interval over the seeds of some options."""
    return Row(what, setting, options.text, *found, bar=bar, met=met, digits=digits)


def from_json(stored: dict[str, Any]) -> Row:
    """Return a row that was written as JSON."""
    return Row(**stored)
