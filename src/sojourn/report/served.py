"""What became of each request: durations, which SLOs it met, and what made it miss them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sojourn.decide.clock import NEVER, SECOND, from_seconds
from sojourn.steplog.record import FINISHED, SHED, UNFINISHED, IntArray, RunRecord, SloClass

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

CAUSES: Final = (
    "shed",
    "unfinished",
    "queueing",
    "prefill",
    "recomputed",
    "paused",
    "slow stream",
)
"""What a missed SLO is put down to, one cause for each request that missed; see `causes`."""


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """Facts about each request of a run, in row order (arrays of length n).

    Durations are float seconds and NaN where they are undefined.

    Attributes:
        arrived: The request reached the host before the run ended.
        finished: Its last token was delivered.
        shed: It was rejected.
        queue: Arrival to first grant; for a request that still waited when the run ended, to
            that end. Undefined for shed and cancelled requests that never had a grant.
        ttft: Arrival to first token, of requests not shed.
        tpot: Mean time per output token after the first, of finished requests with two or more.
        e2e: Arrival to last token, of finished requests.
        gap: Longest pause in a stream of two or more tokens, of requests not shed.
        met: It finished and met every SLO of its class; without an SLO, it finished.
        late_first: It finished and missed its bound on TTFT.
        late_last: It finished and missed its bound on E2E.
        begin: First arrival, in picoseconds; 0 when nothing arrived.
        end: The last moment the record knows of, in picoseconds.
    """

    arrived: BoolArray
    finished: BoolArray
    shed: BoolArray
    queue: FloatArray
    ttft: FloatArray
    tpot: FloatArray
    e2e: FloatArray
    gap: FloatArray
    met: BoolArray
    late_first: BoolArray
    late_last: BoolArray
    begin: int
    end: int


def served(record: RunRecord) -> Served:
    """Return the facts about each request; a class index of -1 stands for "no SLO".

    Bounds on TTFT and E2E are compared in whole picoseconds, so that a request exactly at its
    bound has met it.
    """
    rows = record.requests
    arrived = rows.arrival >= 0
    finished = arrived & (rows.outcome == FINISHED)
    shed = arrived & (rows.outcome == SHED)
    begin = int(rows.arrival[arrived].min()) if arrived.any() else 0
    end = max(begin, _last_moment(record))
    stayed = arrived & ~shed
    streams = rows.output_tokens > 1

    ttft = rows.first_token - rows.arrival
    e2e = rows.finish - rows.arrival
    pace = (rows.finish - rows.first_token) / np.maximum(rows.output_tokens - 1, 1)
    admitted = np.where(
        (rows.admitted < 0) & (rows.outcome == UNFINISHED), np.int64(end), rows.admitted
    )
    late_first = finished & (ttft > _bounds(record.classes, "ttft_seconds")[rows.slo_class])
    late_last = finished & (e2e > _bounds(record.classes, "e2e_seconds")[rows.slo_class])
    too_slow = finished & streams & (pace > _bounds(record.classes, "tpot_seconds")[rows.slo_class])
    return Served(
        arrived=arrived,
        finished=finished,
        shed=shed,
        queue=_seconds(admitted - rows.arrival, stayed & (admitted >= 0)),
        ttft=_seconds(ttft, stayed & (rows.first_token >= 0)),
        tpot=_seconds(pace, finished & streams),
        e2e=_seconds(e2e, finished),
        gap=_seconds(rows.gap, stayed & streams & (rows.first_token >= 0)),
        met=finished & ~late_first & ~late_last & ~too_slow,
        late_first=late_first,
        late_last=late_last,
        begin=begin,
        end=end,
    )


def causes(record: RunRecord, facts: Served) -> dict[str, int]:
    """Return how many requests missed an SLO for each of `CAUSES`, in that order.

    A request has one cause, the first that holds: it was shed; it did not finish; at least half
    of what was late (TTFT, or else E2E) went by before its first grant; its KV was dropped and
    computed again; it lost its seat in another way; its TTFT was late, or half of its E2E went
    by between first grant and first token; and for the rest the tokens came too slowly.
    """
    rows = record.requests
    missed = facts.arrived & ~facts.met
    late = facts.finished & missed
    prefill = np.where(late, facts.ttft - facts.queue, 0.0)
    tests = (
        facts.shed,
        missed & ~facts.finished,
        (facts.late_first & (2 * facts.queue >= facts.ttft))
        | (facts.late_last & (2 * facts.queue >= facts.e2e)),
        late & (rows.recomputed_tokens > 0),
        late & (rows.preemptions > 0),
        facts.late_first | (facts.late_last & (2 * prefill >= facts.e2e)),
        late,
    )
    names = ("shed", "unfinished", "queueing", "recomputed", "paused", "prefill", "slow stream")
    left = missed.copy()
    counts = dict.fromkeys(CAUSES, 0)
    for name, test in zip(names, tests, strict=True):
        hit = left & test
        counts[name] = int(hit.sum())
        left &= ~hit
    assert not left.any(), "every missed request has a cause"
    return counts


def replicas(record: RunRecord) -> int:
    """Return how many replicas the run had, at least one; those that never ran count too."""
    highest = max(int(record.notes.get("replicas", 1)), 1) - 1
    if record.fleet is not None:
        highest = max(highest, len(record.fleet.units) - 1)
    for column in (record.steps.replica, record.requests.replica):
        if column.size:
            highest = max(highest, int(column.max()))
    return highest + 1


def _bounds(classes: tuple[SloClass, ...], name: str) -> IntArray:
    """Return a bound for each class in picoseconds; the extra last one serves index -1."""
    asked = [getattr(one, name) for one in classes]
    bounds = [NEVER if bound is None else from_seconds(bound) for bound in asked]
    return np.array([*bounds, NEVER], dtype=np.int64)


def _seconds(durations: NDArray[np.int64] | FloatArray, where: BoolArray) -> FloatArray:
    """Return picoseconds as seconds, NaN elsewhere."""
    return np.where(where, durations / SECOND, np.nan)


def _last_moment(record: RunRecord) -> int:
    """Return the latest time that a record names, in picoseconds; 0 in an empty one."""
    rows, steps = record.requests, record.steps
    columns = (rows.arrival, rows.first_token, rows.finish, steps.start + steps.duration)
    return max((int(column.max()) for column in columns if column.size), default=0)
