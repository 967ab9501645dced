"""Writing traces: Parquet keeps everything, the other formats say what they leave out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from sojourn.errors import UserError, unknown
from sojourn.files import replacing
from sojourn.trace.checks import IntArray
from sojourn.trace.formats import mooncake
from sojourn.trace.formats.schema import BLOCK_TOKENS_KEY
from sojourn.trace.model import UNNAMED, Trace
from sojourn.trace.read import read_trace
from sojourn.trace.session_prefixes import with_session_prefixes

ENDINGS: Final = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".jsonl": "mooncake"}
_MILLISECOND: Final = 1e-3


def write_trace(
    trace: Trace, path: str | Path, *, format: str = "auto", overwrite: bool = False
) -> tuple[str, ...]:
    """Write a trace and return one sentence for each thing that the format could not keep.

    The file appears whole or not at all: it is written beside its place and then renamed.

    Args:
        trace: What to write.
        path: Where to.
        format: "parquet", "csv", "mooncake", or "auto" to go by the file's ending.
        overwrite: Whether a file that is already there may be replaced.

    Raises:
        UserError: If the format is unknown or cannot hold the trace, or the file exists.
    """
    target = Path(path)
    if format == "auto":
        format = _format_by_ending(target)
    if format not in WRITERS:
        raise unknown("format to write", format, WRITERS)
    check_target(target, overwrite=overwrite)
    with replacing(target) as partial:
        return WRITERS[format](trace, partial)


def convert_trace(
    source: str | Path,
    target: str | Path,
    *,
    source_format: str = "auto",
    target_format: str = "auto",
    limit: int | None = None,
    overwrite: bool = False,
    session_block_tokens: int | None = None,
) -> tuple[Trace, tuple[str, ...]]:
    """Read one file and write another; return the trace and what the target could not keep.

    With `session_block_tokens` the written trace has prefix ids derived from its sessions, for
    blocks of that size.

    Raises:
        UserError: As `read_trace`, `write_trace` and `with_session_prefixes` do, and if prefix
            ids are asked for in a CSV file.
    """
    check_target(Path(target), overwrite=overwrite, sources=[source])
    if session_block_tokens is not None:
        written = _format_by_ending(Path(target)) if target_format == "auto" else target_format
        if written == "csv":
            raise UserError(f"{target}: CSV has no place for block ids; write Parquet instead")
    trace = read_trace(source, format=source_format, limit=limit)
    if session_block_tokens is not None:
        trace = with_session_prefixes(trace, session_block_tokens)
    return trace, write_trace(trace, target, format=target_format, overwrite=overwrite)


def check_target(path: Path, *, overwrite: bool, sources: Iterable[str | Path] = ()) -> None:
    """Check that a file may be written, before any long work.

    Args:
        path: The file.
        overwrite: Whether a file that is already there may be replaced.
        sources: Files that are read meanwhile, which it must not replace.

    Raises:
        UserError: If it exists and may not be replaced, or its folder does not exist.
    """
    if path.is_dir():
        raise UserError(f"{path}: a directory; name the file to write")
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: it is not a regular file, which a trace could replace")
    if path.exists() and not overwrite:
        raise UserError(f"{path}: it exists already; give --force to replace it")
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent}")
    for source in sources:
        if path.exists() and Path(source).exists() and path.samefile(source):
            raise UserError(f"{path}: it is read to make this trace; name another file to write")


def table_of(trace: Trace, *, with_prefixes: bool = True) -> pa.Table:
    """Return the trace as a table of our schema; columns that say nothing are left out."""
    outside = trace.session < 0
    columns: dict[str, pa.Array] = {
        "arrival_s": pa.array(trace.arrival_seconds, from_pandas=True),
        "prompt_tokens": pa.array(trace.prompt_tokens.astype(np.int32)),
        "output_tokens": pa.array(trace.output_tokens.astype(np.int32)),
    }
    if trace.sessions:
        columns["session_id"] = _named(np.where(outside, -1, trace.session), trace.sessions)
        columns["turn"] = pa.array(trace.turn, mask=outside)
    if not np.isnan(trace.tool_seconds).all():
        columns["tool_s"] = pa.array(trace.tool_seconds, from_pandas=True)
    if trace.tenants != (UNNAMED,):
        columns["tenant"] = _named(trace.tenant, trace.tenants)
    if trace.models != (UNNAMED,):
        columns["model"] = _named(trace.model, trace.models)
    if trace.slo_class is not None:
        columns["slo_class"] = _named(trace.slo_class, trace.slo_classes)
    metadata: dict[bytes, bytes] = {}
    if with_prefixes and trace.prefix_offsets is not None:
        columns["prefix_block_hashes"] = pa.LargeListArray.from_arrays(
            trace.prefix_offsets, trace.prefix_ids
        )
        metadata[BLOCK_TOKENS_KEY] = str(trace.block_tokens).encode()
    return pa.table(columns).replace_schema_metadata(metadata)


def _named(index: IntArray, names: tuple[str, ...]) -> pa.Array:
    codes = pa.array(index, mask=index < 0)
    return pa.DictionaryArray.from_arrays(codes, pa.array(names, pa.string())).cast(pa.string())


def _write_parquet(trace: Trace, path: Path) -> tuple[str, ...]:
    pq.write_table(table_of(trace), path, compression="zstd")
    return ()


def _write_csv(trace: Trace, path: Path) -> tuple[str, ...]:
    pacsv.write_csv(table_of(trace, with_prefixes=False), path)
    if trace.prefix_ids is None:
        return ()
    return ("block ids left out: CSV has no place for them",)


def _write_mooncake(trace: Trace, path: Path) -> tuple[str, ...]:
    if trace.prefix_ids is not None and trace.block_tokens != mooncake.BLOCK_TOKENS:
        raise UserError(
            f"Mooncake's format has blocks of {mooncake.BLOCK_TOKENS} tokens,"
            f" but this trace has blocks of {trace.block_tokens}; write Parquet instead"
        )
    if np.isnan(trace.arrival_seconds).any():
        raise UserError(
            "Mooncake's format needs an arrival for every request, and this trace has"
            f" {int(np.isnan(trace.arrival_seconds).sum())} without one; write Parquet instead"
        )
    exact = trace.arrival_seconds / _MILLISECOND
    ticks = np.rint(exact).astype(np.int64)
    with path.open("w", encoding="utf-8") as stream:
        for row in range(len(trace)):
            record: dict[str, object] = {
                mooncake.TIME: int(ticks[row]),
                mooncake.PROMPT: int(trace.prompt_tokens[row]),
                mooncake.OUTPUT: int(trace.output_tokens[row]),
            }
            if trace.prefix_ids is not None:
                record[mooncake.IDS] = trace.prefix(row).tolist()
            stream.write(json.dumps(record) + "\n")
    lost = []
    if np.any(np.abs(exact - ticks) > 1e-6):
        lost.append("arrivals rounded to whole milliseconds")
    for column, has in (
        ("sessions, turns and pauses", trace.has_sessions),
        ("tenants", trace.tenants != (UNNAMED,)),
        ("models", trace.models != (UNNAMED,)),
        ("SLO classes", trace.slo_class is not None),
    ):
        if has:
            lost.append(f"{column} left out: Mooncake's format has no place for them")
    return tuple(lost)


Writer = Callable[[Trace, Path], tuple[str, ...]]
WRITERS: Final[dict[str, Writer]] = {
    "parquet": _write_parquet,
    "csv": _write_csv,
    "mooncake": _write_mooncake,
}


def _format_by_ending(path: Path) -> str:
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise UserError(
            f"{path}: the ending says no format to write; use {', '.join(ENDINGS)} or name one of"
            f" {', '.join(WRITERS)}"
        )
    return ENDINGS[ending]
