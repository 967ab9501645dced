"""Writes a run record as one Parquet file that any data-frame library can read.

Schema `sojourn/steplog/1`: one row for each thing, told apart by `kind`:

- `run`: identical steps in a row (`StepColumns`);
- `state`: a request entering a state (`TransitionColumns`), only from a traced run;
- `request`: what became of a request (`RequestColumns`), in rows of the workload.

Columns that a kind does not have are null, and so is what did not happen. Times are int64
picoseconds and end in `_ps`. The file's metadata holds JSON under `sojourn`: the schema's name,
the recipe, what it ran on, and the tables of names; and under `sojourn.timing` the wall-clock
measurements, which are all that differs between two runs of the same input.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sojourn.errors import UserError
from sojourn.steplog.record import (
    OUTCOMES,
    IntArray,
    RequestColumns,
    RunRecord,
    StepColumns,
    TransitionColumns,
)

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA: Final = "sojourn/steplog/1"
METADATA: Final = b"sojourn"
TIMING: Final = b"sojourn.timing"
KINDS: Final = ("run", "state", "request")
TIMES: Final = frozenset(
    {"start", "duration", "time", "arrival", "admitted", "first_token", "finish", "gap"}
)
"""Fields of the record that are times."""

NAMED: Final = {
    "outcome": "outcomes",
    "reason": "reasons",
    "tenant": "tenants",
    "slo_class": "classes",
    "state": "states",
}
"""Fields that index a table of names, and the table; the file holds the names themselves."""


@dataclass(frozen=True, slots=True)
class Source:
    """What a run ran on, for the file's metadata.

    Attributes:
        trace: Name of the trace.
        model: Name of the model.
        gpu: Name of the GPU.
        seed: Seed of the run.
        limits: The resolved engine limits, by name; JSON values.
    """

    trace: str
    model: str
    gpu: str
    seed: int
    limits: Mapping[str, Any]


def column_name(field: str) -> str:
    """Return the name of a field's column in the file."""
    return f"{field}_ps" if field in TIMES else field


def columns_of(kind: str) -> tuple[str, ...]:
    """Return the record's fields that rows of a kind fill."""
    table = {"run": StepColumns, "state": TransitionColumns, "request": RequestColumns}[kind]
    return tuple(field.name for field in fields(table))


def all_columns() -> tuple[str, ...]:
    """Return the fields of all kinds in the order of the file's columns."""
    return tuple(dict.fromkeys(name for kind in KINDS for name in columns_of(kind)))


def names_of(record: RunRecord) -> dict[str, Sequence[str]]:
    """Return the tables of names that the fields of `NAMED` index."""
    return {
        "outcomes": OUTCOMES,
        "reasons": record.reasons,
        "tenants": record.tenants,
        "classes": [one.name for one in record.classes],
        "states": record.states,
    }


def write_steplog(path: str | Path, record: RunRecord, source: Source) -> None:
    """Write a record to a Parquet file that appears whole or not at all.

    Raises:
        UserError: If the file cannot be written.
    """
    import pyarrow.parquet as pq

    target = Path(path)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        try:
            pq.write_table(table_of(record, source), part, compression="zstd")
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {str(path)!r}: {error.strerror or error}") from error


def table_of(record: RunRecord, source: Source) -> pa.Table:
    """Return a record as a table of the file's schema."""
    import pyarrow as pa

    parts = {"run": record.steps, "state": record.transitions, "request": record.requests}
    sizes = {kind: _size(part) for kind, part in parts.items()}
    names = names_of(record)
    kinds = np.repeat(np.arange(len(KINDS)), [sizes[kind] for kind in KINDS])
    made = {"kind": _named(kinds, KINDS)}
    for name in all_columns():
        joined = np.concatenate(
            [
                getattr(part, name, None)
                if part is not None and name in columns_of(kind)
                else np.full(sizes[kind], -1, dtype=np.int64)
                for kind, part in parts.items()
            ]
        )
        if name in NAMED:
            made[name] = _named(joined, names[NAMED[name]])
        else:
            made[column_name(name)] = pa.array(joined, mask=joined < 0)
    return pa.table(made).replace_schema_metadata(_metadata(record, source))


def _size(part: StepColumns | TransitionColumns | RequestColumns | None) -> int:
    if part is None:
        return 0
    column: IntArray = part.replica
    return int(column.size)


def _named(index: IntArray, names: Sequence[str]) -> Any:
    """Return a column of names; -1 becomes null."""
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(
        pa.array(index.astype(np.int32), mask=index < 0), pa.array(list(names), pa.string())
    )


def _metadata(record: RunRecord, source: Source) -> dict[bytes, bytes]:
    known = {
        "schema": SCHEMA,
        "recipe": record.recipe,
        "load": record.load,
        "rate_scale": record.rate_scale,
        "deployable": record.deployable,
        "complete": record.complete,
        "traced": record.transitions is not None,
        "kv_blocks": record.kv_blocks,
        "decisions": record.decisions,
        **asdict(source),
        "limits": dict(source.limits),
        "reasons": list(record.reasons),
        "tenants": list(record.tenants),
        "classes": [asdict(one) for one in record.classes],
        "states": list(record.states),
        "notes": record.notes,
    }
    timing = {
        "decision_seconds": record.decision_seconds,
        "wall_seconds": record.wall_seconds,
    }
    return {METADATA: _json(known), TIMING: _json(timing)}


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
