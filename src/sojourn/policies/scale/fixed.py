"""The replicas that there are from the start, and no others.

Source: the usual deployment.
Reads: nothing.
Memory: none.
Needs: nothing.
Deviations: none.
Fails when: the load changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sojourn.decide.actions import Scale
from sojourn.decide.clock import NEVER, Time
from sojourn.decide.needs import Need
from sojourn.fleet.views import FleetView


@dataclass(frozen=True, slots=True)
class Config:
    """No parameters."""


class Fixed:
    """As many as at the start."""

    needs: ClassVar[frozenset[Need]] = frozenset()

    def __init__(self, config: Config, fleet: FleetView) -> None:
        self.period: Time = NEVER

    def scale(self, now: Time) -> Sequence[Scale]:
        """Add and drain nobody."""
        return ()
