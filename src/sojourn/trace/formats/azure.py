"""The Azure LLM inference traces of 2023 and 2024 (CSV: TIMESTAMP,ContextTokens,GeneratedTokens).

Source: https://github.com/Azure/AzurePublicDataset; 2023 with Patel et al., "Splitwise", ISCA
2024; 2024 with Stojkovic et al., "DynamoLLM", arXiv 2408.00741. The 2023 times have no zone, the
2024 times end in +00:00. Arrivals here count from the earliest row read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sojourn.errors import UserError
from sojourn.trace.checks import FloatArray, Place
from sojourn.trace.columns import whole_numbers
from sojourn.trace.formats.dropped import count_answered, drop_unanswered
from sojourn.trace.formats.text import read_csv, trace_name
from sojourn.trace.model import Trace, build_trace

TIME: Final = "TIMESTAMP"
PROMPT: Final = "ContextTokens"
OUTPUT: Final = "GeneratedTokens"
REQUIRED: Final = (TIME, PROMPT, OUTPUT)
_LENGTHS: Final = {PROMPT: pa.int64(), OUTPUT: pa.int64()}


def read(path: Path, limit: int | None = None) -> Trace:
    """Return an Azure trace, or its first `limit` requests in the order of the file.

    Raises:
        UserError: If a column is missing or a value is neither a time nor a length.
    """
    table = read_csv(
        path,
        REQUIRED,
        [_LENGTHS | {TIME: pa.timestamp("ns", zone)} for zone in (None, "UTC")],
        limit,
        count_answered(PROMPT, OUTPUT),
    )
    place = Place(str(path), columns=(("prompt_tokens", PROMPT), ("output_tokens", OUTPUT)))
    prompt = whole_numbers(place, PROMPT, table[PROMPT])
    output = whole_numbers(place, OUTPUT, table[OUTPUT])
    arrival = _arrivals(place, table[TIME])
    rows, place, notices = drop_unanswered(place, prompt, output, limit)
    arrival = arrival[rows]
    return build_trace(
        name=trace_name(path),
        prompt_tokens=prompt[rows],
        output_tokens=output[rows],
        arrival_seconds=arrival,
        notices=notices,
        place=place,
    )


def _arrivals(place: Place, column: pa.ChunkedArray) -> FloatArray:
    """Return seconds since the earliest time, exact to a nanosecond."""
    if not pa.types.is_timestamp(column.type):
        column = _parsed(place, column)
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy())[0])
        raise place.fail(row, f"{TIME} is empty; it must be a date and time")
    ticks = column.cast(pa.int64()).to_numpy()
    return np.asarray((ticks - ticks.min()) / 1e9 if len(ticks) else ticks, dtype=np.float64)


def _parsed(place: Place, texts: pa.ChunkedArray) -> pa.ChunkedArray:
    for zone in (None, "UTC"):
        try:
            return pc.cast(texts, pa.timestamp("ns", zone))
        except pa.ArrowInvalid:
            continue
    first_zone = "UTC" if str(texts[0])[-6:-5] in "+-" else None
    for row, text in enumerate(texts):
        try:
            pc.cast(text, pa.timestamp("ns", first_zone))
        except pa.ArrowInvalid:
            return _refuse(place, row, str(text))
    raise UserError(f"{place.source}: column {TIME} holds something that is no time")


def _refuse(place: Place, row: int, text: str) -> pa.ChunkedArray:
    raise place.fail(
        row, f"{TIME} is {text!r}; it must be a date and time like 2023-11-16 18:17:03.97"
    )
