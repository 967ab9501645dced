"""Arrivals go to the replica with the least memory in use or asked for by its queue.

Source: INFaaS++, the baseline of Sun et al. (Llumnix), OSDI 2024, section 6.1: the load-balancing
    dispatch of Romero et al., "INFaaS", ATC 2021, with GPU memory as load, and the memory that
    queued requests need counted too.
Reads: free KV blocks, demand of the queue, all KV blocks.
Memory: the load of each replica, in a heap, as measured last.
Needs: nothing.
Deviations: INFaaS' choice of model variants is left out, as in Llumnix's comparison; its scaling by
    load is the scale slot `llumnix` with `whole_queue`.
Fails when: a request is long: what is free is spread over all replicas, and nobody moves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sojourn.decide.clock import Time, from_seconds
from sojourn.decide.needs import Need
from sojourn.errors import UserError
from sojourn.fleet.slots import Verdict
from sojourn.fleet.views import FleetView, ReplicaView, RoutedView
from sojourn.policies.route.llumnix_freeness import Freest


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the dispatch.

    Attributes:
        refresh_seconds: How long measures of replicas are used; 0 measures all at each arrival.
    """

    refresh_seconds: float = 0.05

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.refresh_seconds < 0:
            raise UserError(
                f"route.refresh_seconds is {self.refresh_seconds:g}; it must be 0 or more"
            )


class Infaas:
    """Least memory load, ties to the lowest index."""

    needs: ClassVar[frozenset[Need]] = frozenset()
    minds_changes: ClassVar[bool] = False
    reads_demand: ClassVar[bool] = True

    def __init__(self, config: Config, fleet: FleetView) -> None:
        self.freest = Freest(fleet, _free_share, from_seconds(config.refresh_seconds))

    def route(self, request: RoutedView, now: Time) -> Verdict:
        """Take the replica with the least load."""
        return self.freest.take(now)

    def changed(self, replica: ReplicaView, now: Time) -> None:
        """Measure a replica that came or went."""
        self.freest.note(replica)


def _free_share(replica: ReplicaView) -> float:
    """Return 1 - (used + queued demand) / memory; negative with a long queue."""
    load = replica.load
    return (load.free_blocks - load.demand_blocks) / replica.blocks
