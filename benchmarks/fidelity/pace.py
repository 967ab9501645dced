"""How fast the machine is from moment to moment, and seconds that leave it out.

Neighbours make a shared machine faster and slower by a tenth and more, for seconds and for minutes.
A small piece of work of the same kind as the model's is done between the engine's steps all the
while and timed. Where it takes a tenth longer than usual, a second counts for a tenth less; while
it runs, no time passes. A fit, what it predicts and what it is compared with are all told in these
even seconds, or all in plain ones.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from time import perf_counter
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

EVERY_SECONDS: Final = 0.03
AT_ONCE_MAX: Final = 8
"""A probe is due so often, and after a long step so many are made up for."""
WINDOW_SECONDS: Final = 1.0
"""Probes so long before and after a moment tell the speed at it."""
SLOWEST: Final = 3.0
"""A probe that took longer than so many usual ones was interrupted."""
FAR_SECONDS: Final = 1e6


class Probe:
    """The piece of work, and when it was done.

    Attributes:
        begins, ends: Moments of each time, as `time.perf_counter` has them.
    """

    def __init__(self) -> None:
        self.work = _work()
        self.clear()

    def clear(self) -> None:
        """Forget all times."""
        self.begins: list[float] = []
        self.ends: list[float] = []
        self.last = perf_counter()

    def beat(self) -> None:
        """Do the work as often as is due."""
        due = min(int((perf_counter() - self.last) / EVERY_SECONDS), AT_ONCE_MAX)
        for _ in range(due):
            self.begins.append(perf_counter())
            self.work()
            self.last = perf_counter()
            self.ends.append(self.last)

    @property
    def took(self) -> Floats:
        """Seconds of each time."""
        return np.array(self.ends) - np.array(self.begins)


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
        probe: What was timed.
        usual: Seconds of the work at the speed that counts as one; None for plain seconds.
    """

    def __init__(self, probe: Probe, usual: float | None) -> None:
        begins, ends = np.array(probe.begins), np.array(probe.ends)
        assert begins.size, "no probe was made"
        rate = np.ones(len(begins)) if usual is None else usual / _around(begins, probe.took, usual)
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


def _around(moments: Floats, took: Floats, usual: float) -> Floats:
    """Return the mean of what the work took around each moment."""
    sums = np.concatenate([[0.0], np.cumsum(np.minimum(took, SLOWEST * usual))])
    first = np.searchsorted(moments, moments - WINDOW_SECONDS)
    last = np.searchsorted(moments, moments + WINDOW_SECONDS, side="right")
    return np.asarray((sums[last] - sums[first]) / (last - first))
