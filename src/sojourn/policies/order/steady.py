"""What an order without alarms of its own has in common: nothing ever changes by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from sojourn.decide.clock import NEVER, Time
from sojourn.decide.needs import Need
from sojourn.decide.request import RequestView
from sojourn.decide.slots import Changes


class Steady:
    """Defaults of the order slot."""

    needs: ClassVar[frozenset[Need]] = frozenset()
    changes: ClassVar[Changes] = "never"
    minds_arrivals: ClassVar[bool] = False

    def __init__(self) -> None:
        self.alarm_time: Time = NEVER
        self.alarm_step: int = NEVER

    def moved(self, request: RequestView, start: int, finish: int, now: Time) -> None:
        """Take no note of state changes."""

    def ring(self, now: Time) -> Sequence[RequestView]:
        """Change no key."""
        return ()

    def holds(self, request: RequestView, now: Time) -> tuple[int, Time]:
        """Keep the best queued request the best until something happens."""
        return NEVER, NEVER
