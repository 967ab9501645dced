"""The replica with the lowest load, waiting requests weighing more than seated ones.

Source: vLLM 0.32 data-parallel load balancer, score = 4 x waiting + running.
Reads: waiting and seated requests of each replica.
Memory: the score of each replica, in a heap: O(log n) for each change, however many there are.
Needs: nothing.
Deviations: loads are as old as the fleet's reports; vLLM's come every 100 ms.
Fails when: requests differ greatly in size: counts say little about work.
"""

from __future__ import annotations

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
    """Parameters of the load score.

    Attributes:
        waiting_weight: How many seated requests one waiting request weighs.
    """

    waiting_weight: int = 4

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.waiting_weight < 1:
            raise UserError(f"route.waiting_weight is {self.waiting_weight}; it must be at least 1")


class LeastLoad:
    """Lowest score, ties to the lowest index."""

    needs: ClassVar[frozenset[Need]] = frozenset()
    minds_changes: ClassVar[bool] = True

    def __init__(self, config: Config, fleet: FleetView) -> None:
        self.weight = config.waiting_weight
        self.index = LoadIndex()

    def route(self, request: RoutedView, now: Time) -> Verdict:
        """Take the replica with the lowest score."""
        return self.index.least()

    def changed(self, replica: ReplicaView, now: Time) -> None:
        """Score a replica anew."""
        load = replica.load
        self.index.put(replica, self.weight * load.waiting + load.seated)
