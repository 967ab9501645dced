"""Requests migrate, as they run, from the replicas with the least freeness to those with the most.

Source: Sun et al., "Llumnix: Dynamic Scheduling for Large Language Model Serving", OSDI 2024,
    section 4.4: sources below one threshold, destinations above another, the lowest paired with
    the highest; low priority first, then the shortest; replicas that drain have no freeness at all.
Reads: free KV blocks, seated requests, demand of the first queued one; running requests' lengths
    and priority; migrations under way.
Memory: none.
Needs: MIGRATE, TRANSFER.
Deviations: thresholds are those of the released code (3 blocks a request), in tokens, the upper one
    twice that: the text gives none; one request at a time leaves a replica, and pairs are made anew
    each period rather than kept until the source is out of its state.
Fails when: all replicas are short of memory: there is nowhere to go; or links are slow against the
    growth of KV. O(replicas) each period.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sojourn.decide.actions import Migrate, SetRole
from sojourn.decide.clock import Time, from_seconds
from sojourn.decide.needs import Need
from sojourn.decide.request import RequestView
from sojourn.errors import UserError
from sojourn.fleet.slots import Verdict
from sojourn.fleet.views import UP, FleetView, ReplicaView
from sojourn.policies.route.llumnix_freeness import Headroom, freeness, migration, movable


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the migration.

    Attributes:
        period_seconds: Time between two pairings.
        low_steps: A replica with fewer decode steps of freeness gives requests away.
        high_steps: A replica with more takes them.
        ideal_tokens: KV tokens up to which decoding is about as fast as it gets: what is beyond is
            the headroom of requests of high priority (1,600 for LLaMA-7B on an A10).
        high_class: Index of the SLO class with high priority; -1 for none. Requests whose client
            gave a priority below 0 have it too.
    """

    period_seconds: float = 0.05
    low_steps: float = 48.0
    high_steps: float = 96.0
    ideal_tokens: int = 1600
    high_class: int = -1

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.period_seconds <= 0:
            raise UserError(
                f"place.period_seconds is {self.period_seconds:g}; it must be more than 0"
            )
        if self.high_steps < self.low_steps:
            raise UserError(
                f"place.high_steps is {self.high_steps:g}; it must be at least place.low_steps, "
                f"{self.low_steps:g}"
            )
        if self.ideal_tokens < 0:
            raise UserError(f"place.ideal_tokens is {self.ideal_tokens}; it must be 0 or more")
        if self.high_class < -1:
            raise UserError(f"place.high_class is {self.high_class}; it must be -1 or more")


class Llumnix:
    """Pairs by freeness."""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.MIGRATE, Need.TRANSFER})
    idles: ClassVar[bool] = True
    reads_demand: ClassVar[bool] = True

    def __init__(self, config: Config, fleet: FleetView) -> None:
        self.config = config
        self.fleet = fleet
        self.headroom = Headroom(config.ideal_tokens, config.high_class)
        self.period: Time = from_seconds(config.period_seconds)

    def decoder(self, request: RequestView, source: ReplicaView, now: Time) -> Verdict:
        """Take the decode replica with the most freeness."""
        freest = max(
            self.fleet.decoders,
            key=lambda one: (freeness(one, self.headroom), -one.open, -one.index),
            default=None,
        )
        return None if freest is None else freest.index

    def pulls(self, request: RequestView, target: ReplicaView, blocks: int) -> bool:
        """Fetch whatever fits."""
        return True

    def rebalance(self, now: Time) -> Sequence[Migrate | SetRole]:
        """Pair the lowest with the highest."""
        found = [(freeness(one, self.headroom), one) for one in movable(self.fleet.replicas)]
        ranked = sorted(found, key=lambda entry: (entry[0], entry[1].index))
        low, high = self.config.low_steps, self.config.high_steps
        sources = [one for free, one in ranked if free < low and not one.departing]
        targets = [one for free, one in reversed(ranked) if free > high and one.status == UP]
        pairs = zip(sources, targets, strict=False)
        moves = [migration(source, target, self.headroom) for source, target in pairs]
        return [one for one in moves if one is not None]
