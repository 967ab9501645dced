"""Published logs keep failed calls as rows of length 0; a trace counts them and leaves them out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sojourn.errors import UserError
from sojourn.trace.checks import IntArray, Place


def count_answered(prompt: str, output: str) -> Callable[[pa.RecordBatch], int]:
    """Return the function that counts the rows of a batch that have a prompt and an answer."""

    def count(batch: pa.RecordBatch) -> int:
        if not pa.types.is_integer(batch.schema.field(output).type):
            return len(batch)
        both = pc.and_(pc.not_equal(batch[prompt], 0), pc.not_equal(batch[output], 0))
        return int(pc.sum(both).as_py() or 0)

    return count


def drop_unanswered(
    place: Place, prompt_tokens: IntArray, output_tokens: IntArray, limit: int | None
) -> tuple[IntArray, Place, tuple[str, ...]]:
    """Return the rows with a prompt and an answer, how to name them, and the counted notice.

    Raises:
        UserError: If no row is left.
    """
    answered = (prompt_tokens != 0) & (output_tokens != 0)
    rows = np.flatnonzero(answered)[:limit]
    if not len(rows):
        raise UserError(f"{place.source}: no requests in it")
    dropped = int(rows[-1]) + 1 - len(rows) if limit is not None else int((~answered).sum())
    named = replace(place, numbers=rows + 1)
    if not dropped:
        return rows, named, ()
    plural = "1 row" if dropped == 1 else f"{dropped} rows"
    return rows, named, (f"{plural} of length 0 (failed calls) dropped",)
