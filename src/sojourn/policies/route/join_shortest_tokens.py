"""The replica with the fewest tokens, of prompts to be computed and of prompts in its KV.

Source: join the shortest queue (Winston, Journal of Applied Probability 14, 1977), counted in
    tokens as LLM gateways do, whose requests differ in size by orders of magnitude.
Reads: prompt tokens of each replica's open requests, and those not computed yet.
Memory: the tokens of each replica, in a heap: O(log n) for each change.
Needs: nothing.
Deviations: tokens generated so far are left out, since they grow at every step; cached prompt
    tokens count as if they were to be computed.
Fails when: outputs are long and prompts short: the KV that grows is not counted.
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
    """Parameters of the token count.

    Attributes:
        prompt_weight: What a prompt token weighs until it is computed.
        kv_weight: What a prompt token weighs as KV, from when it is sent until its request ends.
    """

    prompt_weight: float = 1.0
    kv_weight: float = 1.0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name in ("prompt_weight", "kv_weight"):
            value = getattr(self, name)
            if value < 0:
                raise UserError(f"route.{name} is {value}; it must be at least 0")


class JoinShortestTokens:
    """Fewest tokens, ties to the lowest index."""

    needs: ClassVar[frozenset[Need]] = frozenset()
    minds_changes: ClassVar[bool] = True

    def __init__(self, config: Config, fleet: FleetView) -> None:
        self.config = config
        self.index = LoadIndex()

    def route(self, request: RoutedView, now: Time) -> Verdict:
        """Take the replica with the fewest tokens."""
        return self.index.least()

    def changed(self, replica: ReplicaView, now: Time) -> None:
        """Count a replica's tokens anew."""
        weights = self.config
        self.index.put(
            replica,
            weights.prompt_weight * replica.prompt_tokens + weights.kv_weight * replica.open_tokens,
        )
