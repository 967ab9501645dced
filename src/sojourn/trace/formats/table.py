"""Our own schema as CSV: everything but block ids, with the column names of the Parquet form."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pyarrow as pa

from sojourn.errors import UserError
from sojourn.trace.formats.schema import trace_of_table
from sojourn.trace.formats.text import csv_header, csv_place, read_csv, trace_name
from sojourn.trace.model import Trace
from sojourn.trace.spellings import own_columns

_TYPING: Final = {
    "arrival_s": pa.float64(),
    "prompt_tokens": pa.int64(),
    "output_tokens": pa.int64(),
    "turn": pa.int64(),
    "tool_s": pa.float64(),
}


def read(path: Path, limit: int | None = None) -> Trace:
    """Return the trace in a CSV file of our schema, or in its first `limit` rows.

    Raises:
        UserError: If a column is missing or a row breaks a rule of the schema.
    """
    header = csv_header(path)
    if not any(character.isalpha() for name in header for character in name):
        raise UserError(
            f"{path}: line 1 names no columns; it must, like arrival_s,prompt_tokens,output_tokens"
        )
    given = own_columns(str(path), header)
    # A column without a unit may hold dates and times, which stay text until they are read.
    typing = {
        column.name: _TYPING[ours]
        for ours, column in given.items()
        if ours in _TYPING and column.per_second is not None
    }
    table = read_csv(path, (), [typing], limit)
    if limit is not None:
        table = table.slice(0, limit)
    return trace_of_table(trace_name(path), csv_place(path), table, 0)
