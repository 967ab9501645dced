"""The tables of all slots: name of a policy to its configuration and its class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sojourn.policies import (
    admit,
    advantage,
    allocate,
    compose,
    control,
    dispatch,
    order,
    place,
    replay,
    retain,
    route,
    scale,
    select,
    subsample,
    victim,
)

SLOTS: Final[Mapping[str, Mapping[str, tuple[type[Any], type[Any]]]]] = {
    "admit": admit.TABLE,
    "order": order.TABLE,
    "compose": compose.TABLE,
    "victim": victim.TABLE,
    "retain": retain.TABLE,
    "route": route.TABLE,
    "place": place.TABLE,
    "scale": scale.TABLE,
    "select": select.TABLE,
    "allocate": allocate.TABLE,
    "control": control.TABLE,
    "dispatch": dispatch.TABLE,
    "replay": replay.TABLE,
    "subsample": subsample.TABLE,
    "advantage": advantage.TABLE,
}

REPLICA_SLOTS: Final = ("admit", "order", "compose", "victim", "retain")
"""The slots of each replica."""

FLEET_SLOTS: Final = ("route", "place", "scale")
"""The slots above the replicas."""

ROLLOUT_SLOTS: Final = (
    "select",
    "allocate",
    "control",
    "dispatch",
    "replay",
    "subsample",
    "advantage",
)
"""The slots of a training run's rollouts; `control` may hold several policies."""
