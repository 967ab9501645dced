"""BurstGPT: calls of ChatGPT and GPT-4 over months, as CSV.

Source: Wang et al., "BurstGPT", arXiv 2401.17644, https://github.com/HPMLL/BurstGPT. Columns:
Timestamp (whole seconds from the first midnight), Model, Request tokens, Response tokens, Total
tokens, Log Type; release 2.0 adds Session ID (conversations only) and Elapsed time (seconds from
request to full answer). Arrivals here count from the earliest row read; turns are counted by
arrival; the pause before a turn is its arrival less the end of the answer before it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from sojourn.trace.checks import FloatArray, IntArray
from sojourn.trace.columns import names, seconds, tenant_like, whole_numbers
from sojourn.trace.formats.dropped import count_answered, drop_unanswered
from sojourn.trace.formats.text import csv_place, read_csv, trace_name
from sojourn.trace.model import Trace, build_trace

TIME: Final = "Timestamp"
MODEL: Final = "Model"
PROMPT: Final = "Request tokens"
OUTPUT: Final = "Response tokens"
SESSION: Final = "Session ID"
ELAPSED: Final = "Elapsed time"
REQUIRED: Final = (TIME, MODEL, PROMPT, OUTPUT)
_TYPING: Final = {
    TIME: pa.float64(),
    PROMPT: pa.int64(),
    OUTPUT: pa.int64(),
    ELAPSED: pa.float64(),
}


def read(path: Path, limit: int | None = None) -> Trace:
    """Return a BurstGPT trace, or its first `limit` answered calls in the order of the file.

    Raises:
        UserError: If a column is missing or a value is no number.
    """
    table = read_csv(path, REQUIRED, [_TYPING], limit, count_answered(PROMPT, OUTPUT))
    place = csv_place(
        path, (("arrival_s", TIME), ("prompt_tokens", PROMPT), ("output_tokens", OUTPUT))
    )
    prompt = whole_numbers(place, PROMPT, table[PROMPT])
    output = whole_numbers(place, OUTPUT, table[OUTPUT])
    arrival = seconds(place, TIME, table[TIME])
    rows, place, notices = drop_unanswered(place, prompt, output, limit)
    table = table.take(rows)
    arrival = arrival[rows]
    if np.isnan(arrival).any():
        raise place.fail(int(np.isnan(arrival).argmax()), f"{TIME} is empty; it must be a number")
    model, models = tenant_like(place, MODEL, table)
    session: IntArray | None = None
    sessions: tuple[str, ...] = ()
    tool: FloatArray | None = None
    if SESSION in table.column_names:
        session, sessions = names(place, SESSION, table[SESSION], absent=None)
        if ELAPSED in table.column_names:
            tool = _pauses(session, arrival, seconds(place, ELAPSED, table[ELAPSED]))
    return build_trace(
        name=trace_name(path),
        prompt_tokens=prompt[rows],
        output_tokens=output[rows],
        arrival_seconds=arrival - arrival.min(),
        session=session,
        sessions=sessions,
        tool_seconds=tool,
        model=model,
        models=models,
        notices=notices,
        place=place,
    )


def _pauses(session: IntArray, arrival: FloatArray, elapsed: FloatArray) -> FloatArray:
    """Return the pause before each later turn; 0 where the clock's grain makes it negative."""
    order = np.lexsort((np.arange(len(session)), arrival, session))
    same = (session[order][1:] == session[order][:-1]) & (session[order][1:] >= 0)
    ends = (arrival + elapsed)[order]
    pause = np.full(len(session), np.nan)
    pause[order[1:][same]] = np.maximum(arrival[order][1:] - ends[:-1], 0.0)[same]
    return pause
