"""The replica with the lowest load, waiting requests weighing more than seated ones.

Source: the data-parallel load balancer of vLLM in 2025, score = 4 x waiting + running (that of
    0.32 is `vllm_data_parallel`).
Reads: waiting and seated requests of each replica.
Memory: the score of each replica, in a heap: O(log n) for each change, however many there are.
Needs: nothing.
Deviations: loads are as old as the fleet's reports; vLLM's come every 100 ms. It counts what it
    sends in between as waiting; that is `counts_own`, off by default.
Fails when: requests differ greatly in size: counts say little about work. Reports are old: all
    arrivals until the next one go to the same replica.
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
        counts_own: Whether a request that is sent counts as waiting until the next report.
    """

    waiting_weight: int = 4
    counts_own: bool = False

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
        self.counts_own = config.counts_own
        self.fleet = fleet
        self.index = LoadIndex()
        self.sent: dict[int, tuple[Time, int]] = {}

    def route(self, request: RoutedView, now: Time) -> Verdict:
        """Take the replica with the lowest score."""
        least = self.index.least()
        if self.counts_own and least is not None:
            replica = self.fleet.replicas[least]
            self.sent[least] = replica.load.time, self._own(replica) + 1
            self.changed(replica, now)
        return least

    def changed(self, replica: ReplicaView, now: Time) -> None:
        """Score a replica anew."""
        load = replica.load
        waiting = load.waiting
        if self.counts_own and load.time < now:  # a load of this moment has them all
            waiting += self._own(replica)
        self.index.put(replica, self.weight * waiting + load.seated)

    def _own(self, replica: ReplicaView) -> int:
        """Return what was sent to a replica since its last report."""
        time, count = self.sent.get(replica.index, (-1, 0))
        return count if time == replica.load.time else 0
