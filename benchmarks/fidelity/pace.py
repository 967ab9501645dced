"""How fast the machine is from moment to moment, and seconds that leave it out.

Neighbours make a shared machine faster and slower by a tenth and more, for seconds and for minutes.
A small piece of work of the same kind as the model's is done between the engine's steps all the
while and timed. Where it takes a tenth longer than usual, a second counts for a tenth less; while
it runs, no time passes. A fit, what it predicts and what it is compared with are all told in these
even seconds, or all in plain ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from time import perf_counter
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

EVERY_SECONDS: Final = 0.05
"""A probe is due so often; after a longer step it is made once all the same, as the second of two
in a row is quicker for the caches that the first has warmed."""
WINDOW_SECONDS: Final = 1.0
"""Probes so long before and after a moment tell the speed at it."""
SLOWEST: Final = 3.0
"""A probe that took longer than so many usual ones was interrupted."""
FAR_SECONDS: Final = 1e6


@dataclass(slots=True)
class Beats:
    """When the piece of work was done, and how long it took.

    Attributes:
        begins, ends: Moments between which the engine stood still for it, as `time.perf_counter`
            has them.
        took: Seconds that the work took there, the second time.
    """

    begins: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    took: list[float] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Share of the time that it took."""
        lost = sum(self.ends) - sum(self.begins)
        return lost / (self.ends[-1] - self.begins[0])


class Probe:
    """Does the piece of work between an engine's steps."""

    def __init__(self) -> None:
        self.work = _work()
        self.beats = Beats()
        self.last = perf_counter()

    def beat(self) -> None:
        """Do the work if it is due."""
        now = perf_counter()
        if now - self.last < EVERY_SECONDS:
            return
        self.beats.begins.append(now)
        self.work()  # how cold the caches are depends on the step before, so the first is not timed
        begin = perf_counter()
        self.work()
        self.last = perf_counter()
        self.beats.ends.append(self.last)
        self.beats.took.append(self.last - begin)


def _work() -> Callable[[], Any]:
    """Return a millisecond of products, attention and Python, the mix that serving consists of."""
    torch: Any = import_module("torch")
    torch.manual_seed(0)
    rows, weights = torch.randn(64, 256), torch.randn(256, 1024)
    heads = torch.randn(1, 4, 192, 64)
    attention = torch.nn.functional.scaled_dot_product_attention

    def work() -> None:
        for _ in range(2):
            rows @ weights
        attention(heads, heads, heads, is_causal=True)
        seen = {}
        for turn in range(1500):
            seen[turn % 64] = turn * 3 % 7

    return work


class Clock:
    """Maps moments to seconds, plain or at an even speed; no time passes while the probe runs.

    Args:
        probe: When and how long the work was done.
        usual: Seconds of the work at the speed that counts as one; None for plain seconds.
    """

    def __init__(self, probe: Beats, usual: float | None) -> None:
        begins, ends = np.array(probe.begins), np.array(probe.ends)
        assert begins.size, "no probe was made"
        rate = np.ones(len(begins)) if usual is None else usual / _around(probe, usual)
        between = (begins[1:] - ends[:-1]) * (rate[1:] + rate[:-1]) / 2.0
        passed = np.zeros(2 * len(begins))
        passed[2::2] = np.cumsum(between)
        passed[1::2] = passed[::2]
        edges = np.column_stack([begins, ends]).reshape(-1)
        self.edges = np.concatenate([[edges[0] - FAR_SECONDS], edges, [edges[-1] + FAR_SECONDS]])
        self.passed = np.concatenate(
            [[-FAR_SECONDS * rate[0]], passed, [passed[-1] + FAR_SECONDS * rate[-1]]]
        )

    def at(self, moments: npt.ArrayLike) -> Floats:
        """Return what the clock shows at some moments."""
        return np.interp(np.asarray(moments, dtype=np.float64), self.edges, self.passed)


def _around(beats: Beats, usual: float) -> Floats:
    """Return the mean of what the work took around each moment."""
    moments = np.array(beats.begins)
    first = np.searchsorted(moments, moments - WINDOW_SECONDS)
    last = np.searchsorted(moments, moments + WINDOW_SECONDS, side="right")
    sums = np.concatenate([[0.0], np.cumsum(np.minimum(beats.took, SLOWEST * usual))])
    return np.asarray((sums[last] - sums[first]) / (last - first))
