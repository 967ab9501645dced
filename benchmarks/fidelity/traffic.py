"""The traffic that is recorded, and the same requests as a workload for the simulator."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.vllm_gain.serving import Asked, ids, lengths
from sojourn.decide.clock import SECOND
from sojourn.sim.workload import Workload
from sojourn.steplog.record import SloClass


@dataclass(frozen=True, slots=True)
class Mix:
    """Log-normal lengths.

    Attributes:
        prompt, output: Median, spread (of the logarithm), least and most tokens.
    """

    prompt: tuple[float, float, int, int]
    output: tuple[float, float, int, int]

    def draw(self, random: random.Random, at: float) -> Asked:
        """Return a request that is sent at a moment."""
        prompt = lengths(random, *self.prompt)
        return Asked(at, ids(random, prompt), lengths(random, *self.output))


VARIED: Final = Mix((80, 1.2, 4, 1800), (60, 1.0, 2, 400))
"""What the fit sees: all sizes."""

WIDE: Final = Mix((100, 1.0, 4, 1800), (40, 0.8, 2, 250))
LONG_PROMPTS: Final = Mix((320, 0.5, 32, 1500), (16, 0.5, 2, 80))
LONG_ANSWERS: Final = Mix((40, 0.6, 4, 400), (90, 0.5, 10, 300))


def poisson(mix: Mix, rate: float, seconds: float, seed: int) -> list[Asked]:
    """Return requests at a constant rate."""
    draw = random.Random(seed)
    asked, now = [], draw.expovariate(rate)
    while now < seconds or not asked:
        asked.append(mix.draw(draw, now))
        now += draw.expovariate(rate)
    return asked


def ramp(mix: Mix, low: float, high: float, seconds: float, seed: int) -> list[Asked]:
    """Return requests whose rate grows evenly from `low` to `high` and falls again."""
    draw = random.Random(seed)
    asked, now = [], draw.expovariate(high)
    while now < seconds or not asked:
        share = 1.0 - abs(2.0 * now / seconds - 1.0)
        if draw.random() * high < low + (high - low) * share:
            asked.append(mix.draw(draw, now))
        now += draw.expovariate(high)
    return asked


def burst(mix: Mix, count: int, seed: int) -> list[Asked]:
    """Return requests that all come at once."""
    draw = random.Random(seed)
    return [mix.draw(draw, 0.0) for _ in range(count)]


def workload(asked: Sequence[Asked]) -> Workload:
    """Return requests as the simulator takes them: when they are sent and how long they are."""
    count = len(asked)
    arrival = [round(one.at * SECOND) for one in asked]
    return Workload(
        name="fidelity",
        arrival=arrival,
        prompt=[len(one.prompt) for one in asked],
        output=[one.output for one in asked],
        tenant=[0] * count,
        slo_class=[0] * count,
        program=[-1] * count,
        turn=[0] * count,
        gap=[0] * count,
        following=[-1] * count,
        prefix=[],
        tenants=("default",),
        classes=(SloClass("default"),),
        block_tokens=0,
        span=max(arrival) - min(arrival),
    )
