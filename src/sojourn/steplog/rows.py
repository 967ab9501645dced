"""Rows of a live step log, packed as they come: cheap to add to, and turned into columns later."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from struct import Struct
from typing import Final, NamedTuple, cast

import numpy as np

from sojourn.steplog.record import (
    DIFFERENCES,
    DifferenceColumns,
    IntArray,
    RequestColumns,
    StepColumns,
    TransitionColumns,
)
from sojourn.steplog.write import Lists

IDS_PER_ROW: Final = 16
"""Prefix ids that take about as much memory as a row."""

UNMATCHED: Final = -1
"""What `Rows.decodes` is while no step can be merged into the last row."""

_STEP: Final = Struct("=12q").pack
_MERGED: Final = Struct("=2q").pack_into
_BACK: Final = 11 * 8
"""Bytes from the duration of the last row, which the number of steps follows, to its end."""

_STATE: Final = Struct("=3q").pack
_DIFFERENCE: Final = Struct("=4q").pack
_REQUEST: Final = Struct("=19q").pack

_STEP_FIELDS: Final = (
    *("start", "duration", "steps", "prefill_tokens", "prompts", "decodes", "waiting", "paused"),
    *("kv_used", "pairs", "prior", "context"),
)
_REQUEST_FIELDS: Final = (
    *("arrival", "admitted", "first_token", "finish", "prompt_tokens", "output_tokens"),
    *("outcome", "gap", "preemptions", "recomputed_tokens", "cached_tokens"),
    *("program", "turn", "last_turn", "priority", "reason", "tenant", "slo_class"),
)


class EndedRequest(NamedTuple):
    """What became of a request (see `steplog.record.RequestColumns`, for the rest of the fields).

    Attributes:
        request: Its number in the log, the same in its state changes and differences; numbers
            count up in order of arrival.
        outcome: One of the constants FINISHED, SHED, CANCELLED and UNFINISHED of the record.
        tenant: Name of the client account.
        slo_class: Name of the SLO class.
        reason: Why it was shed or cancelled; "" for none.
    """

    request: int
    arrival: int
    admitted: int
    first_token: int
    finish: int
    prompt_tokens: int
    output_tokens: int
    outcome: int
    gap: int = 0
    preemptions: int = 0
    recomputed_tokens: int = 0
    cached_tokens: int = 0
    program: int = -1
    turn: int = 0
    last_turn: int = 1
    priority: int = 0
    reason: str = ""
    tenant: str = "default"
    slo_class: str = "all"


class Rows:
    """The rows of one file in the making.

    Attributes:
        size: Rows so far; `IDS_PER_ROW` prefix ids count as a row.
        busy: Sum of the steps' durations.
        start, duration, steps: Of the last row of steps.
        decodes, waiting, paused: Of that row; what a step must equal to be merged into it.
        context: Of the step that would be merged into it next.
        place: Where its duration stands in `runs`.
    """

    __slots__ = (
        "busy",
        "context",
        "decodes",
        "differences",
        "duration",
        "ends",
        "ids",
        "paused",
        "place",
        "requests",
        "runs",
        "size",
        "start",
        "states",
        "steps",
        "waiting",
    )

    def __init__(self) -> None:
        self.runs = bytearray()
        self.states = bytearray()
        self.differences = bytearray()
        self.requests = bytearray()
        self.ids = bytearray()
        self.ends = array("q")
        self.size = 0
        self.busy = 0
        self.start = self.duration = self.steps = 0
        self.decodes = UNMATCHED
        self.waiting = self.paused = self.context = 0
        self.place = 0

    def step(
        self,
        start: int,
        duration: int,
        prefill_tokens: int,
        prompts: int,
        decodes: int,
        waiting: int,
        paused: int,
        kv_used: int,
        pairs: int,
        prior: int,
        context: int,
    ) -> None:
        """Add a step: to the last row if only its moment differs, else in a row of its own.

        Steps of one row may lie apart, or overlap, by at most one step's time in all.
        """
        if (
            decodes == self.decodes
            and not prefill_tokens
            and waiting == self.waiting
            and paused == self.paused
            and context == self.context
            and -duration <= start - self.start - self.duration <= duration
        ):
            _MERGED(self.runs, self.place, self.duration + duration, self.steps + 1)
            self.steps += 1
            self.duration += duration
            self.context = context + decodes
        else:
            counts = (prefill_tokens, prompts, decodes, waiting, paused, kv_used)
            self.runs += _STEP(start, duration, 1, *counts, pairs, prior, context)
            self.place = len(self.runs) - _BACK
            self.start, self.duration, self.steps = start, duration, 1
            self.decodes = UNMATCHED if prefill_tokens else decodes
            self.waiting, self.paused, self.context = waiting, paused, context + decodes
            self.size += 1
        self.busy += duration

    def state(self, time: int, request: int, state: int) -> None:
        """Add that a request entered a state."""
        self.states += _STATE(time, request, state)
        self.size += 1

    def difference(self, time: int, request: int, difference: int, tokens: int) -> None:
        """Add what the recipe would have done otherwise."""
        if not 0 <= difference < len(DIFFERENCES):
            raise ValueError(f"difference {difference} is not an index into DIFFERENCES")
        self.differences += _DIFFERENCE(time, request, difference, tokens)
        self.size += 1

    def request(
        self, row: EndedRequest, prefix: Sequence[int] | Sequence[bytes], *names: int
    ) -> None:
        """Add a request that ended; `names` are the indices of reason, tenant and class."""
        ids = _packed(prefix)
        self.requests += _REQUEST(*row[:16], *names)
        self.ids += ids
        count = len(ids) // 8
        self.ends.append(count + (self.ends[-1] if self.ends else 0))
        self.size += 1 + count // IDS_PER_ROW

    def step_columns(self, replica: int) -> StepColumns:
        """Return the rows of steps as columns."""
        table = _table(self.runs, len(_STEP_FIELDS))
        columns = dict(zip(_STEP_FIELDS, table.T, strict=True))
        return StepColumns(**columns, replica=_all(replica, table))

    def request_columns(self, replica: int) -> tuple[IntArray, RequestColumns]:
        """Return the requests' numbers and their columns."""
        table = _table(self.requests, len(_REQUEST_FIELDS) + 1)
        columns = dict(zip(_REQUEST_FIELDS, table.T[1:], strict=True))
        return table[:, 0], RequestColumns(**columns, replica=_all(replica, table))

    def prefixes(self) -> Lists:
        """Return the prefix ids of the requests."""
        ends = np.concatenate(([0], np.frombuffer(self.ends, dtype=np.int64)))
        return Lists(ends, np.frombuffer(self.ids, dtype=np.int64))

    def transition_columns(self, replica: int) -> TransitionColumns | None:
        """Return the state changes with requests' numbers for rows; None if there are none."""
        if not self.states:
            return None
        table = _table(self.states, 3)
        time, request, state = table.T
        return TransitionColumns(time, request, state, _all(replica, table))

    def difference_columns(self, shadow: bool) -> DifferenceColumns | None:
        """Return the differences with requests' numbers for rows; None if none can be."""
        if not self.differences and not shadow:
            return None
        return DifferenceColumns(*_table(self.differences, 4).T)


def _packed(prefix: Sequence[int] | Sequence[bytes]) -> bytes:
    """Return ids as packed int64; of hashes the first eight bytes."""
    if not len(prefix):
        return b""
    if isinstance(prefix[0], bytes):
        # Joining and slicing takes a fifth of the time of a loop over the hashes.
        joined = np.frombuffer(b"".join(cast(Sequence[bytes], prefix)), dtype=np.uint8)
        return joined.reshape(len(prefix), -1)[:, :8].tobytes()
    return array("q", cast(Sequence[int], prefix)).tobytes()


def _table(packed: bytearray, width: int) -> IntArray:
    return np.frombuffer(packed, dtype=np.int64).reshape(-1, width)


def _all(value: int, table: IntArray) -> IntArray:
    return np.full(len(table), value, dtype=np.int64)
