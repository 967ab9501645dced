"""The least of each replica's reported and own counts, queues weighing more as KV fills up.

Source: vLLM 0.32, DPLBAsyncMPClient.get_core_engine_for_request (v1/engine/core_client.py):
    score = max(own requests in flight, waiting + running), plus waiting x 6 x (KV use - 0.5) where
    KV use is above a half; what is sent counts as waiting until the next report.
Reads: waiting and seated requests and free blocks of the last report, open requests.
Memory: what was sent since each replica's last report, and where the scan begins.
Needs: nothing.
Deviations: one client; the first scan begins at the first replica. All replicas are looked at, as
    in vLLM, whose data-parallel engines are few: not for thousands of replicas.
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


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the score.

    Attributes:
        kv_use: KV use above which waiting requests weigh more.
        kv_weight: What a waiting request weighs more for each unit of KV use above that.
    """

    kv_use: float = 0.5
    kv_weight: float = 6.0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if not 0 <= self.kv_use <= 1:
            raise UserError(f"route.kv_use is {self.kv_use}; it must be in [0, 1]")
        if self.kv_weight < 0:
            raise UserError(f"route.kv_weight is {self.kv_weight}; it must be at least 0")


class VllmDataParallel:
    """Lowest score, ties in turn."""

    needs: ClassVar[frozenset[Need]] = frozenset()
    minds_changes: ClassVar[bool] = False

    def __init__(self, config: Config, fleet: FleetView) -> None:
        self.config = config
        self.fleet = fleet
        self.begin = 0
        self.sent: dict[int, tuple[Time, int]] = {}

    def route(self, request: RoutedView, now: Time) -> Verdict:
        """Scan all replicas, from one place further each time."""
        entries = self.fleet.entries
        count = len(entries)
        scan = (entries[(self.begin + at) % count] for at in range(count))
        chosen = min(scan, key=lambda one: self._score(one, now))
        self.begin = (self.begin + 1) % count
        time, sent = self.sent.get(chosen.index, (-1, 0))
        reported = chosen.load.time
        self.sent[chosen.index] = reported, sent + 1 if time == reported else 1
        return chosen.index

    def _score(self, replica: ReplicaView, now: Time) -> float:
        load = replica.load
        time, sent = self.sent.get(replica.index, (-1, 0))
        waiting = load.waiting + (sent if time == load.time < now else 0)
        use = 1 - load.free_blocks / replica.blocks
        score = float(max(replica.open, waiting + load.seated))
        return score + waiting * self.config.kv_weight * max(0.0, use - self.config.kv_use)

    def changed(self, replica: ReplicaView, now: Time) -> None:
        """Take no note."""
