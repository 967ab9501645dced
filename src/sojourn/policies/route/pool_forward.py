"""Requests go to their scenario's own pool, where a prefill replica takes what it can begin.

Source: P/D-Serve (Jin et al., 2024, arXiv 2408.08147): fine-grained groups by scenario, no local
    queue at prefill, on-demand forwarding upon rejection. Known from its abstract and summaries.
Reads: open requests of each prefill replica of the pool; what those asked reply; deadlines.
Memory: none.
Needs: nothing.
Deviations: pools are told by the names of groups, up to the last hyphen, and scenarios by SLO
    class or tenant. Asking a replica takes no time. With `on_demand` off a request joins the queue
    of the replica with the fewest open requests: groups without forwarding.
Fails when: scenarios are small or their loads vary: no pool helps another.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import nsmallest
from typing import ClassVar

from sojourn.decide.actions import Reject
from sojourn.decide.clock import Time
from sojourn.decide.needs import Need
from sojourn.decide.request import Request
from sojourn.errors import UserError
from sojourn.fleet.pools import SLO_CLASS, Pools, check_scenario, pool_of
from sojourn.fleet.slots import Verdict
from sojourn.fleet.views import FleetView, ReplicaView, RoutedView

TOO_LATE = "time to first token ran out at the router"


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the forwarding.

    Attributes:
        scenario: What tells scenarios apart: `slo_class` or `tenant`.
        on_demand: Whether a request waits at the router until a replica can begin it.
        tries: Most replicas asked before the request waits.
    """

    scenario: str = SLO_CLASS
    on_demand: bool = True
    tries: int = 8

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        check_scenario("route.scenario", self.scenario)
        if self.tries < 1:
            raise UserError(f"route.tries is {self.tries}; it must be at least 1")


class PoolForward:
    """Fewest open requests first, within the pool."""

    needs: ClassVar[frozenset[Need]] = frozenset()
    minds_changes: ClassVar[bool] = False

    def __init__(self, config: Config, fleet: FleetView) -> None:
        self.config = config
        self.fleet = fleet
        self.pools = Pools(fleet, config.scenario)

    @property
    def lines(self) -> int:
        """Lines in which requests wait: one for each pool."""
        return max(len(self.pools.names), 1)

    def line(self, request: RoutedView) -> int:
        """Return the line of a request."""
        return self.pools.number(request)

    def route(self, request: RoutedView, now: Time) -> Verdict:
        """Ask the least occupied in turn; wait if none has room, give up when it is too late."""
        if self.config.on_demand and now > request.ttft_deadline:
            assert isinstance(request, Request)
            return Reject(request, TOO_LATE)
        pool = self.pools.of(request)
        members = [one for one in self.fleet.entries if pool_of(one) == pool]
        if not self.config.on_demand:
            return min(members, key=occupied).index if members else None
        for replica in nsmallest(self.config.tries, members, key=occupied):
            if replica.has_room(request):
                return replica.index
        return None

    def changed(self, replica: ReplicaView, now: Time) -> None:
        """Take no note."""


def occupied(replica: ReplicaView) -> tuple[int, int]:
    """Return what candidates are ordered by."""
    return replica.open, replica.index
