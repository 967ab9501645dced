"""The rows of a fleet in a step log: replicas, moves and events, as a table and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

from sojourn.steplog.fleet import FleetEvent, FleetRecord, MoveRow, UnitRow

if TYPE_CHECKING:
    import pyarrow as pa

FLEET_TABLES: Final = {"replica": UnitRow, "move": MoveRow, "event": FleetEvent}
"""Kinds of rows, in the file's order after those of `write.TABLES`, and what they are of."""

COLUMNS: Final[dict[str, dict[str, str]]] = {
    "replica": {
        "index": "replica",
        "kind": "group",
        "role": "role",
        "hardware": "hardware",
        "gpus": "gpus",
        "asked": "asked_ps",
        "up": "up_ps",
        "ended": "ended_ps",
        "dollars": "dollars",
        "requests": "requests",
        "blocks": "blocks",
        "seats": "seats",
    },
    "move": {
        "kind": "move",
        "request": "request",
        "source": "source",
        "target": "target",
        "began": "began_ps",
        "ended": "ended_ps",
        "down": "down_ps",
        "bytes": "bytes",
        "stages": "stages",
        "outcome": "outcome",
    },
    "event": {"time": "time_ps", "replica": "replica", "what": "event"},
}
"""The column of each field of each kind."""

TEXTS: Final = ("group", "role", "hardware", "move", "outcome", "event")
FLOATS: Final = ("dollars",)
TALLIES: Final = ("design", "lost_requests", "lost_tokens", "routings")
"""Fields of the record that stand in the file's metadata."""


def fleet_table(fleet: FleetRecord | None, numbers: Sequence[int] | None = None) -> pa.Table:
    """Return the rows of a fleet; without one, none, in the same columns.

    Args:
        fleet: The fleet's side of the run.
        numbers: Numbers of the requests by row; None where rows are numbers.
    """
    import pyarrow as pa

    parts = []
    for kind, columns in COLUMNS.items():
        rows = [] if fleet is None else _rows(fleet, kind)
        made = {"kind": _column("kind", [kind] * len(rows))}
        for field, column in columns.items():
            values = [getattr(row, field) for row in rows]
            if column == "request" and numbers is not None:
                values = [numbers[row] for row in values]
            made[column] = _column(column, values)
        parts.append(pa.table(made))
    return pa.concat_tables(parts, promote_options="default")


def _rows(fleet: FleetRecord, kind: str) -> Sequence[Any]:
    rows: dict[str, Sequence[Any]] = {
        "replica": fleet.units,
        "move": fleet.moves,
        "event": fleet.events,
    }
    return rows[kind]


def _column(name: str, values: list[Any]) -> Any:
    """Return an Arrow column; a negative whole number stands for none."""
    import pyarrow as pa

    if name == "kind" or name in TEXTS:
        return pa.array(values, pa.string()).dictionary_encode()
    if name in FLOATS:
        return pa.array(values, pa.float64())
    return pa.array([None if value < 0 else value for value in values], pa.int64())


def fleet_facts(fleet: FleetRecord | None) -> dict[str, Any] | None:
    """Return what the metadata say of a fleet; JSON values."""
    return None if fleet is None else {name: getattr(fleet, name) for name in TALLIES}


def read_fleet(
    known: dict[str, Any] | None,
    routing_seconds: float,
    tables: Sequence[dict[str, pa.Table]],
    rows_of: dict[int, int],
) -> FleetRecord | None:
    """Return the fleet that the files of a run hold; None if it had none.

    Args:
        known: What the metadata say, as `fleet_facts` returned it.
        routing_seconds: See `FleetRecord`.
        tables: The rows of each file, by kind.
        rows_of: Rows of the requests by number; moves of others are left out.

    Raises:
        ValueError: If rows contradict one another.
    """
    if known is None:
        return None
    fleet = FleetRecord(**known, routing_seconds=routing_seconds)
    for table in tables:
        fleet.units += [UnitRow(**row) for row in _read(table["replica"], "replica")]
        fleet.events += [FleetEvent(**row) for row in _read(table["event"], "event")]
        for row in _read(table["move"], "move"):
            if row["request"] in rows_of:
                fleet.moves.append(MoveRow(**{**row, "request": rows_of[row["request"]]}))
    _check(fleet)
    return fleet


def _check(fleet: FleetRecord) -> None:
    """Refuse a fleet whose rows name replicas that it lacks, or end before they begin."""
    replicas = len(fleet.units)
    for place, unit in enumerate(fleet.units):
        if unit.index != place:
            raise ValueError(f"row {place} of its replicas is that of replica {unit.index}")
        if not 0 <= unit.asked <= unit.ended or unit.up > unit.ended or unit.gpus < 1:
            raise ValueError(f"replica {place} has impossible times or GPUs")
    for move in fleet.moves:
        if not (0 <= move.source < replicas and 0 <= move.target < replicas):
            raise ValueError(
                f"a move from replica {move.source} to {move.target}, but there are {replicas}"
            )
        if not 0 <= move.began <= move.ended:
            raise ValueError(f"a move of replica {move.source} ends before it begins")
    for event in fleet.events:
        if event.time < 0 or not -1 <= event.replica < replicas:
            raise ValueError(f"an event of replica {event.replica}, but there are {replicas}")


def _read(table: pa.Table, kind: str) -> list[dict[str, Any]]:
    """Return the fields of each row of a kind."""
    columns = []
    for field in fields(FLEET_TABLES[kind]):
        values = table[COLUMNS[kind][field.name]].to_pylist()
        columns.append([-1 if value is None else value for value in values])
    names = [field.name for field in fields(FLEET_TABLES[kind])]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
