"""Mooncake's traces: JSON lines with timestamp, input_length, output_length and hash_ids.

Source: Qin et al., "Mooncake", FAST 2025, https://github.com/kvcache-ai/Mooncake. Times are in
milliseconds. A hash id stands for a block of 512 tokens and all before it; the last block of a
prompt may be partial. Files without hash_ids are traces without prefixes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pyarrow as pa

from sojourn.trace.columns import prefixes, seconds, whole_numbers
from sojourn.trace.formats.text import read_json_lines, trace_name
from sojourn.trace.model import Trace, build_trace

BLOCK_TOKENS: Final = 512
TIME: Final = "timestamp"
PROMPT: Final = "input_length"
OUTPUT: Final = "output_length"
IDS: Final = "hash_ids"
REQUIRED: Final = (TIME, PROMPT, OUTPUT)
_FIELDS: Final = {
    TIME: pa.float64(),
    PROMPT: pa.float64(),
    OUTPUT: pa.float64(),
    IDS: pa.list_(pa.int64()),
}


def read(path: Path, limit: int | None = None) -> Trace:
    """Return a Mooncake trace, or its first `limit` lines.

    Raises:
        UserError: If a line is broken or breaks a rule of the format.
    """
    table, place = read_json_lines(path, _FIELDS, REQUIRED, limit)
    named = type(place)(
        place.source,
        place.row_word,
        place.numbers,
        (("arrival_s", TIME), ("prompt_tokens", PROMPT), ("output_tokens", OUTPUT)),
    )
    prompt = whole_numbers(named, PROMPT, table[PROMPT])
    offsets, ids, notices = (
        prefixes(named, IDS, table[IDS], prompt, BLOCK_TOKENS)
        if IDS in table.column_names
        else (None, None, ())
    )
    return build_trace(
        name=trace_name(path),
        prompt_tokens=prompt,
        output_tokens=whole_numbers(named, OUTPUT, table[OUTPUT]),
        arrival_seconds=seconds(named, TIME, table[TIME]) / 1000.0,
        prefix_offsets=offsets,
        prefix_ids=ids,
        block_tokens=BLOCK_TOKENS,
        notices=notices,
        place=named,
    )
