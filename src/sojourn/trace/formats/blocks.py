"""Our own schema as JSON lines, with the ids of prompts in a field block_ids_16.

An id stands for a block of 16 tokens, vLLM's default, and all before it. Recordings of real
engines come in this form, so that a simulated run can have the same cache hits.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pyarrow as pa

from sojourn.errors import UserError
from sojourn.trace.formats.schema import trace_of_table
from sojourn.trace.formats.text import first_object, read_json_lines, trace_name
from sojourn.trace.model import Trace
from sojourn.trace.spellings import ARRIVAL, REQUIRED, readable
from sojourn.trace.spellings import IDS as OUR_IDS

BLOCK_TOKENS: Final = 16
IDS: Final = "block_ids_16"
_FIELDS: Final = {
    "arrival_s": pa.float64(),
    "prompt_tokens": pa.float64(),
    "output_tokens": pa.float64(),
    "session_id": pa.string(),
    "turn": pa.float64(),
    "tool_s": pa.float64(),
    "tenant": pa.string(),
    "model": pa.string(),
    "slo_class": pa.string(),
    IDS: pa.list_(pa.int64()),
}


def read(path: Path, limit: int | None = None) -> Trace:
    """Return the trace in a file of JSON lines, or in its first `limit` lines.

    The first line says which other names of fields are used, and whether names are numbers.

    Raises:
        UserError: If a line is broken or breaks a rule of the format.
    """
    first = first_object(path)
    spelled = {readable(name)[0]: name for name in first}
    if OUR_IDS in first:
        raise UserError(
            f"{path}: field {OUR_IDS} is not read from JSON lines; ids of {BLOCK_TOKENS}-token"
            f" blocks are called {IDS} there, and Parquet holds those of other blocks"
        )
    table, place = read_json_lines(
        path, _fields(first), [spelled.get(name, name) for name in REQUIRED], limit
    )
    for name in first:
        # What is not read is named in a notice.
        if name not in _FIELDS and readable(name)[0] is None:
            table = table.append_column(name, pa.nulls(len(table)))
    names = [OUR_IDS if name == IDS else name for name in table.column_names]
    return trace_of_table(trace_name(path), place, table.rename_columns(names), BLOCK_TOKENS)


def _fields(first: Mapping[str, object]) -> dict[str, pa.DataType]:
    """Return the types of the fields to read, given the object in the first line."""
    fields = dict(_FIELDS)
    for name, value in first.items():
        ours = readable(name)[0]
        if ours is None:
            continue
        fields[name] = _FIELDS[ours]
        if ours == ARRIVAL and isinstance(value, str):
            fields[name] = pa.string()  # dates and times
        elif pa.types.is_string(_FIELDS[ours]) and isinstance(value, int):
            fields[name] = pa.int64()
    return fields
