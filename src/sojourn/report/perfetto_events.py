"""Chrome's trace events, made from picoseconds and the numbers of processes and tracks."""

from __future__ import annotations

import json
from typing import Any, Final

PICOSECONDS_IN_NANOSECOND: Final = 1_000
STEPS_TRACK: Final = 1
LIFE_TRACK: Final = 2
FIRST_REQUEST_TRACK: Final = 10
NAME_MAX: Final = 60
"""Bytes of a name that the user or a recipe chose."""


def short(name: str) -> str:
    """Return as much of a name as the file has room for."""
    while len(json.dumps(name)) - 2 > NAME_MAX:
        name = name[:-1]
    return name


def request_track(request: int) -> int:
    """Return the track of a request, the same in every process."""
    return FIRST_REQUEST_TRACK + request


def microseconds(moment: int) -> float:
    """Return a moment as the format has it: cut to whole nanoseconds."""
    return moment // PICOSECONDS_IN_NANOSECOND / 1_000


def slice_event(
    name: str, process: int, track: int, span: tuple[int, int], args: dict[str, Any]
) -> dict[str, Any]:
    """Return a complete event over a span of picoseconds."""
    begin, end = (moment // PICOSECONDS_IN_NANOSECOND for moment in span)
    return {
        "ph": "X",
        "name": name,
        "pid": process,
        "tid": track,
        "ts": begin / 1_000,
        "dur": (end - begin) / 1_000,
        "args": args,
    }


def counter(name: str, process: int, moment: int, value: float) -> dict[str, Any]:
    """Return a counter event."""
    return {
        "ph": "C",
        "name": name,
        "pid": process,
        "ts": microseconds(moment),
        "args": {name: value},
    }


def instant(name: str, process: int, track: int, moment: int) -> dict[str, Any]:
    """Return an event without length, marked over all of its process."""
    return {
        "ph": "i",
        "name": name,
        "pid": process,
        "tid": track,
        "ts": microseconds(moment),
        "s": "p",
    }


def meta(name: str, process: int, track: int, args: dict[str, Any]) -> dict[str, Any]:
    """Return a metadata event."""
    return {"ph": "M", "name": name, "pid": process, "tid": track, "args": args}
