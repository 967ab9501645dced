"""Control slot: when rollouts are opened, stopped, kept, resumed and extended."""

from typing import Any, Final

from sojourn.policies.control import (
    april,
    arrol_inspired,
    asynchronous,
    divided,
    masa_inspired,
    stand_aside,
    synchronous,
    turn_limits,
    windowed,
)

TABLE: Final[dict[str, tuple[type[Any], type[Any]]]] = {
    "april": (april.Config, april.April),
    "arrol_inspired": (arrol_inspired.Config, arrol_inspired.ArrolInspired),
    "asynchronous": (asynchronous.Config, asynchronous.Asynchronous),
    "divided": (divided.Config, divided.Divided),
    "masa_inspired": (masa_inspired.Config, masa_inspired.MasaInspired),
    "stand_aside": (stand_aside.Config, stand_aside.StandAside),
    "synchronous": (synchronous.Config, synchronous.Synchronous),
    "turn_limits": (turn_limits.Config, turn_limits.TurnLimits),
    "windowed": (windowed.Config, windowed.Windowed),
}
