"""A step-time model that is fitted to the engine's own steps while it serves."""

from __future__ import annotations

from collections import deque
from threading import Thread
from typing import Final

from sojourn.cost import Coefficients, Fitted
from sojourn.cost.fit import Measured, fit
from sojourn.decide.clock import Time
from sojourn.errors import UserError

KEPT: Final = 4096
"""Steps kept; the older are forgotten."""

FIRST_FIT: Final = 64
"""Steps before the first fit; each later one waits for twice as many, up to `KEPT`."""

GUESS: Final = Coefficients(fixed=5e-3, prefill_token=5e-5, decode=1e-5, context_token=1e-8)
"""Before the first fit: a model of a few billion parameters on a current GPU."""


class LearnedStepTime:
    """A `StepTime` that delegates to the last fit; fits run beside the engine, not in it.

    Attributes:
        current: The fit in force.
        steps: Steps observed.
    """

    def __init__(self) -> None:
        self.current = Fitted(GUESS)
        self.kept: deque[Measured] = deque(maxlen=KEPT)
        self.steps = 0
        self.next_fit = FIRST_FIT
        self.fitting: Thread | None = None

    def step(
        self, tokens: int, pairs: int, prior: int, prompts: int, decodes: int, context: int
    ) -> Time:
        """Return the duration of one step."""
        return self.current.step(tokens, pairs, prior, prompts, decodes, context)

    def run(self, decodes: int, context: int, steps: int) -> Time:
        """Return the duration of successive decode steps."""
        return self.current.run(decodes, context, steps)

    def steps_until(self, decodes: int, context: int, duration: Time) -> int:
        """Return how many decode steps fill a duration."""
        return self.current.steps_until(decodes, context, duration)

    def learn(self, measured: Measured) -> None:
        """Take note of a step; now and then fit anew."""
        self.kept.append(measured)
        self.steps += 1
        if self.steps >= self.next_fit and (self.fitting is None or not self.fitting.is_alive()):
            self.next_fit = self.steps + min(self.steps, KEPT)
            self.fitting = Thread(target=self._fit, args=(list(self.kept),), daemon=True)
            self.fitting.start()

    def _fit(self, rows: list[Measured]) -> None:
        try:
            self.current = Fitted(fit(rows).coefficients)
        except UserError:
            # Steps too alike to tell what they are made of; the last fit stays.
            return
