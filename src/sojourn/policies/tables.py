"""The tables of all slots: name of a policy to its configuration and its class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sojourn.policies import admit, compose, order, place, retain, route, scale, victim

SLOTS: Final[Mapping[str, Mapping[str, tuple[type[Any], type[Any]]]]] = {
    "admit": admit.TABLE,
    "order": order.TABLE,
    "compose": compose.TABLE,
    "victim": victim.TABLE,
    "retain": retain.TABLE,
    "route": route.TABLE,
    "place": place.TABLE,
    "scale": scale.TABLE,
}

REPLICA_SLOTS: Final = ("admit", "order", "compose", "victim", "retain")
"""The slots of each replica."""

FLEET_SLOTS: Final = ("route", "place", "scale")
"""The slots above the replicas."""
