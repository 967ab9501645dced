"""The tables of a fleet file: their keys, types and bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, Final

from sojourn.errors import UserError, shown, unknown
from sojourn.recipes.parameters import SECONDS_MAX, SECONDS_MIN

RANGES: Final[Mapping[str, tuple[float, float]]] = {
    "count": (0, 100_000),
    "least": (0, 100_000),
    "most": (1, 1_000_000),
    "tensor_parallel": (1, 8),
    "max_num_seqs": (1, 10**6),
    "max_num_batched_tokens": (1, 10**9),
    "max_model_len": (1, 10**9),
    "num_gpu_blocks": (2, 10**9),
    "gpu_memory_utilization": (0.01, 1),
    "price_per_hour": (0, 1e6),
    "bandwidth_gb_per_second": (1e-6, 1e6),
    "total_gb_per_second": (0, 1e9),
    "attempts": (0, 1000),
    "most_stages": (1, 1000),
    "last_blocks": (0, 10**9),
    "replica": (0, 100_000),
    "factor": (1, 1000),
    "speed": (1e-6, 1e6),
}
"""The least and the most that each number may be; a key in seconds what fits the clock."""
WORDS: Final = {"str": "a text", "int": "a whole number", "float": "a number"}


def table_list(document: Mapping[str, Any], key: str, origin: str) -> list[dict[str, Any]]:
    """Return the tables under `[[key]]`; none if it is absent."""
    found = document.get(key, [])
    if isinstance(found, list) and all(isinstance(one, dict) for one in found):
        return found
    raise UserError(f"{origin}: {key} is {shown(found)}; it must be tables, each under [[{key}]]")


def one_table(document: Mapping[str, Any], key: str, origin: str) -> dict[str, Any]:
    """Return the table `[key]` of a document; an absent one is empty."""
    found = document.get(key, {})
    if isinstance(found, dict):
        return found
    raise UserError(f"{origin}: {key} is {shown(found)}; it must be a table, [{key}]")


def checked(
    values: Mapping[str, Any], kinds: Mapping[str, str], origin: str, table: str = ""
) -> dict[str, Any]:
    """Return the values of a table, each of its type and within its bounds.

    Args:
        values: The table.
        kinds: Type of each key that it may have: `str`, `int` or `float`; other types (`between`)
            are the caller's to read.
        origin: What to call the document in errors.
        table: Name of the table; nothing where `origin` says it.
    """
    given = {}
    for name, value in values.items():
        key = f"{table}.{name}" if table else name
        if name not in kinds:
            raise unknown(f"key {key} in {origin}: name", name, kinds)
        if kinds[name] in WORDS:
            given[name] = tidy(key, value, kinds[name], origin)
    return given


def tidy(key: str, value: Any, kind: str, origin: str) -> Any:
    """Return a value of a type, `str`, `int` or `float`, within the bounds of its key."""
    if kind == "str":
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            raise UserError(f"{origin}: {key} is {shown(value)}; it must be a text")
        return value
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole and not (kind == "float" and isinstance(value, float) and isfinite(value)):
        raise UserError(f"{origin}: {key} is {shown(value)}; it must be {WORDS[kind]}")
    name = key.rpartition(".")[2]
    least, most = RANGES.get(name, (0, SECONDS_MAX))
    if not least <= value <= most:
        raise UserError(
            f"{origin}: {key} is {shown(value)}; it must be from {least:g} to {most:.10g}"
        )
    if name.endswith("_seconds") and 0 < value < SECONDS_MIN:
        raise UserError(
            f"{origin}: {key} is {value:g}; it must be 0, or at least {SECONDS_MIN:g}, the "
            "clock's resolution"
        )
    return value if kind == "int" else float(value)


def pair(values: Mapping[str, Any], names: Sequence[str], where: str) -> tuple[str, str]:
    """Return the two groups that `between` names, in alphabetical order."""
    between = values.get("between")
    if not isinstance(between, list) or len(between) != 2:
        raise UserError(
            f"{where}: between is {shown(between)}; it must name two groups, such as "
            f"[{names[0]!r}, {names[-1]!r}]"
        )
    for name in between:
        if name not in names:
            raise unknown(f"group in {where}: between", str(name), names)
    one, other = sorted(between)
    return one, other
