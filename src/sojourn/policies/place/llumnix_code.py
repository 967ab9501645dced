"""Requests migrate, as they run, between replicas paired by free blocks for each of their requests.

Source: AlibabaPAI/llumnix @24220fb, the released code: `balanced` pairing of replicas by remaining
    steps, threshold 3, shortest running request first (SR), one migration at a time from each.
Reads: free KV blocks, seated and waiting requests, demand of the queue, requests that lost their
    KV; running requests' lengths; migrations under way.
Memory: none.
Needs: MIGRATE, TRANSFER.
Deviations: a pair's loads after the move are estimated with the request that would move; the code's
    other picks are left out. A move that does not come down to its last stage in time is dropped
    there; here the last copy is made all the same.
Fails when: the defaults are kept: routine migration is off, and nobody moves. It counts blocks, a
    sixteenth of the paper's decode steps, knows no priority, and has no virtual usage. O(replicas)
    each poll.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import ClassVar

from sojourn.decide.actions import Migrate, SetRole
from sojourn.decide.clock import NEVER, Time, from_seconds
from sojourn.decide.needs import Need
from sojourn.decide.request import RequestView
from sojourn.errors import UserError
from sojourn.fleet.slots import Verdict
from sojourn.fleet.views import UP, FleetView, ReplicaView
from sojourn.policies.route.llumnix_freeness import migration, movable, remaining_steps


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the migration.

    Attributes:
        routine_migration: Whether requests migrate at all.
        balanced: Whether a pair is made only if the move evens the two out and leaves the target
            above the threshold; the code's other pairing, `defrag`, asks for neither.
        poll_seconds: Time between two pairings.
        threshold_blocks: Blocks for each request, below which a replica gives requests away and
            above which it takes them.
        watermark_share: Share of the KV blocks that is never counted as free (vLLM V0's).
        defrag: Whether only the first queued request counts, once, rather than the whole queue.
    """

    routine_migration: bool = False
    balanced: bool = True
    poll_seconds: float = 0.05
    threshold_blocks: float = 3.0
    watermark_share: float = 0.01
    defrag: bool = False

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.poll_seconds <= 0:
            raise UserError(f"place.poll_seconds is {self.poll_seconds:g}; it must be more than 0")
        if not 0 <= self.watermark_share < 1:
            raise UserError(
                f"place.watermark_share is {self.watermark_share:g}; it must be in [0, 1)"
            )


class LlumnixCode:
    """Pairs by remaining steps."""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.MIGRATE, Need.TRANSFER})
    idles: ClassVar[bool] = True
    reads_demand: ClassVar[bool] = True

    def __init__(self, config: Config, fleet: FleetView) -> None:
        self.config = config
        self.fleet = fleet
        self.period: Time = from_seconds(config.poll_seconds) if config.routine_migration else NEVER

    def decoder(self, request: RequestView, source: ReplicaView, now: Time) -> Verdict:
        """Take the decode replica with the most remaining steps."""
        freest = max(
            self.fleet.decoders,
            key=lambda one: (self._steps(one), -one.open, -one.index),
            default=None,
        )
        return None if freest is None else freest.index

    def pulls(self, request: RequestView, target: ReplicaView, blocks: int) -> bool:
        """Fetch whatever fits."""
        return True

    def rebalance(self, now: Time) -> Sequence[Migrate | SetRole]:
        """Pair the lowest with the highest, where that evens the two out."""
        found = [(self._steps(one), one) for one in movable(self.fleet.replicas)]
        ranked = sorted(found, key=lambda entry: (entry[0], entry[1].index))
        most = self.config.threshold_blocks
        low = [one for steps, one in ranked if steps < most or one.load.dropped]
        sources = [one for one in low if not one.departing]
        targets = [
            one
            for steps, one in reversed(ranked)
            if steps > most and not one.load.dropped and one.status == UP
        ]
        moves = []
        for source, target in zip(sources, targets, strict=False):
            move = migration(source, target, None)
            if move is not None and self._evens_out(move.request, source, target):
                moves.append(move)
        return moves

    def _steps(self, replica: ReplicaView, blocks: int = 0, requests: int = 0) -> float:
        return remaining_steps(
            replica, self.config.watermark_share, self.config.defrag, blocks, requests
        )

    def _evens_out(self, request: RequestView, source: ReplicaView, target: ReplicaView) -> bool:
        """Return whether the target stays above the threshold and the gap shrinks, but not past 0.

        A replica that drains gives away whatever fits.
        """
        if not self.config.balanced:
            return True
        blocks = -(-(request.prompt + request.decoded) // source.block_size)
        after = self._steps(target, blocks, 1)
        if after <= self.config.threshold_blocks:
            return False
        before = self._steps(source)
        gap = after - self._steps(source, -blocks, -1)
        return before == -inf or 0 < gap < self._steps(target) - before
