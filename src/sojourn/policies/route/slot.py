"""The route slot: it stands above the replicas, not in one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

from sojourn.decide.clock import Time
from sojourn.decide.needs import Need
from sojourn.decide.request import RequestView


class ReplicaView(Protocol):
    """What a router may read of a replica."""

    @property
    def waiting(self) -> int: ...
    @property
    def seated(self) -> int: ...


class Route(Protocol):
    """Chooses the replica of an arrival."""

    needs: ClassVar[frozenset[Need]]

    def route(self, request: RequestView, replicas: Sequence[ReplicaView], now: Time) -> int:
        """Return the index of a replica."""
