"""What the text formats share: opening, streaming CSV with types, and JSON by lines."""

from __future__ import annotations

import io
import json
import re
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.json as pajson

from sojourn.errors import UserError
from sojourn.trace.checks import Place
from sojourn.trace.spellings import missing_hint, require_columns

_SUFFIXES: Final = (
    *(".gz", ".bz2", ".zst", ".parquet", ".pq", ".csv", ".tsv", ".jsonl", ".json", ".blocks"),
)
_DELIMITERS: Final = (",", ";", "\t")
_JSON_BLOCK_BYTES: Final = 16 << 20
_FIELDS: Final = re.compile(
    r"CSV parse error: (?:Row #(\d+): )?Expected (\d+) columns, got (\d+): (.*)", re.DOTALL
)
"""What Arrow says of a row that has too few or too many fields."""


def trace_name(path: Path) -> str:
    """Return the file's name without the endings that say how it is written."""
    name = path.name
    while (ending := Path(name).suffix).lower() in _SUFFIXES and ending != name:
        name = name[: -len(ending)]
    return name


def lines_of(path: Path) -> Iterator[bytes]:
    """Yield the file's lines, decompressed by its ending."""
    with pa.input_stream(str(path)) as stream:
        yield from io.BufferedReader(stream)


def csv_header(path: Path) -> tuple[str, ...]:
    """Return the names in the first line of a CSV file, trimmed.

    Raises:
        UserError: If the file is no text.
    """
    first, delimiter = _first_line(path)
    return tuple(name.strip().strip('"') for name in first.strip("\r\n").split(delimiter))


def _first_line(path: Path) -> tuple[str, str]:
    """Return the header of a CSV file, and which of comma, semicolon and tab it has most of."""
    try:
        first = next(lines_of(path), b"").decode("utf-8-sig")
    except (UnicodeDecodeError, pa.ArrowException, OSError):
        raise UserError(f"{path}: not a text file, so neither CSV nor JSON") from None
    return first, max(_DELIMITERS, key=first.count)


def csv_place(path: Path, columns: tuple[tuple[str, str], ...] = ()) -> Place:
    """Return how to name a CSV file and the lines of its rows."""
    return Place(str(path), "line", columns=columns, line_of=partial(line_of_row, path))


def line_of_row(path: Path, row: int) -> int:
    """Return the line of a CSV file's row; both count from 1, and empty lines are no rows."""
    rows = 0
    for number, line in enumerate(lines_of(path), start=1):
        rows += number > 1 and bool(line.strip(b"\r\n"))
        if rows == row:
            return number
    raise AssertionError(f"{path} has {rows} rows, not {row}")


def read_csv(
    path: Path,
    required: Sequence[str],
    typings: Sequence[dict[str, pa.DataType]],
    limit: int | None,
    count_kept: Callable[[pa.RecordBatch], int] = len,
) -> pa.Table:
    """Return the rows of a CSV file until `limit` of them are kept, by the first typing that fits.

    When none fits, all columns come back as strings, so that the caller can name the value that
    does not. `count_kept` says how many rows of a batch count towards `limit`.

    Raises:
        UserError: If a required column is missing or a row has the wrong number of fields.
    """
    header = csv_header(path)
    require_columns(str(path), header, required)
    for typing in typings:
        try:
            return _stream_csv(path, header, typing, limit, count_kept)
        except pa.ArrowInvalid:
            continue
    try:
        return _stream_csv(path, header, {}, limit, count_kept)
    except pa.ArrowInvalid as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(f"{path}: not readable as CSV ({reason})") from None


def _stream_csv(
    path: Path,
    header: Sequence[str],
    typing: dict[str, pa.DataType],
    limit: int | None,
    count_kept: Callable[[pa.RecordBatch], int],
) -> pa.Table:
    """Return the rows of a CSV file with the types given.

    No Python object goes into Arrow's reader: a thread of its own may drop it last, which aborts a
    process that is ending. Rows that do not fit are found by the words of the error instead.
    """
    types = {name: typing.get(name, pa.string()) for name in header}
    try:
        batches, kept = [], 0
        with pacsv.open_csv(
            str(path),
            read_options=pacsv.ReadOptions(
                use_threads=False, column_names=list(header), skip_rows=1
            ),
            parse_options=pacsv.ParseOptions(delimiter=_first_line(path)[1]),
            convert_options=pacsv.ConvertOptions(
                column_types=types,
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        ) as stream:
            schema = stream.schema
            for batch in stream:
                batches.append(batch)
                kept += count_kept(batch)
                if limit is not None and kept >= limit:
                    break
    except pa.ArrowInvalid as error:
        if "Empty CSV file" in str(error):
            raise UserError(f"{path}: no requests in it") from None
        broken = _FIELDS.match(str(error))
        if not broken:
            raise
        number, expected, found, text = broken.groups()
        where = f"the line {text[:40]!r}"
        if number:  # counts the header, but no empty line
            where = f"line {line_of_row(path, int(number) - 1)}"
        raise UserError(
            f"{path}: {where}: {found} fields, but the header names {expected}"
        ) from None
    return pa.Table.from_batches(batches, schema)


def first_object(path: Path) -> dict[str, Any]:
    """Return the object in the first line of a JSON-lines file; empty when there is none."""
    try:
        first = next((line for line in lines_of(path) if line.strip()), b"")
        record = json.loads(first.removeprefix(BOM_UTF8))
    except (ValueError, RecursionError, pa.ArrowException, OSError):
        return {}
    return record if isinstance(record, dict) else {}


def read_json_lines(
    path: Path, fields: dict[str, pa.DataType], required: Sequence[str], limit: int | None
) -> tuple[pa.Table, Place]:
    """Return the named fields of a JSON-lines file as a table, and how to name its lines.

    Fields that no line has are left out of the table.

    Raises:
        UserError: If a line is not a JSON object, lacks a required field, or has a value of the
            wrong kind.
    """
    numbers, kept = [], []
    try:
        for number, line in enumerate(islice(lines_of(path), limit), start=1):
            text = line.removeprefix(BOM_UTF8).strip() if number == 1 else line.strip()
            if text:
                numbers.append(number)
                kept.append(text + b"\n")
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from None
    if not kept:
        raise UserError(f"{path}: no requests in it")
    place = Place(str(path), "line", np.asarray(numbers, dtype=np.int64))
    try:
        # Arrow's parser takes other values for objects, and crashes where one comes first.
        if not all(line.startswith(b"{") and line.endswith(b"}\n") for line in kept):
            raise pa.ArrowInvalid("a line is not one object")
        table = pajson.read_json(
            pa.BufferReader(b"".join(kept)),
            read_options=pajson.ReadOptions(use_threads=False, block_size=_JSON_BLOCK_BYTES),
            parse_options=pajson.ParseOptions(
                explicit_schema=pa.schema(list(fields.items())),
                unexpected_field_behavior="ignore",
            ),
        )
        if len(table) != len(kept):
            raise pa.ArrowInvalid("objects and lines differ in number")
    except pa.ArrowInvalid as error:
        raise _broken_line(place, kept, fields, str(error)) from None
    for name in required:
        if table[name].null_count:
            row = int(np.flatnonzero(table[name].is_null().to_numpy())[0])
            raise _missing_fields(place, row, kept[row], required)
    absent = [name for name in fields if table[name].null_count == len(table)]
    return table.drop_columns(absent), place


def _missing_fields(place: Place, row: int, line: bytes, required: Sequence[str]) -> UserError:
    """Return the error for an object that lacks a required field."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return place.fail(row, "an object that cannot be read")
    missing = [name for name in required if record.get(name) is None]
    word = "field" if len(missing) == 1 else "fields"
    return place.fail(
        row,
        f"missing {word} {', '.join(missing)}; found: {', '.join(record) or 'none'}"
        f"{missing_hint(record, missing)}",
    )


def _broken_line(
    place: Place, lines: Sequence[bytes], fields: dict[str, pa.DataType], reason: str
) -> UserError:
    """Return the error for the first line that Arrow could not take."""
    for row, line in enumerate(lines):
        try:
            record: Any = json.loads(line)
        except RecursionError:
            return place.fail(row, "not valid JSON (nested too deeply)")
        except ValueError as error:
            said = "a number of too many digits"
            if isinstance(error, json.JSONDecodeError):
                said = error.msg
            elif isinstance(error, UnicodeDecodeError):
                said = "not UTF-8"
            return place.fail(row, f"not valid JSON ({said})")
        if not isinstance(record, dict):
            return place.fail(row, "it must be a JSON object")
        for name, kind in fields.items():
            value = record.get(name)
            if value is not None and not _fits(value, kind):
                said = "text, as in the first line" if pa.types.is_string(kind) else "a number"
                if pa.types.is_list(kind):
                    said = "a list of whole numbers below 2**63"
                shown = json.dumps(value)
                shown = shown if len(shown) <= 40 else shown[:37] + "..."
                return place.fail(row, f"{name} is {shown}; it must be {said}")
    return UserError(f"{place.source}: not readable as JSON lines ({reason.splitlines()[0]})")


def _fits(value: object, kind: pa.DataType) -> bool:
    if pa.types.is_list(kind):
        return isinstance(value, list) and all(
            type(item) is int and -(2**63) <= item < 2**63 for item in value
        )
    if pa.types.is_string(kind):
        return isinstance(value, str)
    return isinstance(value, int | float) and not isinstance(value, bool)
