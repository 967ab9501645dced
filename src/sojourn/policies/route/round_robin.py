"""Replicas in turn.

Source: the default of most load balancers.
Reads: which replicas take arrivals.
Memory: whose turn it is.
Needs: nothing.
Deviations: none.
Fails when: requests differ in size: replicas drift apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sojourn.decide.clock import Time
from sojourn.decide.needs import Need
from sojourn.fleet.slots import Verdict
from sojourn.fleet.views import FleetView, ReplicaView, RoutedView


@dataclass(frozen=True, slots=True)
class Config:
    """No parameters."""


class RoundRobin:
    """Replicas in turn."""

    needs: ClassVar[frozenset[Need]] = frozenset()
    minds_changes: ClassVar[bool] = False

    def __init__(self, config: Config, fleet: FleetView) -> None:
        self.fleet = fleet
        self.turn = -1

    def route(self, request: RoutedView, now: Time) -> Verdict:
        """Take the next replica."""
        entries = self.fleet.entries
        self.turn = (self.turn + 1) % len(entries)
        return entries[self.turn].index

    def changed(self, replica: ReplicaView, now: Time) -> None:
        """Take no note."""
