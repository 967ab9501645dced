"""A timeline of one run that opens in Perfetto: steps, counters and the life of each request.

The format is Chrome's trace events ("Trace Event Format", JSON object form). Times are in
microseconds with three decimals: picoseconds are cut to whole nanoseconds, begin and end alike,
so slices that touch in the record touch in the file and none overlap.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from sojourn.decide.clock import to_seconds
from sojourn.errors import UserError
from sojourn.files import replacing
from sojourn.report.metrics import kv_blocks
from sojourn.report.perfetto_events import (
    LIFE_TRACK,
    STEPS_TRACK,
    counter,
    meta,
    request_track,
    slice_event,
)
from sojourn.report.perfetto_fleet import BETWEEN, fleet_bytes, fleet_events, process_name
from sojourn.report.served import replicas, served
from sojourn.report.slices import Slices, request_slices
from sojourn.steplog.record import FINISHED, OUTCOMES, IntArray, RunRecord

TRACKS_MAX: Final = 1_000
"""Requests shown at most; beyond that nobody finds a track."""
HALVINGS: Final = 40

# Upper bounds on the bytes of one line of each kind, checked by an assertion when written.
_STEP_BYTES: Final = 190
_COUNTER_BYTES: Final = 96
_SLICE_BYTES: Final = 190
_TRACK_BYTES: Final = 330
_HEAD_BYTES: Final = 4_096
_REPLICA_BYTES: Final = 1_500

_NOWHERE: Final = 0
"""Process of the requests that no replica has yet; replica r is process r + 1."""


@dataclass(frozen=True, slots=True)
class Window:
    """What a timeline shows.

    Attributes:
        begin: First moment shown, in picoseconds.
        end: Last moment shown.
        center: Row of the request it is centred on.
        requests: Rows of the requests with a track, in order.
        left_out: Requests alive in the window that have no track.
        whole: Whether it shows all of the run.
        bytes: Size of the file.
    """

    begin: int
    end: int
    center: int
    requests: tuple[int, ...]
    left_out: int
    whole: bool
    bytes: int


@dataclass(frozen=True, slots=True, eq=False)
class _Sources:
    """What every candidate window is cut from; `changes` as `_counter_changes` returns it."""

    record: RunRecord
    slices: Slices
    changes: IntArray


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """A candidate window: the rows it would show and the most bytes they can take."""

    begin: int
    end: int
    steps: IntArray
    slices: IntArray
    requests: IntArray
    alive: int
    bytes: int


def timeline(
    record: RunRecord,
    path: str | Path,
    center: int | None = None,
    max_bytes: int = 20_000_000,
) -> Window:
    """Write the timeline of a run to `path` and return what it shows.

    It shows the widest window, found by bisection, around the middle of one request's life whose
    size stays within `max_bytes`, and in it the tracks of at most `TRACKS_MAX` requests: those
    that ran there first, then those that arrived nearest to the centre.

    Args:
        record: A run with transitions.
        path: The file to write.
        center: Row of the request to centre on; the one at the 99th percentile of E2E if None.
        max_bytes: Most bytes that the file may have.

    Raises:
        UserError: If the run was not traced, the request is not in it, or the limit is too small.
    """
    if record.transitions is None:
        raise UserError(
            f"the run of {record.recipe!r} holds no changes of state: "
            "a timeline needs a run with tracing on"
        )
    count = record.requests.arrival.size
    if center is not None and not 0 <= center < count:
        raise UserError(f"request {center} is not in the run: allowed are 0 to {count - 1}")
    if not count:
        raise UserError(f"the run of {record.recipe!r} has no requests to show")
    row = p99_request(record) if center is None else center
    facts = served(record)
    slices = request_slices(record, facts.end)
    sources = _Sources(record, slices, _counter_changes(record))
    view = _widest(sources, row, (facts.begin, facts.end), max_bytes)
    window = Window(
        begin=view.begin,
        end=view.end,
        center=row,
        requests=tuple(int(one) for one in view.requests),
        left_out=view.alive - view.requests.size,
        whole=view.begin <= facts.begin and view.end >= facts.end,
        bytes=0,
    )
    size = _write(
        Path(path), _facts(record, window), _lines(record, slices, view, window), view.bytes
    )
    return replace(window, bytes=size)


def p99_request(record: RunRecord) -> int:
    """Return the row of the request at the 99th percentile of E2E time, of finished ones.

    The quickest of those at or above it; the first row when none finished.
    """
    rows = record.requests
    finished = np.flatnonzero((rows.outcome == FINISHED) & (rows.arrival >= 0))
    if not finished.size:
        return 0
    order = finished[np.argsort((rows.finish - rows.arrival)[finished], kind="stable")]
    return int(order[int(np.ceil(0.99 * (order.size - 1)))])


def _widest(sources: _Sources, center: int, span: tuple[int, int], max_bytes: int) -> _View:
    """Return the widest view that fits: all of the run, or what bisection finds."""
    rows = sources.record.requests
    came = int(rows.arrival[center]) if rows.arrival[center] >= 0 else span[0]
    left = int(rows.finish[center]) if rows.finish[center] >= 0 else span[1]
    middle = (came + left) // 2
    # Half of the bytes at most go to tracks as such, so that time is left to show on them.
    tracks = max(1, min(TRACKS_MAX, max_bytes // 2 // (_TRACK_BYTES + _SLICE_BYTES)))
    low, high = 0, max(span[1] - middle, middle - span[0]) + 1
    half = high
    best: _View | None = None
    for _ in range(HALVINGS):
        begin, end = max(span[0], middle - half), min(span[1], middle + half)
        view = _view(sources, center, (begin, end), tracks)
        if view.bytes <= max_bytes:
            best, low = view, half
        else:
            high = half
        half = (low + high) // 2
        if half == low:
            break
    if best is None:
        least = _view(sources, center, (middle, middle + 1), 1).bytes
        raise UserError(f"no timeline fits {max_bytes} bytes: allow at least {2 * least}")
    return best


def _counter_changes(record: RunRecord) -> IntArray:
    """Return for each step row how many counters differ from the replica's row before it."""
    steps = record.steps
    order = np.lexsort((steps.start, steps.replica))
    changes = np.zeros(order.size, dtype=np.int64)
    for column in (steps.waiting, steps.decodes + steps.prompts, steps.kv_used):
        changes[order[1:]] += np.diff(column[order]) != 0
    return changes


def _view(sources: _Sources, center: int, span: tuple[int, int], tracks: int) -> _View:
    """Return what a window would show and the most bytes that takes."""
    record, slices = sources.record, sources.slices
    begin, end = span
    steps = np.flatnonzero(
        (record.steps.start < end) & (record.steps.start + record.steps.duration > begin)
    )
    seen = np.flatnonzero((slices.begin < end) & (slices.end > begin))
    alive = np.unique(slices.request[seen])
    working = np.unique(slices.request[seen[~slices.queued[seen]]])
    idle = ~np.isin(alive, working)
    away = np.abs(record.requests.arrival[alive] - record.requests.arrival[center])
    rank = np.lexsort((alive, away, idle, alive != center))
    shown = np.sort(alive[rank[:tracks]])
    kept = seen[np.isin(slices.request[seen], shown)]
    size = (
        _HEAD_BYTES
        + replicas(record) * _REPLICA_BYTES
        + steps.size * _STEP_BYTES
        # The first row shown of each replica emits every counter.
        + (int(sources.changes[steps].sum()) + 3 * replicas(record)) * _COUNTER_BYTES
        + kept.size * _SLICE_BYTES
        # A request that migrates has a track in each replica it visits.
        + np.unique(slices.request[kept] * (replicas(record) + 1) + slices.process[kept]).size
        * _TRACK_BYTES
        + fleet_bytes(record, begin, end)
    )
    return _View(begin, end, steps, kept, shown, int(alive.size), int(size))


def _lines(
    record: RunRecord, slices: Slices, view: _View, window: Window
) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield the events with the bound on the bytes of each."""
    for process in range(replicas(record) + 1):
        nowhere = process == _NOWHERE
        name = "not placed" if nowhere else process_name(record.fleet, process - 1)
        if process != _NOWHERE or (slices.process[view.slices] == _NOWHERE).any():
            for event in _process_names(process, name, record.fleet is not None):
                yield event, _REPLICA_BYTES // 5
    yield from _step_events(record, view)
    yield from _request_events(record, slices, view, window)
    yield from fleet_events(record, view.begin, view.end, window.requests)


def _process_names(process: int, name: str, fleet: bool) -> Iterator[dict[str, Any]]:
    """Yield the events that name a process and its tracks of steps and, in a fleet, of life."""
    yield meta("process_name", process, STEPS_TRACK, {"name": name})
    yield meta("process_sort_index", process, STEPS_TRACK, {"sort_index": process})
    if process != _NOWHERE:
        yield meta("thread_name", process, STEPS_TRACK, {"name": "steps"})
        yield meta("thread_sort_index", process, STEPS_TRACK, {"sort_index": STEPS_TRACK})
    if fleet and process != _NOWHERE:
        yield meta("thread_name", process, LIFE_TRACK, {"name": "life"})


def _step_events(record: RunRecord, view: _View) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield the steps of each replica, and its counters where they change."""
    steps, blocks = record.steps, kv_blocks(record).tolist()
    ordered = view.steps[np.lexsort((steps.start[view.steps], steps.replica[view.steps]))]
    bounds = np.searchsorted(steps.replica[ordered], np.arange(replicas(record) + 1))
    for replica, low, high in zip(range(replicas(record)), bounds[:-1], bounds[1:], strict=True):
        mine = ordered[low:high]
        starts = steps.start[mine]
        ends = starts + steps.duration[mine]
        if mine.size:
            ends = np.minimum(ends, np.append(starts[1:], ends[-1]))
        before: dict[str, float] = {}
        for row, start, end in zip(mine.tolist(), starts.tolist(), ends.tolist(), strict=True):
            prefill, decodes = int(steps.prefill_tokens[row]), int(steps.decodes[row])
            used = round(int(steps.kv_used[row]) / blocks[replica], 4)
            kind = ("mixed" if decodes else "prefill") if prefill else "decode"
            process = replica + 1
            args = {
                "steps": int(steps.steps[row]),
                "prefill_tokens": prefill,
                "prompts": int(steps.prompts[row]),
                "decodes": decodes,
                "kv_use": used,
            }
            begin, end = max(start, view.begin), min(end, view.end)
            yield slice_event(kind, process, STEPS_TRACK, (begin, end), args), _STEP_BYTES
            counters = {
                "waiting": int(steps.waiting[row]),
                "running": decodes + int(steps.prompts[row]),
                "KV use": used,
            }
            for name, value in counters.items():
                if before.get(name) != value:
                    yield counter(name, process, begin, value), _COUNTER_BYTES
            before = dict(counters)


def _request_events(
    record: RunRecord, slices: Slices, view: _View, window: Window
) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield the slices of each request shown, under a name for its track in each process."""
    rows = record.requests
    named: set[tuple[int, int]] = set()
    for at in view.slices.tolist():
        request, process = int(slices.request[at]), int(slices.process[at])
        track = request_track(request)
        if (process, track) not in named:
            named.add((process, track))
            mark = " (centre)" if request == window.center else ""
            name = f"request {request}{mark}"
            yield meta("thread_name", process, track, {"name": name}), _TRACK_BYTES // 2
            yield (
                meta("thread_sort_index", process, track, {"sort_index": track}),
                _TRACK_BYTES // 2,
            )
        args: dict[str, Any] = {
            "prompt_tokens": int(rows.prompt_tokens[request]),
            "output_tokens": int(rows.output_tokens[request]),
            "outcome": OUTCOMES[int(rows.outcome[request])],
        }
        begin, end = max(int(slices.begin[at]), view.begin), min(int(slices.end[at]), view.end)
        state = record.states[int(slices.state[at])]
        state = BETWEEN if state == "new" else state
        yield slice_event(state, process, track, (begin, end), args), _SLICE_BYTES


def _facts(record: RunRecord, window: Window) -> dict[str, Any]:
    """Return what the file says about itself."""
    return {
        "recipe": record.recipe[:200],
        "load": record.load,
        "centre_request": window.center,
        "begin_seconds": to_seconds(window.begin),
        "end_seconds": to_seconds(window.end),
        "whole_run": window.whole,
        "requests_shown": len(window.requests),
        "requests_left_out": window.left_out,
    }


def _write(
    path: Path, facts: dict[str, Any], events: Iterator[tuple[dict[str, Any], int]], most: int
) -> int:
    """Write the events to a file that appears whole or not at all; return its bytes."""
    size = 0
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="\n") as out:
        head = json.dumps(facts)
        assert len(head) <= _HEAD_BYTES // 2, f"facts of {len(head)} bytes"
        size += out.write(f'{{"displayTimeUnit":"ms","otherData":{head},"traceEvents":[')
        glue = "\n"
        for event, bound in events:
            text = json.dumps(event, separators=(",", ":"), allow_nan=False)
            assert len(text) + 2 <= bound, f"an event of {len(text)} bytes exceeds {bound}"
            size += out.write(glue) + out.write(text)
            glue = ",\n"
        size += out.write("\n]}\n")
        assert size <= most, f"the timeline has {size} bytes, its estimate was {most}"
    return size
