"""What a fleet's run leaves behind, beside the rows of requests and steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

REPLICA_LOST: Final = "its replica was lost"
NO_REPLICA: Final = "no replica was left to serve it"
FAILED: Final = (REPLICA_LOST, NO_REPLICA)
"""Reasons for which a fleet, and no policy, ends a request."""
PARTED: Final = " parted"
JOINED: Final = " joined again"
"""How the events of a link end, after the names of the two groups."""


@dataclass(frozen=True, slots=True)
class UnitRow:
    """A replica's life; times in picoseconds, -1 for never.

    Attributes:
        index, kind, role, hardware, gpus: Which it is; the role is its last.
        asked, up, ended: When it was asked for, came up and went; `ended` is the end of the run for
            those that were there to the last.
        dollars: What it cost from being asked for to its end.
        requests: Requests sent to it.
        blocks, seats: KV blocks that requests can use, and seats; 0 if unknown.
    """

    index: int
    kind: str
    role: str
    hardware: str
    gpus: int
    asked: int
    up: int
    ended: int
    dollars: float
    requests: int
    blocks: int = 0
    seats: int = 0


@dataclass(frozen=True, slots=True)
class MoveRow:
    """A move of a request; times in picoseconds.

    Attributes:
        kind: `handover`, `migration` or `fetch` (of a prefix, before the prompt is computed).
        request: Row of the request.
        source, target: Indices of replicas.
        began, ended: From the first copy asked for to the end.
        down: From losing its seat at the source to its KV being complete at the target, and of a
            fetch all its time; -1 if it never lost its seat.
        bytes, stages: Copied bytes, and copies.
        outcome: How it ended.
    """

    kind: str
    request: int
    source: int
    target: int
    began: int
    ended: int
    down: int
    bytes: int
    stages: int
    outcome: str


@dataclass(frozen=True, slots=True)
class FleetEvent:
    """Something that happened to a replica: up, crash, drain, role, slow, ...; -1: a link."""

    time: int
    replica: int
    what: str


@dataclass(slots=True)
class FleetRecord:
    """The fleet side of a run.

    Attributes:
        design: Name of the fleet.
        units, moves, events: See the rows.
        lost_requests: Times that a request was on a replica when it was lost.
        lost_tokens: Tokens that had been streamed and had to be generated again.
        routing_seconds: CPU time of the router's and the placer's decisions (of this machine).
        routings: Decisions of the router.
    """

    design: str
    units: list[UnitRow] = field(default_factory=list)
    moves: list[MoveRow] = field(default_factory=list)
    events: list[FleetEvent] = field(default_factory=list)
    lost_requests: int = 0
    lost_tokens: int = 0
    routing_seconds: float = 0.0
    routings: int = 0

    @property
    def dollars(self) -> float:
        """What the fleet cost."""
        return sum(unit.dollars for unit in self.units)
