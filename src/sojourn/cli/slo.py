"""SLO classes as they are written on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite
from typing import TYPE_CHECKING, Final

from sojourn.errors import UserError, unknown

if TYPE_CHECKING:
    from sojourn.steplog.record import SloClass

BOUNDS: Final = {"ttft": "ttft_seconds", "tpot": "tpot_seconds", "e2e": "e2e_seconds"}
SHARE_MIN: Final = 1e-6
KEYS: Final = ("share", *BOUNDS)
EXAMPLE: Final = "--slo-class interactive:share=0.7,ttft=0.5,tpot=0.05"
DEFAULT: Final = "default:ttft=2,tpot=0.1"
"""What requests are asked for when no class is given."""


@dataclass(frozen=True, slots=True)
class _Given:
    """One class as written; `share` is None where it was left out."""

    slo: SloClass
    share: float | None


def parse_slo_classes(texts: Sequence[str]) -> tuple[SloClass, ...]:
    """Return the classes; those without a share divide equally what the others leave.

    Raises:
        UserError: For a malformed class, an unknown key, a value that is not above zero, a name
            given twice, and shares that do not add up to 1.
    """
    given = [_parse(text) for text in texts]
    names = [one.slo.name for one in given]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise UserError(f"--slo-class {name!r} is given twice; each class needs its own name")
    total = sum(one.share for one in given if one.share is not None)
    open_classes = sum(1 for one in given if one.share is None)
    if total > 1 + 1e-6 or (total < 1 - 1e-6 and not open_classes):
        raise UserError(f"the shares of the SLO classes add up to {total:g}; they must add up to 1")
    if open_classes and total > 1 - 1e-6:
        rest = next(one.slo.name for one in given if one.share is None)
        raise UserError(
            f"the shares of the other SLO classes add up to 1 and leave nothing for {rest!r}; "
            "give smaller ones"
        )
    each = (1.0 - total) / open_classes if open_classes else 0.0
    return tuple(replace(one.slo, share=one.share or each) for one in given)


def default_classes(names: Sequence[str]) -> tuple[SloClass, ...]:
    """Return the default bounds for each class that a trace names; one class for no names."""
    default = _parse(DEFAULT).slo
    return tuple(replace(default, name=name) for name in names) or (default,)


def describe(slo: SloClass) -> dict[str, float | str | None]:
    """Return a class as JSON values, keyed as on the command line."""
    bounds = {key: getattr(slo, field) for key, field in BOUNDS.items()}
    return {"name": slo.name, "share": slo.share, **bounds}


def _parse(text: str) -> _Given:
    from sojourn.steplog.record import SloClass

    name, colon, rest = text.partition(":")
    if not colon or not name.strip() or not rest.strip():
        raise UserError(
            f"--slo-class {text!r} is malformed: write name:key=value,..., such as {EXAMPLE}"
        )
    values: dict[str, float] = {}
    for item in rest.split(","):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals:
            raise UserError(
                f"--slo-class {text!r} is malformed at {item!r}: write key=value, such as {EXAMPLE}"
            )
        if key not in KEYS:
            raise unknown("key in --slo-class", key, KEYS)
        if key in values:
            raise UserError(f"--slo-class {text!r} gives {key} twice")
        values[key] = _number(text, key, value)
    share = values.pop("share", None)
    if share is not None and share > 1:
        raise UserError(f"--slo-class {text!r}: share is {share:g}; it must be at most 1")
    if not values:
        raise UserError(
            f"--slo-class {text!r} sets no bound: give ttft, tpot or e2e in seconds, "
            f"such as {EXAMPLE}"
        )
    bounds = {BOUNDS[key]: value for key, value in values.items()}
    return _Given(SloClass(name.strip(), **bounds), share)


def _number(text: str, key: str, value: str) -> float:
    from sojourn.decide.clock import to_seconds
    from sojourn.sim.workload import LONGEST_SECONDS

    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    unit = "a share" if key == "share" else "seconds"
    if not isfinite(number) or number <= 0:
        raise UserError(
            f"--slo-class {text!r}: {key} is {value!r}; it must be a number above zero, in {unit}"
        )
    least, most = (SHARE_MIN, inf) if key == "share" else (to_seconds(1), LONGEST_SECONDS)
    if not least <= number <= most:
        said = f"at least {least:g}" if number < least else f"at most {most}"
        raise UserError(f"--slo-class {text!r}: {key} is {value!r}; it must be {said}, in {unit}")
    return number
