"""Spot interruptions as others recorded them, turned into faults of a fleet.

A log says when nodes came and went (`event` is `add` or `remove`), or how many there were
(`nodes_alive`). Each node lost is a `spot` fault that hits a replica at random; it is over when the
log's next node that makes up for it comes. Nodes that come before the first loss, or beyond those
lost, are the log's own fleet growing, and nothing to ours.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Final

from sojourn.decide.clock import NEVER, Time, from_seconds
from sojourn.errors import UserError, shown, unknown
from sojourn.fleet.design import SPOT, Fault

NOTICE_SECONDS: Final = 120.0
"""Warning that AWS gives before it takes a spot instance (its documentation; others give 30 s)."""

NODES_MAX: Final = 100_000
SECONDS_MAX: Final = 1e9

Change = tuple[float, int]
"""Seconds from the start of a log, and by how many nodes it has more from then on."""


def bundled_spot_log(name: str) -> list[Change]:
    """Return the changes of a bundled log: `aws_g4dn` or `aws_p3`, of Bamboo (NSDI 2023)."""
    file = resources.files("sojourn.sim.fleet").joinpath("spot_events.csv")
    return _changes(file.read_text(encoding="utf-8").splitlines(), name, "the bundled spot log")


def read_spot_log(path: Path, name: str) -> list[Change]:
    """Return the changes of one log of a CSV file.

    Its columns are `trace`, `t_s` and either `event` or `nodes_alive`; lines with # are skipped.

    Raises:
        UserError: Naming what is missing or wrong.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UserError(f"cannot read the spot log {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"the spot log {path} is not text in UTF-8") from error
    return _changes(lines, name, str(path))


def _changes(lines: Iterable[str], name: str, where: str) -> list[Change]:
    try:
        rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    except csv.Error as error:
        raise UserError(f"{where} is no CSV file: {error}") from error
    columns = rows[0].keys() if rows else ()
    if not {"trace", "t_s"} <= set(columns) or not {"event", "nodes_alive"} & set(columns):
        raise UserError(f"{where} must have the columns trace, t_s and event or nodes_alive")
    names = list(dict.fromkeys(row["trace"] for row in rows))
    if name not in names:
        raise unknown(f"trace in {where}", name, names)
    found: list[Change] = []
    alive: int | None = None
    for row in rows:
        if row["trace"] != name:
            continue
        try:
            time = float(row["t_s"])
            if "event" in row:
                change = {"add": 1, "remove": -1}[row["event"]]
            else:
                now = int(row["nodes_alive"])
                change, alive = now - (now if alive is None else alive), now
                if not 0 <= now <= NODES_MAX:
                    raise ValueError
            if not abs(time) <= SECONDS_MAX:
                raise ValueError
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{where} has a line that is no event: {shown(dict(row))}") from error
        if change:
            found.append((time, change))
    return sorted(found, key=lambda one: one[0])


def spot_faults(
    changes: Sequence[Change],
    *,
    group: str = "",
    notice_seconds: float = NOTICE_SECONDS,
    start_seconds: float = 0.0,
    speed: float = 1.0,
) -> tuple[Fault, ...]:
    """Return the losses of a log as faults, in the order in which they are announced.

    Args:
        changes: The log.
        group: Whose replicas are hit; empty for all.
        notice_seconds: How long before a loss it is announced; less if the run begins later.
        start_seconds: Moment of the log at which the run begins.
        speed: How many times as fast as in the log everything happens; notices are not sped up.
    """
    if speed <= 0 or notice_seconds < 0:
        raise UserError("a spot log needs a speed above 0 and a notice of 0 seconds or more")
    open_losses: deque[int] = deque()
    losses: list[tuple[Time, Time]] = []
    for seconds, change in changes:
        time = from_seconds((seconds - start_seconds) / speed)
        if time < 0:
            continue
        for _ in range(abs(change)):
            if change < 0:
                open_losses.append(len(losses))
                losses.append((time, NEVER))
            elif open_losses:
                lost = open_losses.popleft()
                losses[lost] = (losses[lost][0], time - losses[lost][0])
    notice = from_seconds(notice_seconds)
    faults = [
        Fault(
            SPOT,
            max(time - notice, 0),
            group=group,
            duration=duration,
            notice=min(notice, time),
        )
        for time, duration in losses
    ]
    return tuple(sorted(faults, key=lambda one: one.time))
