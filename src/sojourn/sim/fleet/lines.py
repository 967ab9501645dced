"""Lines at the router: who waits there, first come first served in each line."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from sojourn.decide.request import Request
from sojourn.fleet.slots import Route


def lines_of(router: Route) -> int:
    """Return in how many lines a router lets requests wait: one, unless it says otherwise."""
    lines: int = getattr(router, "lines", 1)
    return lines


def send_first(kept: deque[Request], router: Route, send: Callable[[Request], bool]) -> None:
    """Send those who are first in their lines, until the first of each finds no place.

    With one line that touches nobody behind the first who finds none.
    """
    lines, line = lines_of(router), getattr(router, "line", lambda _: 0)
    shut: dict[int, bool] = {}
    left: list[Request] = []
    while kept and len(shut) < lines:
        request = kept.popleft()
        if line(request) in shut or not send(request):
            shut[line(request)] = True
            left.append(request)
    kept.extendleft(reversed(left))
