"""What Llumnix's three slots count alike: freeness as in the paper, and as in the released code."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf
from typing import NamedTuple

from sojourn.decide.actions import Migrate
from sojourn.decide.clock import Time
from sojourn.decide.request import RequestView
from sojourn.fleet.views import DRAINING, PREFILL, UP, FleetView, ReplicaView
from sojourn.policies.route.load_index import LoadIndex


class Headroom(NamedTuple):
    """What requests of high priority are to have around them.

    Attributes:
        ideal_tokens: KV tokens of a replica up to which decoding is about as fast as it gets; the
            rest of its memory is their headroom.
        high_class: Index of the SLO class whose requests have high priority, besides all requests
            with a client's priority below 0; -1 for no class.
    """

    ideal_tokens: int
    high_class: int

    def is_high(self, request: RequestView) -> bool:
        """Return whether a request has high priority."""
        return request.priority < 0 or request.slo_class == self.high_class

    def tokens(self, replica: ReplicaView) -> int:
        """Return what the running requests of high priority, sharing it, claim together."""
        if self.high_class < 0 and not replica.urgent:
            return 0
        if any(self.is_high(one) for one in replica.running()):
            return max(replica.blocks * replica.block_size - self.ideal_tokens, 0)
        return 0


def freeness(replica: ReplicaView, headroom: Headroom | None, whole_queue: bool = False) -> float:
    """Return (M - sum of virtual usages) / batch, about the decode steps left; may be negative.

    Virtual usage of a running request: its KV and its part of the headroom; of the first queued
    one: all it needs; of other queued ones: nothing, or with `whole_queue` all they need; on a
    replica that drains: without bound.
    """
    if replica.status != UP:
        return -inf
    load = replica.load
    queued = load.demand_blocks if whole_queue else load.head_blocks
    free = (load.free_blocks - queued) * replica.block_size
    if headroom is not None:
        free -= headroom.tokens(replica)
    return free / max(load.seated, 1)


def remaining_steps(
    replica: ReplicaView,
    watermark_share: float,
    defrag: bool,
    blocks: int = 0,
    requests: int = 0,
) -> float:
    """Return the released code's load: free blocks, less the queue's, for each request.

    With `defrag` only the first queued request counts, once. `blocks` and `requests` are added to
    what runs.
    """
    if replica.status != UP:
        return -inf
    load = replica.load
    queued = load.head_blocks if defrag else load.demand_blocks
    waiting = min(load.waiting, 1) if defrag else load.waiting
    free = load.free_blocks - int(watermark_share * replica.blocks) - queued - blocks
    return free / max(load.seated + waiting + requests, 1)


def migration(
    source: ReplicaView, target: ReplicaView, headroom: Headroom | None
) -> Migrate | None:
    """Return the move from one replica to another: low priority first, then the fewest tokens.

    None if that request does not fit there: the target would refuse.
    """

    def rank(one: RequestView) -> tuple[bool, int, int]:
        high = headroom is not None and headroom.is_high(one)
        return high, one.prompt + one.decoded, -one.id

    request = min(source.running(), key=rank, default=None)
    if request is None:
        return None
    blocks = -(-(request.prompt + request.decoded) // target.block_size)
    return Migrate(request, target.index) if blocks < target.load.free_blocks else None


def movable(replicas: Iterable[ReplicaView]) -> list[ReplicaView]:
    """Return the replicas that decode, those that drain included."""
    return [one for one in replicas if one.status in (UP, DRAINING) and one.role != PREFILL]


class Freest:
    """The freest replica, by measures that are taken anew after a time.

    Between two of them only the replica that got the last request is measured.

    Attributes:
        measure: Returns how free a replica is.
        refresh: How long measures are good for.
        due: When they are to be taken anew.
        last: Index of the replica that got the last request.
    """

    def __init__(
        self, fleet: FleetView, measure: Callable[[ReplicaView], float], refresh: Time
    ) -> None:
        self.fleet = fleet
        self.measure = measure
        self.refresh = refresh
        self.due: Time = 0
        self.last: int | None = None
        self.index = LoadIndex()

    def take(self, now: Time) -> int | None:
        """Return the freest replica that takes arrivals, ties to the lowest index."""
        if now >= self.due:
            for replica in self.fleet.entries:
                self.note(replica)
            self.due = now + self.refresh
        elif self.last is not None:
            self.note(self.fleet.replicas[self.last])
        self.last = self.index.least()
        return self.last

    def note(self, replica: ReplicaView) -> None:
        """Measure a replica."""
        self.index.put(replica, -self.measure(replica))
