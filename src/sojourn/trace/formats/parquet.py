"""Our own schema in Parquet, the format that keeps everything a trace has.

Columns: arrival_s (double, null), prompt_tokens, output_tokens, session_id, turn, tool_s, tenant,
model, slo_class, prefix_block_hashes (list of whole numbers, null); only the two lengths are
required. The file's metadata key `block_tokens` says how many tokens a block id covers.
"""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sojourn.errors import UserError
from sojourn.trace.checks import Place
from sojourn.trace.formats.schema import BLOCK_TOKENS_KEY, trace_of_table
from sojourn.trace.formats.text import trace_name
from sojourn.trace.model import Trace
from sojourn.trace.spellings import own_columns


def read(path: Path, limit: int | None = None) -> Trace:
    """Return the trace in a Parquet file of our schema, or in its first `limit` rows.

    Raises:
        UserError: If the file is not Parquet, or not of our schema.
    """
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            given = own_columns(str(path), schema.names)
            table = _rows(file, schema, {column.name for column in given.values()}, limit)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(f"{path}: not a readable Parquet file ({reason})") from None
    return trace_of_table(
        trace_name(path), Place(str(path)), table, _block_tokens(path, schema.metadata)
    )


def _rows(
    file: pq.ParquetFile, schema: pa.Schema, known: Container[str], limit: int | None
) -> pa.Table:
    if limit is None:
        # Columns that a trace has no place for are named in a notice but not read.
        table = file.read(columns=[name for name in schema.names if name in known])
        for name in schema.names:
            if name not in known:
                table = table.append_column(name, pa.nulls(len(table)))
        return table
    batches, rows = [], 0
    for batch in file.iter_batches(batch_size=min(limit, 65_536)):
        batches.append(batch.slice(0, limit - rows))
        rows += len(batches[-1])
        if rows >= limit:
            break
    return pa.Table.from_batches(batches, schema)


def _block_tokens(path: Path, metadata: dict[bytes, bytes] | None) -> int:
    text = (metadata or {}).get(BLOCK_TOKENS_KEY, b"").decode(errors="replace").strip()
    if not text:
        return 0
    # Ten digits hold every size that a block may have, and more are no size.
    if not text.isdecimal() or len(text) > 10:
        raise UserError(
            f"{path}: metadata key block_tokens is {text!r}; it must be a whole number of tokens"
        )
    return int(text)
