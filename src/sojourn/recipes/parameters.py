"""Parameters of policies: their types and bounds, in recipes and on the command line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from math import isfinite
from typing import Any, Final, TypeAlias, TypeVar

from sojourn.decide.clock import NEVER, SECOND, to_seconds
from sojourn.errors import UserError, shown, unknown
from sojourn.policies.tables import FLEET_SLOTS, REPLICA_SLOTS, SLOTS

SECONDS_MIN: Final = to_seconds(1)
SECONDS_MAX: Final = NEVER // 2 // SECOND
"""Times beyond these bounds do not fit the clock."""
PERIODS: Final = ("period_seconds", "poll_seconds")
PERIOD_MIN_SECONDS: Final = 1e-4
"""Whoever is asked more often than this keeps a simulation from getting anywhere."""
COUNT_MAX: Final = 2**31 - 1
NUMBER_MAX: Final = 1e9
WORDS: Final = {"bool": "true or false", "int": "a whole number", "float": "a number"}

Number = TypeVar("Number", int, float)
Filled: TypeAlias = Mapping[str, tuple[str, Any]]
"""Policy name and configuration by slot."""


def make_config(slot: str, policy: str, values: Mapping[str, Any], origin: str) -> Any:
    """Return a policy's configuration; unknown policies, keys and types are refused."""
    if policy not in SLOTS[slot]:
        raise unknown(f"{slot} policy in {origin}", policy, SLOTS[slot])
    return set_fields(slot, SLOTS[slot][policy][0], values, origin)


def set_fields(slot: str, config: type[Any], values: Mapping[str, Any], origin: str) -> Any:
    """Return a configuration with these values; unknown keys and types are refused."""
    known = {field.name: field for field in fields(config)}
    checked = {}
    for key, value in values.items():
        if key not in known:
            raise unknown(f"parameter {slot}.{key} in {origin}: name", key, known or ["none"])
        kind = str(known[key].type)
        if isinstance(value, str) and kind in WORDS:
            # A file has types; only the command line gives numbers as text.
            raise UserError(f"{slot}.{key} is {shown(value)}; it must be {WORDS[kind]}")
        checked[key] = _typed(f"{slot}.{key}", kind, value)
    return config(**checked)


def overridden(slots: Filled, overrides: Iterable[tuple[str, str, str]]) -> Filled:
    """Return slots with parameters set; those that no policy here has are left out.

    Args:
        slots: Policy and configuration by slot.
        overrides: (slot, parameter, value as text).
    """
    changed = dict(slots)
    for slot, parameter, value in overrides:
        if slot not in changed:
            continue
        policy, config = changed[slot]
        names = {field.name: field for field in fields(config)}
        if parameter in names:
            typed = _typed(f"{slot}.{parameter}", names[parameter].type, value)
            changed[slot] = (policy, replace(config, **{parameter: typed}))
    return changed


def parse_parameters(
    texts: Iterable[str], filled: Iterable[tuple[str, Filled]]
) -> tuple[tuple[str, str, str], ...]:
    """Split `slot.parameter=value` texts; each parameter must exist in some slot that is filled.

    Args:
        texts: What was given.
        filled: Slots, each with the name of the recipe or fleet that they are of.

    Raises:
        UserError: For a malformed text, an unknown slot or a parameter that nobody has.
    """
    parsed = []
    filled = tuple(filled)
    for text in texts:
        key, equals, value = text.partition("=")
        slot, dot, parameter = key.partition(".")
        if not equals or not dot or not parameter:
            raise UserError(
                f"--param {text!r} is malformed: write slot.parameter=value, "
                "such as order.quantum_base_seconds=0.02"
            )
        slots = {*REPLICA_SLOTS, *FLEET_SLOTS, *(slot for _, slots in filled for slot in slots)}
        if slot not in slots:
            raise unknown("slot in --param", slot, slots)
        names = {
            field.name for _, slots in filled if slot in slots for field in fields(slots[slot][1])
        }
        if parameter not in names:
            which = ", ".join(name for name, _ in filled)
            raise unknown(f"{slot} parameter of {which}", parameter, names or ["none"])
        parsed.append((slot, parameter, value))
    return tuple(parsed)


def _typed(key: str, annotation: Any, value: Any) -> Any:
    """Return a value as the annotated simple type, or refuse it."""
    kind = str(annotation)
    try:
        if kind == "bool":
            if isinstance(value, bool):
                return value
            return {"true": True, "false": False}[str(value).lower()]
        if isinstance(value, bool):
            raise ValueError
        if kind == "int":
            if isinstance(value, float):
                raise ValueError
            return _within(key, int(value), COUNT_MAX)
        if kind == "float":
            number = float(value)
            if not isfinite(number):
                raise ValueError
            return _within(key, number, SECONDS_MAX if key.endswith("_seconds") else NUMBER_MAX)
        return str(value)
    except (ValueError, KeyError, TypeError, OverflowError):
        raise UserError(
            f"{key} is {shown(value)}; it must be {WORDS.get(kind, 'a text')}"
        ) from None


def _within(key: str, number: Number, most: float) -> Number:
    """Return a number that the clock and the counters hold, or refuse it."""
    if abs(number) > most:
        raise UserError(f"{key} is {number:g}; it must be at most {most:g}")
    if key.endswith("_seconds") and 0 < number < SECONDS_MIN:
        raise UserError(
            f"{key} is {number:g}; it must be at least {SECONDS_MIN:g}, the clock's resolution"
        )
    if key.endswith(PERIODS) and 0 < number < PERIOD_MIN_SECONDS:
        raise UserError(f"{key} is {number:g}; it must be at least {PERIOD_MIN_SECONDS:g}")
    return number
