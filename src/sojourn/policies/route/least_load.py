"""The replica with the lowest load, waiting requests weighing more than seated ones.

Source: vLLM 0.32 data-parallel load balancer, score = 4 x waiting + running.
Reads: waiting and seated requests of each replica.
Memory: none.
Needs: nothing.
Deviations: loads are exact and current; vLLM's are reported every 100 ms.
Fails when: requests differ greatly in size: counts say little about work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sojourn.decide.clock import Time
from sojourn.decide.needs import Need
from sojourn.decide.request import RequestView
from sojourn.errors import UserError
from sojourn.policies.route.slot import ReplicaView


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

    def __init__(self, config: Config) -> None:
        self.weight = config.waiting_weight

    def route(self, request: RequestView, replicas: Sequence[ReplicaView], now: Time) -> int:
        """Take the replica with the lowest score."""
        return min(
            range(len(replicas)),
            key=lambda i: (self.weight * replicas[i].waiting + replicas[i].seated, i),
        )
