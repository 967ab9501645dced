"""The replica with the fewest open requests, as most load balancers count them.

Source: `least_conn` of nginx, `leastconn` of HAProxy, LEAST_REQUEST of Envoy over all hosts.
Reads: open requests of each replica, counted by the router itself.
Memory: those counts, in a heap: O(log n) for each change.
Needs: nothing.
Deviations: Envoy by default compares two hosts drawn at random: that is `power_of_two` with
    `own_counts`. Of several load balancers each would see only its own connections.
Fails when: requests differ greatly in size: a long one counts as much as a short one.
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


class LeastConnections:
    """Fewest open requests, ties drawn."""

    needs: ClassVar[frozenset[Need]] = frozenset()
    minds_changes: ClassVar[bool] = True

    def __init__(self, config: Config, fleet: FleetView) -> None:
        self.index = LoadIndex(fleet.draw)

    def route(self, request: RoutedView, now: Time) -> Verdict:
        """Take the replica with the fewest open requests."""
        return self.index.least()

    def changed(self, replica: ReplicaView, now: Time) -> None:
        """Count a replica's open requests anew."""
        self.index.put(replica, replica.open)
