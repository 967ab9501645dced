"""What a step log says of the deciding, counted from when that log began."""

from __future__ import annotations

from sojourn.steplog.live import LiveLog
from sojourn.vllm.counters import Counters

Sums = tuple[int, float, float]
"""Decisions, seconds of deciding, seconds of recording."""


class Tallies:
    """The engine's counts less those of the logs before.

    Attributes:
        before: Counts when the log in use began.
        now: Counts when it was last told.
    """

    def __init__(self) -> None:
        self.before: Sums = (0, 0.0, 0.0)
        self.now: Sums = (0, 0.0, 0.0)

    def tell(self, log: LiveLog | None, counters: Counters, recording_seconds: float) -> None:
        """Bring what a log says up to date; steps in which nothing was decided do not count."""
        decisions = counters.steps.get("act", 0) + counters.steps.get("shadow", 0)
        self.now = (decisions, counters.decision_seconds, recording_seconds)
        if log is not None:
            log.decisions = self.now[0] - self.before[0]
            log.decision_seconds = self.now[1] - self.before[1]
            log.caller_seconds = self.now[2] - self.before[2]

    def begin(self) -> None:
        """Count anew for the log that begins."""
        self.before = self.now
