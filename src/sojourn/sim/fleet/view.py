"""The fleet as its policies see it (see `fleet.views.FleetView`)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sojourn.decide.clock import SECOND, Time
from sojourn.decide.request import RequestView
from sojourn.sim.fleet.unit import Unit

if TYPE_CHECKING:
    from sojourn.sim.fleet.loop import FleetSimulation


class View:
    """What one policy may read; its random stream is its own."""

    def __init__(self, sim: FleetSimulation, slot: str) -> None:
        self._sim = sim
        self._random = random.Random(f"{slot}/{sim.design.seed}")

    @property
    def replicas(self) -> Sequence[Unit]:
        """Every replica there has been, by index."""
        return self._sim.units

    @property
    def entries(self) -> Sequence[Unit]:
        """Those that take arrivals."""
        return self._sim.entries

    @property
    def decoders(self) -> Sequence[Unit]:
        """Those that take prefilled requests."""
        return self._sim.decoders

    @property
    def block_tokens(self) -> int:
        """Tokens behind a prefix id; 0 without ids."""
        return self._sim.workload.block_tokens if self._sim.workload.prefix else 0

    @property
    def waiting(self) -> int:
        """Requests that no replica has got yet."""
        return len(self._sim.kept)

    def draw(self, bound: int) -> int:
        """Return a random number from 0 to bound - 1."""
        return self._random.randrange(bound)

    def kv_bytes(self, request: RequestView) -> int:
        """Return the bytes of KV of a request's tokens."""
        each = self._sim.design.groups[0].kv_token_bytes
        return (request.prompt + request.decoded) * each

    def transfer_time(self, source: int, target: int, tokens: int) -> Time:
        """Return how long KV of so many tokens takes between two replicas with the link idle."""
        one, other = self._sim.units[source], self._sim.units[target]
        link = self._sim.design.link(one.kind, other.kind)
        size = tokens * one.group.kv_token_bytes
        rate = link.bytes_per_second
        if link.total_bytes_per_second:
            rate = min(rate, link.total_bytes_per_second)
        blocks = -(-tokens // one.block_size)
        copy = round(size / rate * SECOND)
        return link.latency + link.setup + blocks * link.block_setup + copy
