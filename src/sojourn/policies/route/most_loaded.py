"""The replica with the most open requests: deliberately bad, so that a comparison shows it.

Source: none; a control that every result must put last.
Reads: open requests of each replica.
Memory: open requests of each replica, in a heap.
Needs: nothing.
Deviations: none.
Fails when: there is more than one replica: all work goes to the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sojourn.decide.clock import Time
from sojourn.decide.needs import Need
from sojourn.fleet.slots import Verdict
from sojourn.fleet.views import FleetView, ReplicaView, RoutedView
from sojourn.policies.route.load_index import LoadIndex


@dataclass(frozen=True, slots=True)
class Config:
    """No parameters."""


class MostLoaded:
    """Most open requests, ties to the lowest index."""

    needs: ClassVar[frozenset[Need]] = frozenset()
    minds_changes: ClassVar[bool] = True

    def __init__(self, config: Config, fleet: FleetView) -> None:
        self.index = LoadIndex()

    def route(self, request: RoutedView, now: Time) -> Verdict:
        """Take the replica with the most open requests."""
        return self.index.least()

    def changed(self, replica: ReplicaView, now: Time) -> None:
        """Count a replica's open requests anew."""
        self.index.put(replica, -replica.open)
