"""Exploit a cached prefix where most of the prompt is known; else explore the cheapest replica.

Source: Preble (Srivatsa et al., ICLR 2025; arXiv 2407.00023), algorithm E2, and its released code
    (WukLab/preble, multi_node/global_scheduler_with_time.py at 0c962c4).
    If more tokens are matched than new: the least costly of those that serve the prefix, else of
    all. Cost: over prefixes of the last 3 minutes, miss rate x requests x prefill time / replicas,
    plus decoding of active requests and prefill of what must be evicted. If the largest is over 1.5
    of the least, prefixes move, the cheapest first; a single one is served by both if it slowed.
Reads: prefix ids, open requests and uncomputed prompt tokens, KV size and step time of replicas.
Memory: the tree of prompts sent, as large for each replica as its KV; the window of prefixes.
Needs: STEP_TIME.
Deviations: a prefix is what its first request explored and all that extends it; nodes are not
    split. Outputs and TPOT are the code's priors, TTFT is estimated at dispatch. Eviction is
    weighed for the `candidates` cheapest, rebalancing tried once a second (the code: never).
Fails when: outputs differ greatly: costs of decoding are alike for all requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from sojourn.decide.clock import SECOND, Time, from_seconds
from sojourn.decide.needs import Need
from sojourn.errors import UserError
from sojourn.fleet.slots import Verdict
from sojourn.fleet.views import FleetView, ReplicaView, RoutedView
from sojourn.policies.route.load_index import LoadIndex
from sojourn.policies.route.preble_window import Routed, Wait, Window
from sojourn.policies.route.prefix_tree import PrefixTree


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of E2.

    Attributes:
        window_seconds: How long a request counts.
        output_tokens: Expected tokens of an active request.
        tpot_seconds: Expected time of each.
        counts_eviction: Whether what must be evicted costs.
        rebalance_factor: Largest over least cost above which prefixes move; 0 for never.
        rebalance_after: Requests before the first rebalancing.
        slower_factor: Rise of a prefix's TTFT at which a second replica serves it.
        candidates: Cheapest replicas whose eviction is weighed.
    """

    window_seconds: float = 180.0
    output_tokens: int = 45
    tpot_seconds: float = 0.15
    counts_eviction: bool = True
    rebalance_factor: float = 1.5
    rebalance_after: int = 50
    slower_factor: float = 2.0
    candidates: int = 16

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name in ("output_tokens", "tpot_seconds", "rebalance_factor", "rebalance_after"):
            if getattr(self, name) < 0:
                raise UserError(f"route.{name} is {getattr(self, name)}; it must be at least 0")
        for name in ("window_seconds", "slower_factor", "candidates"):
            if getattr(self, name) <= 0:
                raise UserError(f"route.{name} is {getattr(self, name)}; it must be above 0")


class PrebleE2:
    """Exploit or explore, ties to the lowest index."""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.STEP_TIME})
    reads_prefixes: ClassVar[bool] = True
    minds_changes: ClassVar[bool] = True

    def __init__(self, config: Config, fleet: FleetView) -> None:
        self.config = config
        self.fleet = fleet
        self.tree = PrefixTree()
        self.window = Window(from_seconds(config.window_seconds))
        self.index = LoadIndex()
        self.most = LoadIndex()
        self.decode = config.output_tokens * from_seconds(config.tpot_seconds)
        self.balanced: Time = 0

    def route(self, request: RoutedView, now: Time) -> Verdict:
        """Exploit or explore, and note what was sent where."""
        self._score(*self.window.expire(now))
        depth = self.tree.depth(request.prefix)
        matched = depth * self.fleet.block_tokens
        known = 2 * matched > request.prompt
        number = self.window.find(request.prefix[:depth], self.tree.labels) if known else 0
        among = self.window.groups[number].replicas if number else ()
        chosen = self._cheapest(request, among or self.index.lowest(self.config.candidates))
        if chosen < 0:
            return None
        replica = self.fleet.replicas[chosen]
        if not number:
            depth = 0 if known else depth  # known to the tree, but no longer served by anybody
            prior = min(depth * self.fleet.block_tokens, request.prompt - 1)
            number = self.window.open(request.prompt - prior, prior, replica)
        new = request.prompt - matched
        ttft = replica.step_time.step(replica.prompt_tokens + new, 0, 0, 1, 0, 0)
        self.window.add(Routed(now, number, request.prompt, new), Wait(now, chosen, ttft))
        self.tree.insert(request, chosen, self.fleet.block_tokens)
        self.tree.labels.update(dict.fromkeys(request.prefix[depth:], number))
        self.tree.trim(chosen, replica.blocks * replica.block_size)
        self._score(*self.window.groups[number].replicas)
        self._rebalance(now)
        return chosen

    def _cheapest(self, request: RoutedView, among: Iterable[int]) -> int:
        """Return the replica with the least cost; -1 if there is none."""
        score = self.index.score
        costs = [(score[one] + self._evicted(request, one), one) for one in among if one in score]
        return min(costs)[1] if costs else -1

    def _evicted(self, request: RoutedView, index: int) -> Time:
        """Return the cost of what a replica must evict for a prompt."""
        tree, replica = self.tree, self.fleet.replicas[index]
        short = tree.tokens.get(index, 0) - replica.blocks * replica.block_size
        short += request.prompt - tree.own(request.prefix, index) * self.fleet.block_tokens
        path: Mapping[int, int] = tree.paths.get(index, {}) if self.config.counts_eviction else {}
        return self.window.loss(path, tree.labels, short)

    def _score(self, *indices: int) -> None:
        """Bring the costs of some replicas up to date."""
        for index in indices:
            replica = self.fleet.replicas[index]
            cost = self.window.costs.get(index, 0) + replica.open * self.decode
            if self.index.put(replica, cost):
                self.most.put(replica, -cost)

    def _rebalance(self, now: Time) -> None:
        """Let the cheapest replica serve prefixes of the most costly one."""
        config, least, most = self.config, self.index.least(), self.most.least()
        soon = now - self.balanced < SECOND or self.window.added < config.rebalance_after
        if soon or not config.rebalance_factor or least is None or most is None:
            return
        self.balanced = now
        low, high = self.index.score[least], self.index.score[most]
        if least != most and high >= config.rebalance_factor * low:
            self.window.spread(most, least, high, low, now, config.slower_factor)
            self._score(least, most)

    def changed(self, replica: ReplicaView, now: Time) -> None:
        """Count a replica's requests anew; forget it if it takes no more arrivals."""
        self._score(replica.index)
        if replica.index not in self.index.score:
            self.tree.remove(replica.index)
            self.window.drop(replica.index)
