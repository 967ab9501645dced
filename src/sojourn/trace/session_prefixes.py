"""Prefix ids from sessions, for a trace that says who goes on with what but has no block ids.

The assumption: a turn's prompt is the prompt of the turn before it, and more text behind it. A
prompt that is shorter than the one before is taken for the beginning of that one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from sojourn.errors import UserError
from sojourn.trace.checks import IntArray
from sojourn.trace.model import Trace

BLOCK_TOKENS: Final = 16
"""Tokens of a block where nothing else is asked for: vLLM's default."""

BLOCK_TOKENS_MAX: Final = 2**20
IDS_MAX: Final = 500_000_000


def with_session_prefixes(trace: Trace, block_tokens: int = BLOCK_TOKENS) -> Trace:
    """Return the trace with ids for the whole blocks of each prompt.

    A turn has the ids of the turn before it for the blocks that both prompts fill, and ids of its
    own behind them. Requests outside sessions, and first turns, share nothing. Answers get no
    ids: what a turn before generated is computed again as part of this turn's prompt.

    Raises:
        UserError: If the trace has ids already, has no sessions, or would have too many blocks.
    """
    if not 1 <= block_tokens <= BLOCK_TOKENS_MAX:
        raise UserError(
            f"a block of {block_tokens} tokens cannot be; it must have 1 to {BLOCK_TOKENS_MAX}"
        )
    if trace.prefix_ids is not None:
        raise UserError(
            f"{trace.name}: it has ids of {trace.block_tokens}-token blocks already;"
            " prefixes of sessions are for traces without"
        )
    if not trace.has_sessions:
        raise UserError(
            f"{trace.name}: it has no sessions to derive prefixes from; a column session_id"
            " says which requests belong to one conversation"
        )
    blocks = trace.prompt_tokens // block_tokens
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(blocks)])
    if offsets[-1] > IDS_MAX:
        raise UserError(
            f"{trace.name}: its prompts have {offsets[-1]} blocks of {block_tokens} tokens, more"
            f" than {IDS_MAX}; ask for larger blocks or fewer requests"
        )
    ids = np.arange(offsets[-1], dtype=np.int64)
    before = _turn_before(trace)
    rows = np.flatnonzero(before >= 0)
    shared = np.minimum(blocks[rows], blocks[before[rows]])
    # Rows of a session come in turn order, so what a row takes over is final.
    for row, earlier, count in zip(
        rows.tolist(), before[rows].tolist(), shared.tolist(), strict=True
    ):
        start, source = offsets[row], offsets[earlier]
        ids[start : start + count] = ids[source : source + count]
    shorter = int(np.count_nonzero(trace.prompt_tokens[rows] < trace.prompt_tokens[before[rows]]))
    have = "1 turn has" if shorter == 1 else f"{shorter} turns have"
    said = (f"{have} a shorter prompt than the turn before, taken for its beginning",)
    return replace(
        trace,
        prefix_offsets=_frozen(offsets),
        prefix_ids=_frozen(ids),
        block_tokens=block_tokens,
        notices=(*trace.notices, *(said if shorter else ())),
    )


def _turn_before(trace: Trace) -> IntArray:
    """Return the row of the turn before each row in its session; -1 for none."""
    order = np.lexsort((trace.turn, trace.session))
    session = trace.session[order]
    follows = (session[1:] == session[:-1]) & (session[1:] >= 0)
    before = np.full(len(trace), -1, dtype=np.int64)
    before[order[1:][follows]] = order[:-1][follows]
    return before


def _frozen(column: IntArray) -> IntArray:
    column.setflags(write=False)
    return column
