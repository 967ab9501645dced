"""The columns of our own schema, alike in Parquet, CSV and JSON Lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sojourn.errors import UserError
from sojourn.trace.checks import SECONDS_MAX, FloatArray, Place
from sojourn.trace.columns import datetimes, names, prefixes, seconds, whole_numbers
from sojourn.trace.model import UNNAMED, Trace, build_trace
from sojourn.trace.spellings import (
    ARRIVAL,
    IDS,
    PAUSE,
    SESSION,
    UNIT_NAMES,
    Column,
    own_columns,
    reading_notices,
)

BLOCK_TOKENS_KEY: Final = b"block_tokens"
EPOCH_SECONDS_MIN: Final = 1e8
"""Arrivals under another name than ours that all come later, after three years, are clock times."""


def trace_of_table(name: str, place: Place, table: pa.Table, block_tokens: int) -> Trace:
    """Return the trace in a table of our schema.

    Raises:
        UserError: If a column is missing or a row breaks a rule of the schema.
    """
    found = table.column_names
    given = own_columns(place.source, found)
    place = replace(place, columns=tuple((ours, one.name) for ours, one in given.items()))
    data = {ours: table[one.name] for ours, one in given.items()}
    prompt = whole_numbers(place, place.column("prompt_tokens"), data["prompt_tokens"])
    output = whole_numbers(place, place.column("output_tokens"), data["output_tokens"])
    if "turn" in given and SESSION not in given:
        raise UserError(f"{place.source}: it has a column turn but no column session_id")
    session, sessions = (
        names(place, place.column(SESSION), data[SESSION], absent=None)
        if SESSION in given
        else (None, ())
    )
    turn = whole_numbers(place, "turn", data["turn"], missing=0) if "turn" in given else None
    named = {
        ours: names(place, place.column(ours), data[ours], absent=UNNAMED)
        for ours in ("tenant", "model", "slo_class")
        if ours in given
    }
    tenant, tenants = named.get("tenant", (None, (UNNAMED,)))
    model, models = named.get("model", (None, (UNNAMED,)))
    slo_class, slo_classes = named.get("slo_class", (None, ()))
    offsets, ids, filled = (
        prefixes(place, place.column(IDS), data[IDS], prompt, block_tokens)
        if IDS in given
        else (None, None, ())
    )
    arrival, shifted = _arrivals(place, given, data)
    return build_trace(
        name=name,
        prompt_tokens=prompt,
        output_tokens=output,
        arrival_seconds=arrival,
        session=session,
        sessions=sessions,
        turn=turn,
        tool_seconds=_scaled(place, given[PAUSE], data[PAUSE]) if PAUSE in given else None,
        tenant=tenant,
        tenants=tenants,
        model=model,
        models=models,
        slo_class=slo_class,
        slo_classes=slo_classes,
        prefix_offsets=offsets,
        prefix_ids=ids,
        block_tokens=block_tokens,
        notices=(*reading_notices(found, given), *shifted, *filled),
        place=place,
    )


def _arrivals(
    place: Place, given: Mapping[str, Column], data: Mapping[str, pa.ChunkedArray]
) -> tuple[FloatArray | None, tuple[str, ...]]:
    """Return arrivals, and a notice when they counted from 1970.

    Raises:
        UserError: If a value is no time, or a number in a column that does not say its unit.
    """
    if ARRIVAL not in given:
        return None, ()
    column, values = given[ARRIVAL], data[ARRIVAL]
    if pa.types.is_timestamp(values.type):
        return datetimes(place, column.name, values, may_lack=True), ()
    if column.per_second is None:
        if values.null_count == len(values):
            return np.full(len(values), np.nan), ()
        if _is_number(values):
            raise UserError(
                f"{place.source}: column {column.name!r} holds arrivals as numbers without a unit;"
                " call it arrival_s (seconds), arrival_ms, arrival_us or arrival_ns"
            )
        return datetimes(place, column.name, values, may_lack=True), ()
    arrival = _scaled(place, column, values)
    known = arrival[~np.isnan(arrival)]
    since_1970 = len(known) and known.min() >= EPOCH_SECONDS_MIN and known.max() <= SECONDS_MAX
    # What is called arrival_s is kept to the bit, so that no conversion moves it.
    if column.name == ARRIVAL or not since_1970:
        return arrival, ()
    notice = f"{column.name} counts from 1970: arrivals count from the earliest one"
    return arrival - known.min(), (notice,)


def _scaled(place: Place, column: Column, values: pa.ChunkedArray) -> FloatArray:
    per_second = column.per_second or 1.0
    found = seconds(place, column.name, values, UNIT_NAMES[per_second])
    return found if per_second == 1.0 else found / per_second


def _is_number(values: pa.ChunkedArray) -> bool:
    """Return whether the first value of a column that holds one is a number."""
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        return True
    try:
        pc.cast(pc.utf8_trim_whitespace(values.drop_null().slice(0, 1)), pa.float64())
    except pa.ArrowInvalid:
        return False
    return True
