"""The rules that every row of a trace obeys, and the sentences for rows that do not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sojourn.errors import UserError

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

TOKENS_MAX: Final = 2**31 - 1
"""Largest length a request may have: what the Parquet schema's int32 holds."""

SECONDS_MAX: Final = 1e11
"""Latest arrival and longest pause: 3,000 years, beyond any clock that counts in seconds."""


@dataclass(frozen=True, slots=True)
class Place:
    """How to name a source and its rows in an error.

    Attributes:
        source: The file or the trace.
        row_word: What its rows are called: "row" in tables, "line" in text files.
        numbers: The number of each row; counted from 1 when None.
        columns: What the source calls a column, where that differs from ours.
        line_of: The file's line of a row's number, where they differ; asked only for an error.
    """

    source: str
    row_word: str = "row"
    numbers: IntArray | None = None
    columns: tuple[tuple[str, str], ...] = ()
    line_of: Callable[[int], int] | None = None

    def fail(self, row: int, problem: str) -> UserError:
        """Return the error for what is wrong with one row (from 0)."""
        number = row + 1 if self.numbers is None else int(self.numbers[row])
        number = number if self.line_of is None else self.line_of(number)
        return UserError(f"{self.source}: {self.row_word} {number}: {problem}")

    def column(self, ours: str) -> str:
        """Return the source's name of one of our columns."""
        return dict(self.columns).get(ours, ours)


def check_rows(
    place: Place,
    arrival_seconds: FloatArray,
    prompt_tokens: IntArray,
    output_tokens: IntArray,
    tool_seconds: FloatArray,
) -> None:
    """Check counts and ranges of single values.

    Raises:
        UserError: Naming the first row and column that is out of range.
    """
    count = len(prompt_tokens)
    if count == 0:
        raise UserError(f"{place.source}: no requests in it")
    assert len(output_tokens) == len(arrival_seconds) == len(tool_seconds) == count
    for name, tokens in (("prompt_tokens", prompt_tokens), ("output_tokens", output_tokens)):
        bad = np.flatnonzero((tokens < 1) | (tokens > TOKENS_MAX))
        if len(bad):
            raise place.fail(
                int(bad[0]),
                f"{place.column(name)} is {tokens[bad[0]]};"
                f" it must be a whole number from 1 to {TOKENS_MAX}",
            )
    for name, seconds in (("arrival_s", arrival_seconds), ("tool_s", tool_seconds)):
        bad = np.flatnonzero((seconds < 0) | (seconds > SECONDS_MAX))
        if len(bad):
            value = seconds[bad[0]]
            above = f", at most {SECONDS_MAX:g}" if value > SECONDS_MAX else ""
            if above and place.column(name) == "arrival_s":
                above += " (milliseconds go into a column arrival_ms)"
            raise place.fail(
                int(bad[0]),
                f"{place.column(name)} is {value:g}; it must be 0 or more seconds{above}",
            )


def check_sessions(
    place: Place,
    session: IntArray,
    sessions: Sequence[str],
    turn: IntArray,
    arrival_seconds: FloatArray,
) -> FloatArray:
    """Check turns and arrivals of sessions and return the arrival by which each row is sorted.

    That is its own arrival, or the one of the latest turn before it that has one.

    Raises:
        UserError: For a turn without a session, two equal turns, a turn that arrives before the
            one it follows, or a row that should have an arrival and has none.
    """
    bad = np.flatnonzero((turn < 0) | ((session < 0) & (turn != 0)))
    if len(bad):
        row = int(bad[0])
        said = "it must be 0 or more" if turn[row] < 0 else "the row has no session_id"
        raise place.fail(row, f"turn is {turn[row]}, but {said}")
    row_count = len(session)
    order = np.lexsort((np.arange(row_count), turn, session))
    group, turns, times = session[order], turn[order], arrival_seconds[order]
    follows = np.zeros(row_count, dtype=bool)
    follows[1:] = (group[1:] == group[:-1]) & (group[1:] >= 0)
    twice = np.flatnonzero(follows[1:] & (turns[1:] == turns[:-1])) + 1
    if len(twice):
        k = int(twice[0])
        raise place.fail(
            int(order[k]), f"session {sessions[group[k]]!r} has turn {turns[k]} a second time"
        )
    positions = np.arange(row_count)
    starts = np.maximum.accumulate(np.where(follows, 0, positions))
    latest = np.maximum.accumulate(np.where(np.isnan(times), -1, positions))
    filled = np.where(latest >= starts, times[latest], np.nan)
    back = np.flatnonzero(follows[1:] & (times[1:] < filled[:-1])) + 1
    if len(back):
        k = int(back[0])
        raise place.fail(
            int(order[k]),
            f"turn {turns[k]} of session {sessions[group[k]]!r} arrives at {times[k]:g} s,"
            f" before the turn it follows ({filled[k - 1]:g} s)",
        )
    effective = np.empty(row_count, dtype=np.float64)
    effective[order] = filled
    lost = np.flatnonzero(np.isnan(effective))
    if len(lost) == row_count:
        return np.zeros(row_count)
    if len(lost):
        raise place.fail(
            int(lost[0]),
            f"{place.column('arrival_s')} is empty, though other rows have one;"
            " only later turns of a session may go without",
        )
    return effective


def check_prefixes(
    place: Place,
    prompt_tokens: IntArray,
    offsets: IntArray | None,
    ids: IntArray | None,
    block_tokens: int,
) -> None:
    """Check that each prompt has an id for each whole block, and at most one more.

    Raises:
        UserError: Naming the first row with too few or too many ids, or with a negative id.
    """
    if offsets is None or ids is None:
        return
    if not 1 <= block_tokens <= TOKENS_MAX:
        raise UserError(
            f"{place.source}: it has block ids but no block size;"
            f" the metadata key block_tokens must be from 1 to {TOKENS_MAX}"
        )
    counts = np.diff(offsets)
    whole, all_blocks = prompt_tokens // block_tokens, -(-prompt_tokens // block_tokens)
    bad = np.flatnonzero((counts < whole) | (counts > all_blocks))
    if len(bad):
        row = int(bad[0])
        raise place.fail(
            row,
            f"{counts[row]} block ids for {prompt_tokens[row]} prompt tokens;"
            f" {block_tokens}-token blocks need {need(whole[row], all_blocks[row])}",
        )
    negative = np.flatnonzero(ids < 0)
    if len(negative):
        row = int(np.searchsorted(offsets, negative[0], side="right")) - 1
        raise place.fail(row, f"block id {ids[negative[0]]} is negative; ids start at 0")


def need(whole: int, all_blocks: int) -> str:
    """Return how many ids a prompt needs, in words."""
    return str(whole) if whole == all_blocks else f"{whole} or {all_blocks}"
