"""Reads a run record from the Parquet file, or the rotated files, that hold its step log."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sojourn.errors import UserError, shown
from sojourn.steplog.fleet_table import FLEET_TABLES, read_fleet
from sojourn.steplog.record import (
    DifferenceColumns,
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
    NUMBER,
    PREFIX,
    SCHEMA,
    TABLES,
    TIMING,
    Source,
    column_name,
    columns_of,
    names_of,
)

if TYPE_CHECKING:
    import pyarrow as pa

FAMILY: Final = "sojourn/steplog/"
SCHEMAS: Final = ("sojourn/steplog/1", "sojourn/steplog/2", SCHEMA)
"""Schemas that can be read; what the older lack is read as -1, or as the record's default."""

Paths = str | Path | Sequence[str | Path]


@dataclass(slots=True)
class _File:
    """One file: its rows of each kind if they were asked for, its metadata and measurements."""

    path: Path
    rows: dict[str, pa.Table]
    known: dict[str, Any]
    timing: dict[str, Any]


def read_steplog(paths: Paths) -> RunRecord:
    """Return the record in a step log: one file, several of one run, or a folder of them.

    A record that one file holds is returned exactly as it was written. Of several, requests come
    in order of their numbers, and state changes of requests that have no row are left out; where
    files before the last are missing or rows could not be written, the record's notes say so
    (`files_missing`, `rows_lost`).

    Raises:
        UserError: If a file cannot be read, is not a step log, or is of another run.
    """
    files = _files(paths)
    with _damage(files):
        return _record(files)


def read_source(paths: Paths) -> Source:
    """Return what the run of a step log ran on.

    Raises:
        UserError: As `read_steplog` does.
    """
    files = _files(paths, with_rows=False)
    with _damage(files):
        known = files[-1].known
        return Source(**{name: known[name] for name in ("trace", "model", "gpu", "seed", "limits")})


@contextmanager
def _damage(files: Sequence[_File]) -> Iterator[None]:
    """Turn what goes wrong in reading rows and metadata into a sentence about the file."""
    import pyarrow as pa

    try:
        yield
    except (KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise UserError(
            f"{str(files[-1].path)!r} is a damaged step log ({shown(str(error))}); write it again"
        ) from error


def _record(files: Sequence[_File]) -> RunRecord:
    known, timing = files[-1].known, files[-1].timing
    record = RunRecord(
        recipe=known["recipe"],
        load=known["load"],
        rate_scale=known["rate_scale"],
        deployable=known["deployable"],
        complete=known["complete"],
        kv_blocks=known["kv_blocks"],
        requests=RequestColumns(**dict.fromkeys(columns_of("request"), np.empty(0, np.int64))),
        steps=StepColumns(**_columns(files, "run", {})),
        transitions=None,
        tenants=tuple(known["tenants"]),
        classes=tuple(SloClass(**one) for one in known["classes"]),
        reasons=tuple(known["reasons"]),
        states=tuple(known["states"]),
        decisions=known["decisions"],
        decision_seconds=timing.get("decision_seconds", 0.0),
        wall_seconds=timing.get("wall_seconds", 0.0),
        notes=known["notes"] | _gaps(files),
        block_tokens=known.get("block_tokens", 0),
        host=known.get("host", "simulator"),
        engine=known.get("engine", ""),
        started_unix_seconds=known.get("started_unix_seconds"),
        recorder_seconds=timing.get("recorder_seconds", 0.0),
    )
    _add_requests(record, files)
    return record


def _add_requests(record: RunRecord, files: Sequence[_File]) -> None:
    """Read the rows of requests, and the rows that name requests."""
    names = {field: names_of(record)[kind] for field, kind in NAMED.items()}
    columns = _columns(files, "request", names)
    numbers = _numbers(files)
    order = np.argsort(numbers, kind="stable")
    record.requests = RequestColumns(**{name: found[order] for name, found in columns.items()})
    if record.block_tokens:
        lists = [
            tuple(ids or ()) for file in files for ids in file.rows["request"][PREFIX].to_pylist()
        ]
        record.prefix = [lists[row] for row in order.tolist()]
    numbers = numbers[order]
    record.fleet = read_fleet(
        files[-1].known.get("fleet"),
        files[-1].timing.get("routing_seconds", 0.0),
        [file.rows for file in files],
        {number: row for row, number in enumerate(numbers.tolist())},
    )
    if record.fleet is not None:
        named = max((int(column.max(initial=-1)) for column in _replicas(record)), default=-1)
        if named >= len(record.fleet.units):
            raise ValueError(f"rows of replica {named}, but there are {len(record.fleet.units)}")
    if any(file.known["traced"] for file in files):
        states = _columns(files, "state", names)
        record.transitions = TransitionColumns(**_placed(states, numbers))
    if any(file.known.get("shadowed") for file in files):
        differences = _columns(files, "difference", names)
        record.differences = DifferenceColumns(**_placed(differences, numbers))


def _replicas(record: RunRecord) -> tuple[IntArray, IntArray]:
    return record.requests.replica, record.steps.replica


def _numbers(files: Sequence[_File]) -> IntArray:
    """Return the numbers of the request rows; of the first schema, their places."""
    found = _read_column(files, "request", NUMBER, None)
    return np.arange(found.size) if (found < 0).any() else found


def _placed(columns: Mapping[str, IntArray], numbers: IntArray) -> dict[str, IntArray]:
    """Return columns with requests' rows in place of numbers, less requests without a row."""
    named = columns[NUMBER]
    rows = np.searchsorted(numbers, named)
    there = rows < numbers.size
    there[there] = numbers[rows[there]] == named[there]
    return {
        name: rows[there] if name == NUMBER else column[there] for name, column in columns.items()
    }


def _files(paths: Paths, with_rows: bool = True) -> list[_File]:
    """Return the files in order of their parts; all must be of one run."""
    files = [_read(path, with_rows) for path in steplog_files(paths)]
    if len(files) == 1:
        return files
    runs: dict[str, list[str]] = {}
    for file in files:  # one without a run's name is a run of its own
        runs.setdefault(file.known.get("run") or str(file.path), []).append(str(file.path))
    if len(runs) > 1:
        told = ", ".join(f"{m[0]} to {m[-1]}" if m[1:] else m[0] for m in runs.values())
        raise UserError(
            f"these are step logs of {len(runs)} runs ({told}); give the files of one run"
        )
    files.sort(key=lambda file: file.known["part"])
    for before, after in pairwise(files):
        if before.known["part"] == after.known["part"]:
            raise UserError(
                f"{str(before.path)!r} and {str(after.path)!r} hold the same part of a step log; "
                "give one of them"
            )
    return files


def steplog_files(paths: Paths) -> list[Path]:
    """Return the files given, with folders replaced by the Parquet files in them.

    Raises:
        UserError: If there is none.
    """
    given = [paths] if isinstance(paths, str | Path) else paths
    if not given:
        raise UserError("no step log is given; name a file, or the folder that holds its files")
    found: list[Path] = []
    for path in map(Path, given):
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(one for one in path.glob("*.parquet") if not one.name.startswith("."))
        if not inside:
            raise UserError(f"{str(path)!r} holds no step log: no file there ends in .parquet")
        found += inside
    return list(dict.fromkeys(found))


def _gaps(files: Sequence[_File]) -> dict[str, Any]:
    """Return notes on what the files of a run lack."""
    last = files[-1].known
    missing = 0 if last.get("part") is None else last["part"] - len(files)
    lost = last.get("rows_lost", 0)
    notes = {"files_missing": missing, "rows_lost": lost}
    return {name: count for name, count in notes.items() if count}


def _read(path: Path, with_rows: bool) -> _File:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            metadata = file.schema_arrow.metadata or {}
            table = file.read() if with_rows else None
    except (OSError, pa.ArrowInvalid) as error:
        reason = str(error).splitlines()[0] if path.exists() else "there is no such file or folder"
        raise UserError(f"cannot read {str(path)!r} as Parquet: {reason}") from error
    known, timing = _json(metadata.get(METADATA)), _json(metadata.get(TIMING))
    schema = known.get("schema")
    if schema not in SCHEMAS or (table is not None and "kind" not in table.column_names):
        if str(schema).startswith(FAMILY) and schema not in SCHEMAS:
            raise UserError(
                f"{str(path)!r} is a step log of schema {schema!r}, which this version of Sojourn "
                f"cannot read; it reads {', '.join(SCHEMAS[:-1])} and {SCHEMAS[-1]}"
            )
        raise UserError(
            f"{str(path)!r} is not a step log: its metadata lack the schema {SCHEMA!r}; "
            "`sojourn simulate --step-log` writes one"
        )
    rows = {}
    if table is not None:
        kinds = table["kind"].cast("string")
        rows = {kind: table.filter(pc.equal(kinds, kind)) for kind in (*TABLES, *FLEET_TABLES)}
    return _File(path, rows, known, timing)


def _json(text: bytes | None) -> dict[str, Any]:
    """Return a table of the metadata; an empty one if there is none."""
    try:
        found = json.loads(text or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _columns(files: Sequence[_File], kind: str, names: dict[str, Any]) -> dict[str, IntArray]:
    """Return the columns of the rows of one kind; nulls become -1 and names their index."""
    return {name: _read_column(files, kind, name, names.get(name)) for name in columns_of(kind)}


def _read_column(
    files: Sequence[_File], kind: str, name: str, names: Sequence[str] | None
) -> IntArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    found = []
    for file in files:
        rows = file.rows[kind]
        if column_name(name) not in rows.column_names:
            found.append(np.full(rows.num_rows, -1, dtype=np.int64))
            continue
        column = rows[column_name(name)]
        if names is not None:
            texts = pa.array(list(names), pa.string())
            column = pc.index_in(column.cast("string"), value_set=texts, skip_nulls=True)
        found.append(pc.fill_null(column, -1).to_numpy().astype(np.int64))
    return np.ascontiguousarray(np.concatenate(found), dtype=np.int64)
