"""The lowest estimated TTFT: queue, prefill of what is not cached, fetching of what others have.

Source: Mooncake, Conductor's cache-aware prefill scheduling (Qin et al., FAST 2025, algorithm 1;
    arXiv 2407.00079). For each instance, where the best match of all is over its own match by more
    than a threshold, it would fetch the rest: TTFT = transfer + queue + prefill beyond the best
    match; else TTFT = queue + prefill beyond its own match. The least TTFT is taken.
Reads: prefix ids and TTFT deadline of the request; KV size and step time of each replica; the
    fleet's transfer times.
Memory: the tree of prompts sent, as large for each replica as its KV; uncached tokens of the
    prompts in flight, in a heap. O(prefix ids + candidates) for each arrival.
Needs: STEP_TIME, and REJECT if it rejects.
Deviations: matches are what the router sent, not the instances' own directories. At most
    `candidates` holders are compared, and as many replicas with the shortest queues. The threshold
    is hand-tuned and not published: 2 here. With `fetches`, what the best match has comes out of
    its prefix cache, not out of host memory; off, nothing is fetched, and this is the paper's local
    cache-aware dispatch, which needs nothing of engines. Decoders are the place slot's; TBT is not
    predicted. With `reject`, who would miss the TTFT deadline is refused; off by default.
Fails when: outputs are long: queues of prompts say nothing of decoding beside them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from sojourn.decide.actions import Reject
from sojourn.decide.clock import Time
from sojourn.decide.needs import Need
from sojourn.decide.request import Request
from sojourn.errors import UserError
from sojourn.fleet.slots import Fetch, Verdict
from sojourn.fleet.views import DECODE, UP, FleetView, ReplicaView, RoutedView
from sojourn.policies.route.load_index import LoadIndex
from sojourn.policies.route.prefix_tree import PrefixTree
from sojourn.policies.route.prompt_queue import PromptQueue, prefill_time

WOULD_MISS: Final = "its first token would be late by the estimate"


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the estimate.

    Attributes:
        fetches: Whether instances fetch what others have in their caches.
        fetch_ratio: Best match over own match above which an instance would fetch.
        reject: Whether to refuse who would miss the TTFT deadline.
        candidates: Holders of a prefix, and short queues, that are compared.
    """

    fetches: bool = False
    fetch_ratio: float = 2.0
    reject: bool = False
    candidates: int = 16

    @property
    def needs(self) -> frozenset[Need]:
        """What it needs of the fleet beyond what every such router does."""
        return frozenset({Need.FETCH} if self.fetches else ())

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.fetch_ratio < 1:
            raise UserError(f"route.fetch_ratio is {self.fetch_ratio}; it must be at least 1")
        if self.candidates < 1:
            raise UserError(f"route.candidates is {self.candidates}; it must be at least 1")


class MooncakeConductor:
    """Least TTFT estimate, ties to holders of the prefix, then drawn."""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.STEP_TIME, Need.REJECT})
    reads_prefixes: ClassVar[bool] = True
    minds_changes: ClassVar[bool] = True

    def __init__(self, config: Config, fleet: FleetView) -> None:
        self.config = config
        self.fleet = fleet
        self.tree = PrefixTree()
        self.queue = PromptQueue()
        self.index = LoadIndex(fleet.draw)

    def route(self, request: RoutedView, now: Time) -> Verdict | Fetch:
        """Estimate for each candidate, and note what was sent where."""
        shortest = self.index.lowest(self.config.candidates)
        if not shortest:
            return None
        found = self.tree.matches(request.prefix, self.config.candidates)
        best = next(iter(found), -1)
        for one in shortest:
            if one not in found:
                found[one] = self.tree.own(request.prefix, one)
        depth = found.get(best, 0)
        ttfts = {one: self._ttft(request, one, own, best, depth) for one, own in found.items()}
        chosen = min(ttfts, key=ttfts.__getitem__)
        if (
            self.config.reject
            and now + ttfts[chosen] > request.ttft_deadline
            and not request.decoded
        ):
            assert isinstance(request, Request)
            return Reject(request, WOULD_MISS)
        replica = self.fleet.replicas[chosen]
        fetches = self._fetches(found[chosen], depth)
        cached = (depth if fetches else found[chosen]) * self.fleet.block_tokens
        self.queue.add(request, chosen, request.prompt - min(cached, request.prompt - 1))
        self.tree.insert(request, chosen, self.fleet.block_tokens)
        self.tree.trim(chosen, replica.blocks * replica.block_size)
        self.index.put(replica, self._queue_time(replica))
        return Fetch(chosen, best) if fetches else chosen

    def _fetches(self, own: int, depth: int) -> bool:
        """Return whether a replica with `own` ids fetches the rest of the deepest match."""
        return self.config.fetches and depth > own * self.config.fetch_ratio

    def _ttft(self, request: RoutedView, index: int, own: int, best: int, depth: int) -> Time:
        """Return the estimate for a replica that has `own` ids, where `best` has `depth`."""
        replica, size = self.fleet.replicas[index], self.fleet.block_tokens
        fetch = 0
        if self._fetches(own, depth):
            fetch = self.fleet.transfer_time(best, index, (depth - own) * size)
            own = depth
        cached = min(own * size, request.prompt - 1)
        prefill = prefill_time(replica, request.prompt - cached, cached)
        return fetch + self._queue_time(replica) + prefill

    def _queue_time(self, replica: ReplicaView) -> Time:
        tokens = self.queue.tokens.get(replica.index, 0)
        return replica.step_time.step(tokens, 0, 0, 1, 0, 0) if tokens else 0

    def changed(self, replica: ReplicaView, now: Time) -> None:
        """Count a replica's prompts anew; forget it if it takes no more arrivals."""
        index = replica.index
        before = self.queue.tokens.get(index)
        same = self.queue.settle(index) == before and replica.status == UP
        if same and replica.role != DECODE and index in self.index.score:
            return
        self.index.put(replica, self._queue_time(replica))
        if index not in self.index.score:
            self.tree.remove(index)
            self.queue.remove(index)
