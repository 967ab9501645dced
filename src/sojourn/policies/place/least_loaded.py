"""Prefilled requests go to the decode replica with the fewest open requests; nobody migrates.

Source: DistServe (OSDI 2024), section 4.3 and its released code: the least loaded decoding
    instance, which fetches KV when its own waiting blocks are below a share of its memory.
Reads: open requests of each decode replica, blocks waiting to be fetched.
Memory: none.
Needs: TRANSFER.
Deviations: none.
Fails when: requests differ greatly in length: counts say little about memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sojourn.decide.actions import Migrate, SetRole
from sojourn.decide.clock import NEVER, Time
from sojourn.decide.needs import Need
from sojourn.decide.request import RequestView
from sojourn.errors import UserError
from sojourn.fleet.views import FleetView, ReplicaView


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the pull.

    Attributes:
        waiting_share: A decode replica fetches only while the KV fetched for requests that have no
            seat yet is below this share of its blocks.
    """

    waiting_share: float = 0.05

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if not 0 < self.waiting_share <= 1:
            raise UserError(f"place.waiting_share is {self.waiting_share}; it must be in (0, 1]")


class LeastLoaded:
    """Fewest open requests, ties to the lowest index."""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.TRANSFER})

    def __init__(self, config: Config, fleet: FleetView) -> None:
        self.config = config
        self.fleet = fleet
        self.period: Time = NEVER

    def decoder(self, request: RequestView, source: ReplicaView, now: Time) -> int | None:
        """Take the decode replica with the fewest open requests."""
        best = min(self.fleet.decoders, key=lambda one: (one.open, one.index), default=None)
        return None if best is None else best.index

    def pulls(self, request: RequestView, target: ReplicaView, blocks: int) -> bool:
        """Fetch while few fetched requests wait for a seat."""
        return target.load.landed_blocks < self.config.waiting_share * target.blocks

    def rebalance(self, now: Time) -> Sequence[Migrate | SetRole]:
        """Move nobody."""
        return ()
