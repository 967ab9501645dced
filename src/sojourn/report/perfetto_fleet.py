"""A fleet in a timeline: the lives of replicas, transfers between them, and what they cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np

from sojourn.report.fleet_picture import DRAINING, cut_spans
from sojourn.report.perfetto_events import (
    LIFE_TRACK,
    NAME_MAX,
    counter,
    instant,
    meta,
    microseconds,
    request_track,
    short,
    slice_event,
)
from sojourn.steplog.fleet import FleetRecord, MoveRow, UnitRow
from sojourn.steplog.record import IntArray, RunRecord

LIFE_BYTES: Final = 3 * 160 + 2 * 2 * 110
"""Of a replica: three stays, and two changes of two counters."""
EVENT_BYTES: Final = 190
MOVE_BYTES: Final = 2 * 240 + 2 * 120
"""Of a move: the begin and the end of its transfer, and of its arrow."""
FLEET_BYTES: Final = 400
LINK_BYTES: Final = 150 + NAME_MAX
"""Of a link's track, and of each spell on it."""
ARROW: Final = "moved"
BETWEEN: Final = "between replicas"
"""What a request's stay without a replica is called in place of the state `new`."""

Bounded = tuple[dict[str, Any], int]
"""An event, and the most bytes that it takes."""


def process_name(fleet: FleetRecord | None, replica: int) -> str:
    """Return what a replica's process is called."""
    if fleet is None or replica >= len(fleet.units):
        return f"replica {replica}"
    unit = fleet.units[replica]
    parts = dict.fromkeys(short(part) for part in (unit.kind, unit.role, unit.hardware) if part)
    shown = [part for part in parts if part not in ("replica", "mixed")]
    return f"replica {replica}" + (f" ({', '.join(shown)})" if shown else "")


def moves_within(record: RunRecord, begin: int, end: int) -> IntArray:
    """Return the places of the moves that lie in a window, at least in part."""
    if record.fleet is None:
        return np.empty(0, dtype=np.int64)
    spans = [(one.began, one.ended) for one in record.fleet.moves]
    times = np.array(spans, dtype=np.int64).reshape(-1, 2)
    return np.flatnonzero((times[:, 0] < end) & (times[:, 1] > begin))


def fleet_bytes(record: RunRecord, begin: int, end: int) -> int:
    """Return the most bytes that `fleet_events` take in a window."""
    fleet = record.fleet
    if fleet is None:
        return 0
    told = sum(begin <= one.time <= end for one in fleet.events)
    moves = int(moves_within(record, begin, end).size)
    # A track for each link and its spells: no more tracks than spells.
    links = 2 * len(_cuts(fleet, begin, end)) * LINK_BYTES
    lives = len(fleet.units) * LIFE_BYTES
    return FLEET_BYTES + lives + told * EVENT_BYTES + moves * MOVE_BYTES + links


def fleet_events(
    record: RunRecord, begin: int, end: int, shown: Sequence[int]
) -> Iterator[Bounded]:
    """Yield the events of a window.

    Args:
        record: The run.
        begin: First moment of the window, in picoseconds.
        end: Its last moment.
        shown: Rows of the requests that have tracks; arrows join these.
    """
    fleet = record.fleet
    if fleet is None:
        return
    process = len(fleet.units) + 1
    yield meta("process_name", process, LIFE_TRACK, {"name": "fleet"}), FLEET_BYTES // 2
    drains = {one.replica: one.time for one in reversed(fleet.events) if one.what in DRAINING}
    for unit in fleet.units:
        yield from _life(unit, drains.get(unit.index, unit.ended), begin, end)
    yield from _counters(fleet, process, begin, end)
    yield from _links(fleet, process, begin, end)
    for one in fleet.events:
        if begin <= one.time <= end and 0 <= one.replica < len(fleet.units):
            event = instant(short(one.what), one.replica + 1, LIFE_TRACK, one.time)
            yield event, EVENT_BYTES
    tracks = set(shown)
    for place in moves_within(record, begin, end).tolist():
        yield from _move(place, fleet.moves[place], (begin, end), tracks)


def _life(unit: UnitRow, drain: int, begin: int, end: int) -> Iterator[Bounded]:
    """Yield a replica's stays: starting, up, draining."""
    up = unit.up if unit.up >= 0 else unit.ended
    drain = min(max(drain, up), unit.ended)
    stays = {"starting": (unit.asked, up), "up": (up, drain), "draining": (drain, unit.ended)}
    for name, (since, until) in stays.items():
        span = max(since, begin), min(until, end)
        if span[0] < span[1]:
            args = {"role": unit.role} if name == "up" else {}
            yield slice_event(name, unit.index + 1, LIFE_TRACK, span, args), LIFE_BYTES // 6


def _counters(fleet: FleetRecord, process: int, begin: int, end: int) -> Iterator[Bounded]:
    """Yield the replicas up and the price of all, whenever either changes."""
    changes: dict[int, list[float]] = {}
    for unit in fleet.units:
        hours = (unit.ended - unit.asked) / 3.6e15
        price = unit.dollars / hours if hours else 0.0
        for time, up, dollars in (
            (unit.up, 1, 0.0),
            (unit.ended if unit.up >= 0 else -1, -1, 0.0),
            (unit.asked, 0, price),
            (unit.ended, 0, -price),
        ):
            if time >= 0:
                at = changes.setdefault(max(time, begin), [0.0, 0.0])
                at[0] += up
                at[1] += dollars
    now = [0.0, 0.0]
    for time in sorted(changes):
        if time > end:
            break
        for place, name in enumerate(("replicas up", "dollars per hour")):
            now[place] += changes[time][place]
            if changes[time][place]:
                yield counter(name, process, time, round(now[place], 4)), LIFE_BYTES // 8


def _cuts(fleet: FleetRecord, begin: int, end: int) -> list[tuple[str, int, int]]:
    """Return the spells in which links were cut, as far as they lie in a window."""
    spans = [
        (between, max(since, begin), end if until is None else min(until, end))
        for between, since, until in cut_spans(fleet.events)
    ]
    return [span for span in spans if span[1] < span[2]]


def _links(fleet: FleetRecord, process: int, begin: int, end: int) -> Iterator[Bounded]:
    """Yield a track for each link that was cut, and the spells in which it was."""
    tracks: dict[str, int] = {}
    for between, since, until in _cuts(fleet, begin, end):
        name = short(f"link of {between}")
        if between not in tracks:
            tracks[between] = LIFE_TRACK + len(tracks)
            yield meta("thread_name", process, tracks[between], {"name": name}), LINK_BYTES
        yield slice_event("cut", process, tracks[between], (since, until), {}), LINK_BYTES


def _move(place: int, one: MoveRow, window: tuple[int, int], tracks: set[int]) -> Iterator[Bounded]:
    """Yield a move's transfer at its target, and an arrow between the request's two tracks."""
    begin, end = window
    shared = {
        "name": short(one.kind), "cat": "transfer", "id": place,
        "pid": one.target + 1, "tid": LIFE_TRACK,
    }  # fmt: skip
    args = {
        "request": one.request, "source": one.source, "bytes": one.bytes,
        "stages": one.stages, "outcome": short(one.outcome),
    }  # fmt: skip
    start, stop = max(one.began, begin), min(one.ended, end)
    yield {**shared, "ph": "b", "ts": microseconds(start), "args": args}, MOVE_BYTES // 3
    yield {**shared, "ph": "e", "ts": microseconds(stop)}, MOVE_BYTES // 3
    left = one.ended - one.down
    if one.down < 0 or one.outcome != "done" or one.request not in tracks:
        return
    if left < begin or one.ended > end:
        return
    arrow = {"name": ARROW, "cat": "move", "id": place, "tid": request_track(one.request)}
    yield (
        {**arrow, "ph": "s", "pid": one.source + 1, "ts": microseconds(left)},
        MOVE_BYTES // 6,
    )
    yield (
        {**arrow, "ph": "f", "bp": "e", "pid": one.target + 1, "ts": microseconds(one.ended)},
        MOVE_BYTES // 6,
    )
