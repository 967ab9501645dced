"""Reads a run record from the Parquet file that `sojourn.steplog.write` writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sojourn.errors import UserError
from sojourn.steplog.record import (
    IntArray,
    RequestColumns,
    RunRecord,
    SloClass,
    StepColumns,
    TransitionColumns,
)
from sojourn.steplog.write import (
    METADATA,
    NAMED,
    SCHEMA,
    TIMING,
    Source,
    column_name,
    columns_of,
    names_of,
)

if TYPE_CHECKING:
    import pyarrow as pa


def read_steplog(path: str | Path) -> RunRecord:
    """Return the record in a step log, exactly as it was written.

    Raises:
        UserError: If the file cannot be read or is not a step log of this schema.
    """
    table, known, timing = _read(path)
    record = RunRecord(
        recipe=known["recipe"],
        load=known["load"],
        rate_scale=known["rate_scale"],
        deployable=known["deployable"],
        complete=known["complete"],
        kv_blocks=known["kv_blocks"],
        requests=RequestColumns(**dict.fromkeys(columns_of("request"), np.empty(0, np.int64))),
        steps=StepColumns(**_columns(table, "run", {})),
        transitions=None,
        tenants=tuple(known["tenants"]),
        classes=tuple(SloClass(**one) for one in known["classes"]),
        reasons=tuple(known["reasons"]),
        states=tuple(known["states"]),
        decisions=known["decisions"],
        decision_seconds=timing["decision_seconds"],
        wall_seconds=timing["wall_seconds"],
        notes=known["notes"],
    )
    names = {field: names_of(record)[kind] for field, kind in NAMED.items()}
    record.requests = RequestColumns(**_columns(table, "request", names))
    if known["traced"]:
        record.transitions = TransitionColumns(**_columns(table, "state", names))
    return record


def read_source(path: str | Path) -> Source:
    """Return what the run of a step log ran on."""
    known = _read(path)[1]
    return Source(**{name: known[name] for name in ("trace", "model", "gpu", "seed", "limits")})


def _read(path: str | Path) -> tuple[pa.Table, dict[str, Any], dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"cannot read {str(path)!r} as Parquet: {reason}") from error
    metadata = table.schema.metadata or {}
    known = json.loads(metadata.get(METADATA, b"{}"))
    if known.get("schema") != SCHEMA:
        raise UserError(
            f"{str(path)!r} is not a step log: its metadata lack the schema {SCHEMA!r}; "
            "`sojourn simulate --step-log` writes one"
        )
    return table, known, json.loads(metadata[TIMING])


def _columns(table: pa.Table, kind: str, names: dict[str, Any]) -> dict[str, IntArray]:
    """Return the columns of the rows of one kind; nulls become -1 and names their index."""
    import pyarrow.compute as pc

    mine = table.filter(pc.equal(table["kind"].cast("string"), kind))
    found = {}
    for name in columns_of(kind):
        column = mine[column_name(name)]
        if name in names:
            texts = column.cast("string")
            column = pc.index_in(texts, value_set=_texts(names[name]), skip_nulls=True)
        filled = pc.fill_null(column, -1).to_numpy()
        found[name] = np.ascontiguousarray(filled, dtype=np.int64)
    return found


def _texts(names: Any) -> pa.Array:
    import pyarrow as pa

    return pa.array(list(names), pa.string())
