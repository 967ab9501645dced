"""The tables of a scenario: read into frozen dataclasses, whatever is wrong named in a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from math import isfinite
from typing import Any, Final, TypeVar

from sojourn.errors import UserError, shown, unknown

Made = TypeVar("Made")

COUNT_MAX: Final = 10**9
PUBLIC: Final = {"measured": ("file", "columns"), "recorded": ("file",)}
"""What a scenario calls the fields that a file is read into."""
WORDS: Final = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
}


def table(document: Mapping[str, Any], key: str, origin: str) -> dict[str, Any]:
    """Return the table `[key]` of a document; an absent one is empty."""
    found = document.get(key, {})
    if not isinstance(found, dict):
        raise UserError(f"{origin}: {key} is {shown(found)}; it must be a table, [{key}]")
    return dict(found)


def tables(document: Mapping[str, Any], key: str, origin: str) -> list[dict[str, Any]]:
    """Return the tables under `[[key]]`; none if it is absent."""
    found = document.get(key, [])
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise UserError(f"{origin}: {key} is {shown(found)}; it must be tables, each [[{key}]]")
    return found


def typed(key: str, kind: str, value: Any, origin: str) -> Any:
    """Return a value of one of the types of `WORDS`, or refuse it."""
    fits = {
        "bool": isinstance(value, bool),
        "int": isinstance(value, int) and not isinstance(value, bool),
        "float": isinstance(value, int | float) and not isinstance(value, bool),
        "str": isinstance(value, str) and value.isprintable(),
    }
    if not fits[kind]:
        raise UserError(f"{origin}: {key} is {shown(value)}; it must be {WORDS[kind]}")
    if kind == "float" and not isfinite(value):
        raise UserError(f"{origin}: {key} is {shown(value)}; it must be a finite number")
    if kind in ("int", "float") and abs(value) > COUNT_MAX:
        raise UserError(f"{origin}: {key} is {shown(value)}; it must be at most {COUNT_MAX:g}")
    return float(value) if kind == "float" else value


def made(kind: type[Made], values: Mapping[str, Any], name: str, origin: str) -> Made:
    """Return a dataclass made of a table of a scenario.

    Only fields of the types of `WORDS` can be given; others are the caller's, who passes them.

    Raises:
        UserError: For unknown keys, wrong types and values out of range.
    """
    kinds = {one.name: str(one.type) for one in fields(kind)}  # type: ignore[arg-type]
    given = {}
    for key, value in values.items():
        if key not in kinds:
            allowed = {name for one in kinds for name in PUBLIC.get(one, (one,))}
            raise unknown(f"key {name}.{key} in {origin}: name", str(key), allowed)
        simple = kinds[key] in WORDS
        given[key] = typed(f"{name}.{key}", kinds[key], value, origin) if simple else value
    for one in fields(kind):  # type: ignore[arg-type]
        if one.default is MISSING and one.default_factory is MISSING and one.name not in given:
            raise UserError(f"{origin}: {name} lacks {one.name}; give it")
    try:
        return kind(**given)
    except UserError as error:
        raise UserError(f"{origin}: {error}") from None
