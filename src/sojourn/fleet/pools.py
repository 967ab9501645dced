"""Pools of a fleet: groups of replicas that serve one scenario each, told by their names."""

from __future__ import annotations

from typing import Final

from sojourn.decide.request import RequestView
from sojourn.errors import unknown
from sojourn.fleet.views import FleetView, ReplicaView

SLO_CLASS: Final = "slo_class"
TENANT: Final = "tenant"
SCENARIOS: Final = (SLO_CLASS, TENANT)


def check_scenario(key: str, name: str) -> None:
    """Refuse what requests cannot be told apart by.

    Raises:
        UserError: Naming what they can.
    """
    if name not in SCENARIOS:
        raise unknown(f"value of {key}", name, SCENARIOS)


def pool_of(replica: ReplicaView) -> str:
    """Return the pool of a replica: its group's name up to the last hyphen, or nothing."""
    return replica.kind.rpartition("-")[0]


class Pools:
    """Which pool serves which scenario: the first pool the first one, and so on, in turn.

    Attributes:
        fleet: Whose pools.
        by: What tells scenarios apart: `slo_class` or `tenant`.
    """

    def __init__(self, fleet: FleetView, by: str) -> None:
        self.fleet = fleet
        self.by = by
        self._names: list[str] = []
        self._seen = 0

    @property
    def names(self) -> list[str]:
        """The pools in the order in which their first replicas were made."""
        replicas = self.fleet.replicas
        for replica in replicas[self._seen :]:
            if pool_of(replica) not in self._names:
                self._names.append(pool_of(replica))
        self._seen = len(replicas)
        return self._names

    def number(self, request: RequestView) -> int:
        """Return the place of a request's pool among `names`."""
        scenario = request.slo_class if self.by == SLO_CLASS else request.tenant
        return scenario % max(len(self.names), 1)

    def of(self, request: RequestView) -> str:
        """Return the pool that serves a request."""
        return self.names[self.number(request)]
