"""Writes a run record as one Parquet file that any data-frame library can read.

Schema `sojourn/steplog/3`: one row for each thing, told apart by `kind`:

- `run`: identical steps in a row (`StepColumns`);
- `state`: a request entering a state (`TransitionColumns`), only from a traced run;
- `difference`: what a recipe in shadow mode would have done otherwise (`DifferenceColumns`);
- `request`: what became of a request (`RequestColumns`), in rows of the workload; `request` is
  its number, which rows of the kinds before carry too, and `prefix` the ids of its prompt's blocks;
- `replica`, `move`, `event`: the lives of a fleet's replicas, requests that changed replicas, and
  what happened to replicas (`steplog.fleet`).

Columns that a kind does not have are null, and so is what did not happen. Times are int64
picoseconds and end in `_ps`. The file's metadata holds JSON under `sojourn`: the schema's name,
the recipe, what it ran on, and the tables of names; and under `sojourn.timing` the wall-clock
measurements, which are all that differs between two runs of the same input.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import accumulate, chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sojourn.files import replacing
from sojourn.steplog.fleet_table import fleet_facts, fleet_table
from sojourn.steplog.record import (
    DIFFERENCES,
    OUTCOMES,
    DifferenceColumns,
    IntArray,
    RequestColumns,
    RunRecord,
    StepColumns,
    TransitionColumns,
)

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA: Final = "sojourn/steplog/3"
METADATA: Final = b"sojourn"
TIMING: Final = b"sojourn.timing"
TABLES: Final = {
    "run": StepColumns,
    "state": TransitionColumns,
    "difference": DifferenceColumns,
    "request": RequestColumns,
}
"""Kinds of rows, in the file's order, and the columns that they fill; a fleet's come after."""

NUMBER: Final = "request"
"""The column of a request's number; in a record the place of its row stands for it."""

PREFIX: Final = "prefix"
SIGNED: Final = "priority"
"""The column that may hold any number; elsewhere a negative one stands for none."""

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
    "difference": "differences",
}
"""Fields that index a table of names, and the table; the file holds the names themselves."""

Columns = StepColumns | TransitionColumns | DifferenceColumns | RequestColumns


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


@dataclass(frozen=True, slots=True, eq=False)
class Lists:
    """Lists of numbers, one after another.

    Attributes:
        ends: Where each list ends and the next begins, with a 0 before all.
        values: All their numbers.
    """

    ends: IntArray
    values: IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Which part of a run a file holds, where a run is written to several.

    Attributes:
        run: A text that only files of the same run share.
        number: Place among the run's files, from 1.
        requests: Numbers of the requests, for each of the record's rows of them; the other rows
            carry numbers too, since a request's row is in the file of the time that it ended.
        prefix: Prefix ids of the requests, in place of the record's; None if unknown.
        rows_lost: Rows of the run that could not be written so far.
    """

    run: str
    number: int
    requests: IntArray
    prefix: Lists | None
    rows_lost: int = 0


def column_name(field: str) -> str:
    """Return the name of a field's column in the file."""
    return f"{field}_ps" if field in TIMES else field


def columns_of(kind: str) -> tuple[str, ...]:
    """Return the record's fields that rows of a kind fill."""
    return tuple(field.name for field in fields(TABLES[kind]))


def all_columns() -> tuple[str, ...]:
    """Return the fields of all kinds in the order of the file's columns."""
    return tuple(dict.fromkeys(name for kind in TABLES for name in columns_of(kind)))


def names_of(record: RunRecord) -> dict[str, Sequence[str]]:
    """Return the tables of names that the fields of `NAMED` index."""
    return {
        "outcomes": OUTCOMES,
        "reasons": record.reasons,
        "tenants": record.tenants,
        "classes": [one.name for one in record.classes],
        "states": record.states,
        "differences": DIFFERENCES,
    }


def write_steplog(path: str | Path, record: RunRecord, source: Source) -> None:
    """Write a record to a Parquet file that appears whole or not at all.

    Raises:
        UserError: If the file cannot be written.
    """
    write_table(path, table_of(record, source))


def write_table(path: str | Path, table: pa.Table) -> None:
    """Write a table of the file's schema to a file that appears whole or not at all.

    Raises:
        UserError: If the file cannot be written.
    """
    import pyarrow.parquet as pq

    with replacing(path) as part:
        pq.write_table(table, part, compression="zstd")


def table_of(record: RunRecord, source: Source, part: Part | None = None) -> pa.Table:
    """Return a record, or a part of one, as a table of the file's schema."""
    import pyarrow as pa

    parts: dict[str, Columns | None] = {
        "run": record.steps,
        "state": record.transitions,
        "difference": record.differences,
        "request": record.requests,
    }
    sizes = {kind: _size(rows) for kind, rows in parts.items()}
    numbers = np.arange(sizes["request"]) if part is None else part.requests
    names = names_of(record)
    kinds = np.repeat(np.arange(len(TABLES)), [sizes[kind] for kind in TABLES])
    made = {"kind": _named(kinds, tuple(TABLES))}
    for name in all_columns():
        joined = np.concatenate(
            [
                numbers
                if (kind, name) == ("request", NUMBER)
                else getattr(rows, name, np.full(sizes[kind], -1, dtype=np.int64))
                for kind, rows in parts.items()
            ]
        )
        if name in NAMED:
            made[name] = _named(joined, names[NAMED[name]])
        else:
            missing = kinds != list(TABLES).index("request") if name == SIGNED else joined < 0
            made[column_name(name)] = pa.array(joined, mask=missing)
    lists = _lists(record.prefix) if part is None else part.prefix
    made[PREFIX] = _list_column(lists, sum(sizes.values()), sizes["request"])
    fleet = fleet_table(record.fleet, None if part is None else numbers.tolist())
    whole = pa.concat_tables([pa.table(made), fleet], promote_options="default")
    return whole.unify_dictionaries().replace_schema_metadata(_metadata(record, source, part))


def _size(rows: Columns | None) -> int:
    if rows is None:
        return 0
    first: IntArray = getattr(rows, fields(rows)[0].name)
    return int(first.size)


def _named(index: IntArray, names: Sequence[str]) -> Any:
    """Return a column of names; -1 becomes null."""
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(
        pa.array(index.astype(np.int32), mask=index < 0), pa.array(list(names), pa.string())
    )


def _lists(prefix: Sequence[Sequence[int]] | None) -> Lists | None:
    if prefix is None:
        return None
    ends = np.array(list(accumulate(map(len, prefix), initial=0)), dtype=np.int64)
    return Lists(ends, np.fromiter(chain.from_iterable(prefix), np.int64, count=int(ends[-1])))


def _list_column(lists: Lists | None, rows: int, requests: int) -> Any:
    """Return the column of prefix ids: null but for the requests, which come last."""
    import pyarrow as pa

    kind = pa.list_(pa.int64())
    if lists is None:
        return pa.nulls(rows, kind)
    assert len(lists.ends) == requests + 1, "ids of each request or of none"
    column = pa.ListArray.from_arrays(pa.array(lists.ends, pa.int32()), pa.array(lists.values))
    return pa.chunked_array([pa.nulls(rows - requests, kind), column.cast(kind)])


def _metadata(record: RunRecord, source: Source, part: Part | None) -> dict[bytes, bytes]:
    known = {
        "schema": SCHEMA,
        "host": record.host,
        "engine": record.engine,
        "started_unix_seconds": record.started_unix_seconds,
        "run": None if part is None else part.run,
        "part": None if part is None else part.number,
        "rows_lost": 0 if part is None else part.rows_lost,
        "recipe": record.recipe,
        "load": record.load,
        "rate_scale": record.rate_scale,
        "deployable": record.deployable,
        "complete": record.complete,
        "traced": record.transitions is not None,
        "shadowed": record.differences is not None,
        "kv_blocks": record.kv_blocks,
        "block_tokens": record.block_tokens,
        "decisions": record.decisions,
        **asdict(source),
        "limits": dict(source.limits),
        "reasons": list(record.reasons),
        "tenants": list(record.tenants),
        "classes": [asdict(one) for one in record.classes],
        "states": list(record.states),
        "notes": record.notes,
        "fleet": fleet_facts(record.fleet),
    }
    timing = {
        "decision_seconds": record.decision_seconds,
        "wall_seconds": record.wall_seconds,
        "recorder_seconds": record.recorder_seconds,
        "routing_seconds": 0.0 if record.fleet is None else record.fleet.routing_seconds,
    }
    return {METADATA: _json(known), TIMING: _json(timing)}


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
