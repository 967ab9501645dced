"""Any replica, drawn at random: a control that spreads work but balances nothing.

Source: the control of Mitzenmacher, IEEE TPDS 12(10), 2001; "random" in Mooncake (FAST 2025).
Reads: which replicas take arrivals.
Memory: none.
Needs: nothing.
Deviations: none.
Fails when: load is high: some replica has a long queue while another is idle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sojourn.decide.clock import Time
from sojourn.decide.needs import Need
from sojourn.fleet.slots import Verdict
from sojourn.fleet.views import FleetView, ReplicaView, RoutedView


@dataclass(frozen=True, slots=True)
class Config:
    """No parameters."""


class RandomChoice:
    """A uniform draw."""

    needs: ClassVar[frozenset[Need]] = frozenset()
    minds_changes: ClassVar[bool] = False

    def __init__(self, config: Config, fleet: FleetView) -> None:
        self.fleet = fleet

    def route(self, request: RoutedView, now: Time) -> Verdict:
        """Draw a replica."""
        entries = self.fleet.entries
        return entries[self.fleet.draw(len(entries))].index

    def changed(self, replica: ReplicaView, now: Time) -> None:
        """Take no note."""
