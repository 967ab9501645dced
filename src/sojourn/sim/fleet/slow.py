"""Step times of a replica that is slower than it should be, or faster."""

from __future__ import annotations

from math import ceil
from typing import Final

from sojourn.cost.linear import LinearStep
from sojourn.cost.scaled import Scaled
from sojourn.decide.clock import Time
from sojourn.decide.services import StepTime
from sojourn.errors import UserError

FACTOR_MAX: Final = 1e9


class Slowed:
    """Step times of any kind, all a whole number of times as long: sums of steps stay exact."""

    def __init__(self, step_time: StepTime, times: int) -> None:
        self.step_time = step_time
        self.times = times

    def step(
        self, tokens: int, pairs: int, prior: int, prompts: int, decodes: int, context: int
    ) -> Time:
        """Return the duration of one step."""
        return self.times * self.step_time.step(tokens, pairs, prior, prompts, decodes, context)

    def run(self, decodes: int, context: int, steps: int) -> Time:
        """Return the duration of successive decode steps."""
        return self.times * self.step_time.run(decodes, context, steps)

    def steps_until(self, decodes: int, context: int, duration: Time) -> int:
        """Return the smallest n with `run(decodes, context, n) >= duration`."""
        return self.step_time.steps_until(decodes, context, -(-duration // self.times))


def slowed(step_time: StepTime, factor: float) -> StepTime:
    """Return step times that are `factor` times as long.

    That is exact for step times that are linear in the KV read, as all that the project makes are;
    for any other it is the next whole factor.
    """
    if factor == 1:
        return step_time
    if factor > FACTOR_MAX:
        raise UserError(
            f"slow faults that fall together make steps {factor:g} times as long; at most "
            f"{FACTOR_MAX:g} times can be simulated"
        )
    if isinstance(step_time, LinearStep):
        return Scaled(step_time, factor)
    return Slowed(step_time, max(ceil(factor), 1))
