"""Whoever accepts, asked in order of fewest open streams; else the request waits at the router.

Source: P/D-Serve (arXiv 2408.08147), on-demand forwarding upon rejection: prefills keep no queue.
Reads: open requests of each replica, its answer to whether it has room, the TTFT deadline.
Memory: open requests of each replica, in a heap: O(tries log n) for each arrival.
Needs: REJECT.
Deviations: asking costs no time; the first in line at the router holds up those behind it, and a
    deadline is seen to have passed when the router next asks for room; an idle replica always
    accepts. Numbers of tries are not published; none are for how long the router keeps a request
    without a TTFT deadline: for ever.
Fails when: prompts differ greatly in size: a long one that finds no room blocks short ones behind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from sojourn.decide.actions import Reject
from sojourn.decide.clock import Time
from sojourn.decide.needs import Need
from sojourn.decide.request import Request
from sojourn.errors import UserError
from sojourn.fleet.slots import Verdict
from sojourn.fleet.views import FleetView, ReplicaView, RoutedView
from sojourn.policies.route.load_index import LoadIndex

TOO_LATE: Final = "its first token was due while no replica had room"


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the search.

    Attributes:
        tries: Replicas asked before the request waits at the router.
    """

    tries: int = 4

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.tries < 1:
            raise UserError(f"route.tries is {self.tries}; it must be at least 1")


class OnDemand:
    """Fewest open streams first, until one accepts."""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.REJECT})
    minds_changes: ClassVar[bool] = True

    def __init__(self, config: Config, fleet: FleetView) -> None:
        self.tries = config.tries
        self.fleet = fleet
        self.index = LoadIndex()

    def route(self, request: RoutedView, now: Time) -> Verdict:
        """Ask for room, unless it is too late."""
        if now > request.ttft_deadline and not request.decoded:
            assert isinstance(request, Request)
            return Reject(request, TOO_LATE)
        for index in self.index.lowest(self.tries):
            replica = self.fleet.replicas[index]
            if not replica.open or replica.has_room(request):
                return index
        return None

    def changed(self, replica: ReplicaView, now: Time) -> None:
        """Count a replica's open streams anew."""
        self.index.put(replica, replica.open)
