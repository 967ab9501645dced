"""Recorded workloads as JSON lines: arrival_s, prompt_tokens, output_tokens, block_ids_16.

An id stands for a block of 16 tokens, vLLM's default, and all before it. Recordings of real
engines come in this form, so that a simulated run can have the same cache hits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pyarrow as pa

from sojourn.trace.columns import prefixes, seconds, whole_numbers
from sojourn.trace.formats.text import read_json_lines, trace_name
from sojourn.trace.model import Trace, build_trace

BLOCK_TOKENS: Final = 16
IDS: Final = "block_ids_16"
REQUIRED: Final = ("arrival_s", "prompt_tokens", "output_tokens")
_FIELDS: Final = {
    "arrival_s": pa.float64(),
    "prompt_tokens": pa.float64(),
    "output_tokens": pa.float64(),
    IDS: pa.list_(pa.int64()),
}


def read(path: Path, limit: int | None = None) -> Trace:
    """Return a recorded workload, or its first `limit` lines.

    Raises:
        UserError: If a line is broken or breaks a rule of the format.
    """
    table, place = read_json_lines(path, _FIELDS, REQUIRED, limit)
    prompt = whole_numbers(place, "prompt_tokens", table["prompt_tokens"])
    offsets, ids, notices = (
        prefixes(place, IDS, table[IDS], prompt, BLOCK_TOKENS)
        if IDS in table.column_names
        else (None, None, ())
    )
    return build_trace(
        name=trace_name(path),
        prompt_tokens=prompt,
        output_tokens=whole_numbers(place, "output_tokens", table["output_tokens"]),
        arrival_seconds=seconds(place, "arrival_s", table["arrival_s"]),
        prefix_offsets=offsets,
        prefix_ids=ids,
        block_tokens=BLOCK_TOKENS,
        notices=notices,
        place=place,
    )
