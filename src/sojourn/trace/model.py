"""A workload: one row for each request, in the order in which requests reach the host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from sojourn.errors import UserError
from sojourn.trace.checks import Place, check_prefixes, check_rows, check_sessions

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
Kind = TypeVar("Kind", bound=np.generic)

UNNAMED: Final = "default"
"""The tenant, model or SLO class of a request whose source names none."""


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """A workload as read-only columns of n requests, made by `build_trace`.

    Rows are sorted by arrival, then by their order in the source. A row whose arrival is NaN in a
    trace that has arrivals is a later turn of a session: it stands behind the turn before it and
    arrives `tool_seconds` after that turn was answered.

    Attributes:
        name: What to call it in reports.
        arrival_seconds: Seconds from the trace's start; NaN where the source has none.
        prompt_tokens: All tokens of the prompt, cached ones included; at least 1.
        output_tokens: Tokens to generate; at least 1.
        session: Index into `sessions`; -1 for a request outside any session.
        sessions: Names of conversations or agent runs.
        turn: Place of the request among the calls of its session, from 0; 0 outside sessions.
        tool_seconds: Pause of the client between the previous answer and this call; NaN = unknown.
        tenant: Index into `tenants`.
        tenants: Names of tenants; only `UNNAMED` when the source names none.
        model: Index into `models`.
        models: Names of models; only `UNNAMED` when the source names none.
        slo_class: Index into `slo_classes`, or None when the source has no such column.
        slo_classes: Names of SLO classes.
        prefix_offsets: Where each request's ids begin in `prefix_ids` (length n + 1), or None.
        prefix_ids: Ids of the prompts' blocks, front to back, or None. Equal ids mean equal
            blocks behind equal prefixes. The last, partial block may or may not have an id.
        block_tokens: Tokens in a block; 0 when there are no ids.
        notices: What reading changed or left out, one sentence each.
    """

    name: str
    arrival_seconds: FloatArray
    prompt_tokens: IntArray
    output_tokens: IntArray
    session: IntArray
    sessions: tuple[str, ...]
    turn: IntArray
    tool_seconds: FloatArray
    tenant: IntArray
    tenants: tuple[str, ...]
    model: IntArray
    models: tuple[str, ...]
    slo_class: IntArray | None = None
    slo_classes: tuple[str, ...] = ()
    prefix_offsets: IntArray | None = None
    prefix_ids: IntArray | None = None
    block_tokens: int = 0
    notices: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.prompt_tokens)

    @property
    def has_arrivals(self) -> bool:
        """Whether the source says when requests arrived."""
        return not bool(np.isnan(self.arrival_seconds).all())

    @property
    def has_sessions(self) -> bool:
        """Whether any request belongs to a session."""
        return bool(self.sessions)

    def prefix(self, row: int) -> IntArray:
        """Return the block ids of one prompt; empty when the trace has none."""
        if self.prefix_offsets is None or self.prefix_ids is None:
            return np.empty(0, dtype=np.int64)
        return self.prefix_ids[self.prefix_offsets[row] : self.prefix_offsets[row + 1]]

    def take(self, indices: Sequence[int] | IntArray | NDArray[np.bool_]) -> Trace:
        """Return the trace of the given rows (distinct indices or a mask), still in trace order.

        Raises:
            UserError: If no row is left, or a later turn without an arrival lost its first turn.
        """
        given = np.asarray(indices)
        rows = np.flatnonzero(given) if given.dtype == np.bool_ else np.sort(given.astype(np.int64))
        offsets, ids = gather_prefixes(self.prefix_offsets, self.prefix_ids, rows)
        return build_trace(
            name=self.name,
            arrival_seconds=self.arrival_seconds[rows],
            prompt_tokens=self.prompt_tokens[rows],
            output_tokens=self.output_tokens[rows],
            session=self.session[rows],
            sessions=self.sessions,
            turn=self.turn[rows],
            tool_seconds=self.tool_seconds[rows],
            tenant=self.tenant[rows],
            tenants=self.tenants,
            model=self.model[rows],
            models=self.models,
            slo_class=None if self.slo_class is None else self.slo_class[rows],
            slo_classes=self.slo_classes,
            prefix_offsets=offsets,
            prefix_ids=ids,
            block_tokens=self.block_tokens,
            notices=self.notices,
        )

    def head(self, limit: int) -> Trace:
        """Return the first `limit` requests (all of them when there are fewer)."""
        if limit < 1:
            raise UserError(f"limit is {limit}; it must be at least 1")
        return self if limit >= len(self) else self.take(np.arange(limit))

    def equals(self, other: Trace) -> bool:
        """Return whether both hold the same workload; names and notices do not count."""
        same_names = (self.sessions, self.tenants, self.models, self.slo_classes) == (
            (other.sessions, other.tenants, other.models, other.slo_classes)
        )
        return (
            same_names
            and self.block_tokens == other.block_tokens
            and all(
                _same(getattr(self, column), getattr(other, column), nan=column.endswith("seconds"))
                for column in _COLUMNS
            )
        )


_COLUMNS: Final = (
    "arrival_seconds",
    "prompt_tokens",
    "output_tokens",
    "session",
    "turn",
    "tool_seconds",
    "tenant",
    "model",
    "slo_class",
    "prefix_offsets",
    "prefix_ids",
)


def _same(
    left: NDArray[np.generic] | None, right: NDArray[np.generic] | None, *, nan: bool
) -> bool:
    if left is None or right is None:
        return left is right
    return bool(np.array_equal(left, right, equal_nan=nan))


def build_trace(
    *,
    name: str,
    prompt_tokens: IntArray,
    output_tokens: IntArray,
    arrival_seconds: FloatArray | None = None,
    session: IntArray | None = None,
    sessions: Sequence[str] = (),
    turn: IntArray | None = None,
    tool_seconds: FloatArray | None = None,
    tenant: IntArray | None = None,
    tenants: Sequence[str] = (UNNAMED,),
    model: IntArray | None = None,
    models: Sequence[str] = (UNNAMED,),
    slo_class: IntArray | None = None,
    slo_classes: Sequence[str] = (),
    prefix_offsets: IntArray | None = None,
    prefix_ids: IntArray | None = None,
    block_tokens: int = 0,
    notices: Sequence[str] = (),
    place: Place | None = None,
) -> Trace:
    """Return a checked trace: rows sorted, names numbered in order of first appearance.

    Columns are those of `Trace`; absent ones get "unknown". Absent turns are counted in order of
    arrival. `place` says what to call a row in an error.

    Raises:
        UserError: If any row breaks a rule of `Trace`, naming the first such row.
    """
    where = place or Place(name)
    count = len(prompt_tokens)
    arrival = _floats(arrival_seconds, count)
    tool = _floats(tool_seconds, count)
    if session is None:
        session = np.full(count, -1, dtype=np.int64)
    check_rows(where, arrival, prompt_tokens, output_tokens, tool)
    if turn is None:
        turn = _count_turns(session, arrival)
    effective = check_sessions(where, session, sessions, turn, arrival)
    check_prefixes(where, prompt_tokens, prefix_offsets, prefix_ids, block_tokens)
    order, sorting = _order(session, turn, effective)
    offsets, ids = gather_prefixes(prefix_offsets, prefix_ids, order)
    zeros = np.zeros(count, dtype=np.int64)
    session, session_names = _compact(session[order], sessions)
    tenant, tenant_names = _compact((zeros if tenant is None else tenant)[order], tenants)
    model, model_names = _compact((zeros if model is None else model)[order], models)
    if slo_class is not None:
        slo_class, slo_classes = _compact(slo_class[order], slo_classes)
    return Trace(
        name=name,
        arrival_seconds=_frozen(arrival[order]),
        prompt_tokens=_frozen(prompt_tokens[order].astype(np.int64)),
        output_tokens=_frozen(output_tokens[order].astype(np.int64)),
        session=_frozen(session),
        sessions=session_names,
        turn=_frozen(turn[order].astype(np.int64)),
        tool_seconds=_frozen(tool[order]),
        tenant=_frozen(tenant),
        tenants=tenant_names,
        model=_frozen(model),
        models=model_names,
        slo_class=None if slo_class is None else _frozen(slo_class),
        slo_classes=tuple(slo_classes),
        prefix_offsets=None if offsets is None else _frozen(offsets),
        prefix_ids=None if ids is None else _frozen(ids),
        block_tokens=block_tokens if ids is not None else 0,
        notices=(*notices, *sorting),
    )


def gather_prefixes(
    offsets: IntArray | None, ids: IntArray | None, rows: IntArray
) -> tuple[IntArray | None, IntArray | None]:
    """Return offsets and ids of the given rows, in the given order."""
    if offsets is None or ids is None:
        return None, None
    starts, counts = offsets[rows], offsets[rows + 1] - offsets[rows]
    new = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)])
    flat = np.repeat(starts - new[:-1], counts) + np.arange(new[-1])
    return new, ids[flat]


def _floats(column: FloatArray | None, count: int) -> FloatArray:
    return np.full(count, np.nan) if column is None else column.astype(np.float64)


def _frozen(column: NDArray[Kind]) -> NDArray[Kind]:
    column.setflags(write=False)
    return column


def _compact(index: IntArray, names: Sequence[str]) -> tuple[IntArray, tuple[str, ...]]:
    """Renumber names by first appearance, so that equal workloads have equal columns."""
    used, first, inverse = np.unique(index, return_index=True, return_inverse=True)
    by_appearance = np.argsort(first, kind="stable")
    kept = used[by_appearance]
    kept = kept[kept >= 0]
    number = np.full(len(used), -1, dtype=np.int64)
    number[np.searchsorted(used, kept)] = np.arange(len(kept))
    return number[inverse.reshape(-1)], tuple(names[int(k)] for k in kept)


def _count_turns(session: IntArray, arrival: FloatArray) -> IntArray:
    """Number the rows of each session from 0, by arrival and then by row."""
    order = np.lexsort((np.arange(len(session)), arrival, session))
    ranks = np.arange(len(session))
    starts = np.searchsorted(session[order], session[order], side="left")
    turn = np.empty(len(session), dtype=np.int64)
    turn[order] = ranks - starts
    turn[session < 0] = 0
    return turn


def _order(
    session: IntArray, turn: IntArray, effective: FloatArray
) -> tuple[IntArray, tuple[str, ...]]:
    """Return the rows in trace order and a notice when the source had another order."""
    row = np.arange(len(session))
    place = row.copy()
    # Within a session the k-th turn takes the k-th of the session's places, so that turns that
    # arrive together, or without a time, still come in turn order.
    place[np.lexsort((row, np.where(session < 0, 0, turn), session))] = row[
        np.lexsort((row, session))
    ]
    order = np.lexsort((place, effective)).astype(np.int64)
    if np.array_equal(order, row):
        return order, ()
    late = int(np.count_nonzero(effective < np.maximum.accumulate(effective)))
    if late:
        plural = "arrival was" if late == 1 else "arrivals were"
        return order, (f"{late} {plural} out of order: sorted",)
    return order, ("turns of some sessions were out of order: sorted",)
