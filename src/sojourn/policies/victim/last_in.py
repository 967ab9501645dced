"""The request seated last is dropped and computed again.

Source: vLLM 0.32 `Scheduler.schedule`, FCFS policy.
Reads: the order of seating.
Memory: none.
Needs: drop.
Deviations: none.
Fails when: memory stays short: the same request is dropped again and again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sojourn.decide.clock import Time
from sojourn.decide.needs import Need
from sojourn.decide.request import RequestView
from sojourn.decide.slots import Mode, Pressure, Services, Yield


@dataclass(frozen=True, slots=True)
class Config:
    """No parameters."""


class LastIn:
    """Last in, first out."""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.DROP})

    def __init__(self, config: Config, services: Services) -> None:
        self.keep_free = 0

    def victim(self, pressure: Pressure, wants: RequestView | None, now: Time) -> Yield | None:
        """Name the last seated request."""
        return next((Yield(last, Mode.DROP) for last in pressure.seated_last_first()), None)

    def prepare(self, pressure: Pressure, free_blocks: int) -> Yield | None:
        """Do nothing ahead of need."""
        return None
