"""Every turn of a session goes where the one before it went; others go to the least loaded.

Source: session affinity of load balancers (HAProxy stick tables, Envoy stateful sessions).
Reads: program of the request, open requests of each replica.
Memory: the replica of each of the latest sessions; open requests of each replica, in a heap.
Needs: nothing.
Deviations: the table forgets the session used least recently, not one that is too old.
Fails when: a few sessions make most of the work: their replicas are overloaded while others idle.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import ClassVar

from sojourn.decide.clock import Time
from sojourn.decide.needs import Need
from sojourn.errors import UserError
from sojourn.fleet.slots import Verdict
from sojourn.fleet.views import FleetView, ReplicaView, RoutedView
from sojourn.policies.route.load_index import LoadIndex


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the table.

    Attributes:
        most_sessions: Sessions that are remembered.
    """

    most_sessions: int = 100_000

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.most_sessions < 1:
            raise UserError(f"route.most_sessions is {self.most_sessions}; it must be at least 1")


class SessionSticky:
    """The session's replica while it takes arrivals, else the one with fewest open requests."""

    needs: ClassVar[frozenset[Need]] = frozenset()
    minds_changes: ClassVar[bool] = True

    def __init__(self, config: Config, fleet: FleetView) -> None:
        self.most = config.most_sessions
        self.home: OrderedDict[int, int] = OrderedDict()
        self.index = LoadIndex()

    def route(self, request: RoutedView, now: Time) -> Verdict:
        """Take the session's replica, or give it one."""
        if request.program < 0:
            return self.index.least()
        replica: int | None = self.home.get(request.program, -1)
        if replica not in self.index.score:
            replica = self.index.least()
        if replica is None:
            return None
        self.home[request.program] = replica
        self.home.move_to_end(request.program)
        if len(self.home) > self.most:
            self.home.popitem(last=False)
        return replica

    def changed(self, replica: ReplicaView, now: Time) -> None:
        """Count a replica's open requests anew."""
        self.index.put(replica, replica.open)
