"""Whoever has most of the prompt in its cache, until its queue of prompts is too long.

Source: llm-d's optimised baseline (guides/optimized-baseline; "Sticky Until Saturated:
    Token-Aware Routing in llm-d", llm-d.ai blog, 2026): prefix-cache-affinity-filter, then
    token-load-scorer. Replicas that hold at least 80 % of the prompt are sticky; if the TTFT of the
    best of them is over 18 s longer than that of the best other, all replicas are candidates. Of
    the candidates the one with the fewest uncached prompt tokens in flight, this prompt's
    included, is taken. TTFT is uncached tokens in flight over the peak prefill throughput.
Reads: prefix ids of the prompt, KV size and step time of each replica.
Memory: the tree of prompts sent, as large for each replica as its KV; uncached tokens of the
    prompts in flight, in a heap. O(prefix ids + candidates) for each arrival.
Needs: STEP_TIME, unless the throughput is given.
Deviations: of the holders of a prefix, at most `candidates` that got it last are compared; ties
    between them go to who got it last, others are drawn, as all are in llm-d. The throughput is
    measured on the replica's own step times, as llm-d calibrates on its hardware (15,928 tokens/s
    for Qwen3-32B on two H100).
Fails when: decoding is the bottleneck: prompt tokens in flight say nothing of long outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from sojourn.decide.clock import SECOND, Time
from sojourn.decide.needs import Need
from sojourn.errors import UserError
from sojourn.fleet.slots import Verdict
from sojourn.fleet.views import FleetView, ReplicaView, RoutedView
from sojourn.policies.route.load_index import LoadIndex
from sojourn.policies.route.prefix_tree import PrefixTree
from sojourn.policies.route.prompt_queue import PromptQueue

CHUNK: Final = 8192
"""Prompt tokens of the step that the calibration measures."""


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the filter and of the scorer.

    Attributes:
        affinity_threshold: Share of the prompt's ids that a sticky replica holds.
        most_ttft_penalty_seconds: TTFT that is given away for a cache; 0 for any.
        prefill_tokens_per_second: Peak throughput; 0 to measure it on the step times.
        exploration_probability: Chance to let all replicas be candidates.
        candidates: Holders of a prefix that are compared.
    """

    affinity_threshold: float = 0.8
    most_ttft_penalty_seconds: float = 18.0
    prefill_tokens_per_second: float = 0.0
    exploration_probability: float = 0.0
    candidates: int = 16

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name in ("affinity_threshold", "exploration_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"route.{name} is {getattr(self, name)}; it must be in [0, 1]")
        for name in ("most_ttft_penalty_seconds", "prefill_tokens_per_second"):
            if getattr(self, name) < 0:
                raise UserError(f"route.{name} is {getattr(self, name)}; it must be at least 0")
        if self.candidates < 1:
            raise UserError(f"route.candidates is {self.candidates}; it must be at least 1")


class StickyUntilSaturated:
    """Fewest uncached tokens among the sticky replicas, or among all if those are saturated."""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.STEP_TIME})
    reads_prefixes: ClassVar[bool] = True
    minds_changes: ClassVar[bool] = True

    def __init__(self, config: Config, fleet: FleetView) -> None:
        self.config = config
        self.fleet = fleet
        self.tree = PrefixTree()
        self.queue = PromptQueue()
        self.index = LoadIndex(fleet.draw)
        self.rates: dict[str, float] = {}

    def route(self, request: RoutedView, now: Time) -> Verdict:
        """Filter, score, and note what was sent where."""
        least = self.index.least()
        if least is None:
            return None
        prefix, fleet = request.prefix, self.fleet
        found = self.tree.matches(prefix, self.config.candidates)
        found.setdefault(least, self.tree.own(prefix, least))
        enough = self.config.affinity_threshold * len(prefix)
        sticky = {one: depth for one, depth in found.items() if depth and depth >= enough}
        if sticky and not self._breaks(sticky, least):
            found = sticky
        uncached = {
            one: round(request.prompt * (1 - depth / len(prefix))) if depth else request.prompt
            for one, depth in found.items()
        }
        tokens = self.index.score
        chosen = min(found, key=lambda one: tokens[one] + uncached[one])
        replica = fleet.replicas[chosen]
        self.tree.insert(request, chosen, fleet.block_tokens)
        self.tree.trim(chosen, replica.blocks * replica.block_size)
        self.queue.add(request, chosen, uncached[chosen])
        self.index.put(replica, self.queue.tokens[chosen])
        return chosen

    def _breaks(self, sticky: dict[int, int], least: int) -> bool:
        """Return whether the sticky replicas are saturated, or exploration is due."""
        chance = self.config.exploration_probability
        if chance and self.fleet.draw(1_000_000) < chance * 1_000_000:
            return True
        penalty = self.config.most_ttft_penalty_seconds
        return bool(penalty) and min(map(self._ttft, sticky)) - self._ttft(least) > penalty

    def _ttft(self, index: int) -> float:
        replica = self.fleet.replicas[index]
        if replica.kind not in self.rates:
            step = replica.step_time.step(CHUNK, CHUNK * (CHUNK + 1) // 2, 0, 1, 0, 0)
            measured = CHUNK / step * SECOND if step else float("inf")
            self.rates[replica.kind] = self.config.prefill_tokens_per_second or measured
        return self.index.score[index] / self.rates[replica.kind]

    def changed(self, replica: ReplicaView, now: Time) -> None:
        """Count a replica's prompts anew; forget it if it takes no more arrivals."""
        index = replica.index
        self.index.put(replica, self.queue.settle(index))
        if index not in self.index.score:
            self.tree.remove(index)
            self.queue.remove(index)
