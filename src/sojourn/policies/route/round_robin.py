"""Replicas in turn.

Source: the default of most load balancers.
Reads: nothing.
Memory: whose turn it is.
Needs: nothing.
Deviations: none.
Fails when: requests differ in size: replicas drift apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sojourn.decide.clock import Time
from sojourn.decide.needs import Need
from sojourn.decide.request import RequestView
from sojourn.policies.route.slot import ReplicaView


@dataclass(frozen=True, slots=True)
class Config:
    """No parameters."""


class RoundRobin:
    """Replicas in turn."""

    needs: ClassVar[frozenset[Need]] = frozenset()

    def __init__(self, config: Config) -> None:
        self.turn = -1

    def route(self, request: RequestView, replicas: Sequence[ReplicaView], now: Time) -> int:
        """Take the next replica."""
        self.turn = (self.turn + 1) % len(replicas)
        return self.turn
