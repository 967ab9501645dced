"""Our own schema as CSV: everything but block ids, with the column names of the Parquet form."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from sojourn.trace.checks import Place
from sojourn.trace.formats.schema import REQUIRED, trace_of_table
from sojourn.trace.formats.text import read_csv, trace_name
from sojourn.trace.model import Trace

_TYPING = {
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
    table = read_csv(path, REQUIRED, [_TYPING], limit)
    if limit is not None:
        table = table.slice(0, limit)
    return trace_of_table(trace_name(path), Place(str(path)), table, 0)
