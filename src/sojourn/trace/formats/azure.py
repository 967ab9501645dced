"""The Azure LLM inference traces of 2023 and 2024 (CSV: TIMESTAMP,ContextTokens,GeneratedTokens).

Source: https://github.com/Azure/AzurePublicDataset; 2023 with Patel et al., "Splitwise", ISCA
2024; 2024 with Stojkovic et al., "DynamoLLM", arXiv 2408.00741. The 2023 times have no zone, the
2024 times end in +00:00. Arrivals here count from the earliest row read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pyarrow as pa

from sojourn.trace.columns import datetimes, whole_numbers
from sojourn.trace.formats.dropped import count_answered, drop_unanswered
from sojourn.trace.formats.text import csv_place, read_csv, trace_name
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
    place = csv_place(path, (("prompt_tokens", PROMPT), ("output_tokens", OUTPUT)))
    prompt = whole_numbers(place, PROMPT, table[PROMPT])
    output = whole_numbers(place, OUTPUT, table[OUTPUT])
    arrival = datetimes(place, TIME, table[TIME])
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
