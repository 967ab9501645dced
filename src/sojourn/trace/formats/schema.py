"""The columns of our own schema, alike in Parquet and CSV."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from sojourn.errors import UserError
from sojourn.trace.checks import FloatArray, Place
from sojourn.trace.columns import (
    names,
    prefixes,
    require_columns,
    seconds,
    tenant_like,
    unread_notice,
    whole_numbers,
)
from sojourn.trace.model import UNNAMED, Trace, build_trace

REQUIRED: Final = ("prompt_tokens", "output_tokens")
OPTIONAL: Final = (
    "arrival_s",
    "session_id",
    "turn",
    "tool_s",
    "tenant",
    "model",
    "slo_class",
    "prefix_block_hashes",
)
BLOCK_TOKENS_KEY: Final = b"block_tokens"


def trace_of_table(name: str, place: Place, table: pa.Table, block_tokens: int) -> Trace:
    """Return the trace in a table of our schema.

    Raises:
        UserError: If a column is missing or a row breaks a rule of the schema.
    """
    found = table.column_names
    require_columns(place.source, found, REQUIRED)
    prompt = whole_numbers(place, "prompt_tokens", table["prompt_tokens"])
    output = whole_numbers(place, "output_tokens", table["output_tokens"])
    if "turn" in found and "session_id" not in found:
        raise UserError(f"{place.source}: it has a column turn but no column session_id")
    session, sessions = (
        names(place, "session_id", table["session_id"], absent=None)
        if "session_id" in found
        else (None, ())
    )
    turn = whole_numbers(place, "turn", table["turn"], missing=0) if "turn" in found else None
    tenant, tenants = tenant_like(place, "tenant", table)
    model, models = tenant_like(place, "model", table)
    slo_class, slo_classes = (
        names(place, "slo_class", table["slo_class"], absent=UNNAMED)
        if "slo_class" in found
        else (None, ())
    )
    offsets, ids, filled = (
        prefixes(place, "prefix_block_hashes", table["prefix_block_hashes"], prompt, block_tokens)
        if "prefix_block_hashes" in found
        else (None, None, ())
    )
    return build_trace(
        name=name,
        prompt_tokens=prompt,
        output_tokens=output,
        arrival_seconds=_seconds(place, "arrival_s", table),
        session=session,
        sessions=sessions,
        turn=turn,
        tool_seconds=_seconds(place, "tool_s", table),
        tenant=tenant,
        tenants=tenants,
        model=model,
        models=models,
        slo_class=slo_class,
        slo_classes=slo_classes,
        prefix_offsets=offsets,
        prefix_ids=ids,
        block_tokens=block_tokens,
        notices=(*unread_notice(found, (*REQUIRED, *OPTIONAL)), *filled),
        place=place,
    )


def _seconds(place: Place, name: str, table: pa.Table) -> FloatArray | None:
    return seconds(place, name, table[name]) if name in table.column_names else None
