"""The less loaded of two replicas drawn at random.

Source: Mitzenmacher, The Power of Two Choices in Randomized Load Balancing, IEEE TPDS 12(10), 2001;
    with old loads: How Useful Is Old Information?, IEEE TPDS 11(1), 2000.
Reads: waiting and seated requests of the replicas drawn, as reported, or the open ones.
Memory: none.
Needs: nothing.
Deviations: replicas are drawn without replacement; a tie goes to the lowest index.
Fails when: requests differ greatly in size: counts say little about work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sojourn.decide.clock import Time
from sojourn.decide.needs import Need
from sojourn.errors import UserError
from sojourn.fleet.slots import Verdict
from sojourn.fleet.views import FleetView, ReplicaView, RoutedView


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the draw.

    Attributes:
        choices: Replicas drawn.
        own_counts: Whether load is the requests that the router has open there, which is never
            stale, instead of the waiting and seated ones of the last report.
    """

    choices: int = 2
    own_counts: bool = False

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.choices < 1:
            raise UserError(f"route.choices is {self.choices}; it must be at least 1")


class PowerOfTwo:
    """Lowest load of a few drawn at random."""

    needs: ClassVar[frozenset[Need]] = frozenset()
    minds_changes: ClassVar[bool] = False

    def __init__(self, config: Config, fleet: FleetView) -> None:
        self.config = config
        self.fleet = fleet

    def route(self, request: RoutedView, now: Time) -> Verdict:
        """Draw, then compare."""
        entries = self.fleet.entries
        count = len(entries)
        drawn: list[int] = []
        for left in range(min(self.config.choices, count)):
            place = self.fleet.draw(count - left)
            for other in sorted(drawn):  # the place among those not drawn yet
                place += place >= other
            drawn.append(place)
        return min((self._load(entries[at]), entries[at].index) for at in drawn)[1]

    def changed(self, replica: ReplicaView, now: Time) -> None:
        """Take no note."""

    def _load(self, replica: ReplicaView) -> int:
        if self.config.own_counts:
            return replica.open
        load = replica.load
        return load.waiting + load.seated
