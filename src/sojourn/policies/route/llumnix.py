"""Arrivals go to the replica with the most freeness: decode steps that its free memory lasts.

Source: Sun et al., "Llumnix: Dynamic Scheduling for Large Language Model Serving", OSDI 2024,
    section 4.4.1; freeness = (M - sum of virtual usages) / batch.
Reads: free KV blocks, seated requests, demand of the first queued one; running requests' priority.
Memory: the freeness of each replica, in a heap, as measured last: O(replicas) for each refresh,
    O(log n) for an arrival.
Needs: nothing.
Deviations: requests of high priority get their headroom here, but their place in a replica's queue
    is the order slot's; arrivals are dispatched as they come, since nobody waits at the router.
Fails when: loads are reported late: all arrivals between two reports go to one replica.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sojourn.decide.clock import Time, from_seconds
from sojourn.decide.needs import Need
from sojourn.errors import UserError
from sojourn.fleet.slots import Verdict
from sojourn.fleet.views import FleetView, ReplicaView, RoutedView
from sojourn.policies.route.llumnix_freeness import Freest, Headroom, freeness


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the dispatch.

    Attributes:
        refresh_seconds: How long measures of replicas are used; 0 measures all at each arrival.
        ideal_tokens: KV tokens up to which decoding is about as fast as it gets: what is beyond is
            the headroom of requests of high priority (1,600 for LLaMA-7B on an A10).
        high_class: Index of the SLO class with high priority; -1 for none. Requests whose client
            gave a priority below 0 have it too.
    """

    refresh_seconds: float = 0.05
    ideal_tokens: int = 1600
    high_class: int = -1

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.refresh_seconds < 0:
            raise UserError(
                f"route.refresh_seconds is {self.refresh_seconds:g}; it must be 0 or more"
            )
        if self.ideal_tokens < 0:
            raise UserError(f"route.ideal_tokens is {self.ideal_tokens}; it must be 0 or more")
        if self.high_class < -1:
            raise UserError(f"route.high_class is {self.high_class}; it must be -1 or more")


class Llumnix:
    """Most freeness, ties to the lowest index."""

    needs: ClassVar[frozenset[Need]] = frozenset()
    minds_changes: ClassVar[bool] = False
    reads_demand: ClassVar[bool] = True

    def __init__(self, config: Config, fleet: FleetView) -> None:
        headroom = Headroom(config.ideal_tokens, config.high_class)
        self.freest = Freest(
            fleet, lambda one: freeness(one, headroom), from_seconds(config.refresh_seconds)
        )

    def route(self, request: RoutedView, now: Time) -> Verdict:
        """Take the freest replica."""
        return self.freest.take(now)

    def changed(self, replica: ReplicaView, now: Time) -> None:
        """Measure a replica that came or went."""
        self.freest.note(replica)
