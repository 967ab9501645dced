"""What the page's view of a fleet is drawn from: replicas over time, moves, events and cost.

Its size is bounded: of very many replicas, neighbours of a group share a lane, which shows their
mean; of very many moves and events, an even part is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np

from sojourn.decide.clock import SECOND
from sojourn.report.metrics import kv_blocks
from sojourn.report.series import binned, even_edges, rows_by_replica, up_shares
from sojourn.report.served import FloatArray, Served
from sojourn.steplog.fleet import JOINED, PARTED, FleetEvent, FleetRecord, MoveRow, UnitRow
from sojourn.steplog.record import RunRecord

Item = TypeVar("Item")

LANES_MAX: Final = 96
BINS: Final = 240
MOVES_MAX: Final = 1_200
EVENTS_MAX: Final = 300
LINKS_MAX: Final = 8
"""Rows of links that were cut; of more, all others share the last."""
LIFE_EVENTS: Final = frozenset({"up", "asked for", "draining", "drained"})
"""Events that a lane shows as such, so they need no mark."""
DRAINING: Final = ("draining", "spot notice")


@dataclass(frozen=True, slots=True)
class Lane:
    """A replica, or neighbours of one group that share a row of the picture.

    Attributes:
        first, last: Indices of the first and the last replica.
        count: How many they are.
        group, role: Of the first.
        asked, up, draining, ended: Seconds since the first arrival; the first to be asked for and
            up, the last to drain and end; None for never. `draining` is of a single replica only.
    """

    first: int
    last: int
    count: int
    group: str
    role: str
    asked: float
    up: float | None
    draining: float | None
    ended: float


@dataclass(frozen=True, slots=True)
class Arc:
    """A move between lanes; times in seconds since the first arrival."""

    began: float
    ended: float
    source: int
    target: int
    kind: str
    outcome: str


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened to a replica of a lane, at a time in seconds."""

    time: float
    lane: int
    replica: int
    what: str


@dataclass(frozen=True, slots=True)
class Cut:
    """A spell in which nothing went between two groups.

    Attributes:
        between: Names of the groups, as the event has them.
        began, ended: In seconds since the first arrival; `ended` is None if it lasted.
    """

    between: str
    began: float
    ended: float | None


@dataclass(frozen=True, slots=True, eq=False)
class FleetPicture:
    """A fleet over time; picklable.

    Attributes:
        design: Name of the fleet.
        bin_seconds: Width of a bin; the first begins at the first arrival.
        lanes: Rows of the picture, by group.
        heat: By measure (`kv`, `waiting`, `running`, `busy`) the mean of each lane's replicas in
            each bin; NaN where none of them was up.
        up, starting: Replicas that were up, and that were asked for, in each bin.
        dollars: What the fleet had cost at the end of each bin.
        arcs: Moves, in order of their begin.
        moves: How many moves there were in all.
        marks: Events of replicas, in order of time.
        cuts: Spells in which links were cut, in order of their begin.
    """

    design: str
    bin_seconds: float
    lanes: tuple[Lane, ...]
    heat: Mapping[str, FloatArray]
    up: FloatArray
    starting: FloatArray
    dollars: FloatArray
    arcs: tuple[Arc, ...]
    moves: int
    marks: tuple[Mark, ...]
    cuts: tuple[Cut, ...]


def fleet_picture(record: RunRecord, facts: Served) -> FleetPicture | None:
    """Return the picture of a run's fleet; None of a run without one."""
    fleet = record.fleet
    if fleet is None or not fleet.units:
        return None
    edges = even_edges(facts, BINS)
    bands = _bands(fleet.units)
    lane_of = {unit.index: place for place, band in enumerate(bands) for unit in band}
    starting, dollars = np.zeros(BINS), np.zeros(BINS)
    for unit in fleet.units:
        until = unit.up if unit.up >= 0 else unit.ended
        starting += up_shares(unit.asked, until, facts.begin, edges)
        spent = np.cumsum(up_shares(unit.asked, unit.ended, facts.begin, edges)) * edges[1]
        life = (unit.ended - unit.asked) / SECOND
        dollars += unit.dollars * spent / life if life else 0.0
    heat, up = _heat(record, facts, edges, lane_of)
    return FleetPicture(
        design=fleet.design,
        bin_seconds=float(edges[1]),
        lanes=tuple(_lane(band, fleet, facts.begin) for band in bands),
        heat=heat,
        up=up.sum(axis=0),
        starting=starting,
        dollars=dollars,
        arcs=_arcs(fleet.moves, lane_of, facts.begin),
        moves=len(fleet.moves),
        marks=_marks(fleet.events, lane_of, facts.begin),
        cuts=tuple(
            Cut(
                between,
                (since - facts.begin) / SECOND,
                None if until is None else (until - facts.begin) / SECOND,
            )
            for between, since, until in _part(cut_spans(fleet.events), EVENTS_MAX)
        ),
    )


def cut_spans(events: Sequence[FleetEvent]) -> list[tuple[str, int, int | None]]:
    """Return the spells in which links were cut: the names of both groups, begin and end.

    Several cuts of one link that overlap are one spell: it carries something again only after the
    last of them. The end is None if there is none in the run.
    """
    spans: list[tuple[str, int, int | None]] = []
    open_cuts: dict[str, int] = {}
    place: dict[str, int] = {}
    for one in events:
        if one.replica >= 0:
            continue
        if one.what.endswith(PARTED):
            between = one.what.removesuffix(PARTED)
            if not open_cuts.get(between):
                place[between] = len(spans)
                spans.append((between, one.time, None))
            open_cuts[between] = open_cuts.get(between, 0) + 1
        elif one.what.endswith(JOINED):
            between = one.what.removesuffix(JOINED)
            open_cuts[between] = open_cuts.get(between, 0) - 1
            if open_cuts[between] == 0:
                spans[place[between]] = (between, spans[place[between]][1], one.time)
    return spans


def _bands(units: Sequence[UnitRow]) -> list[list[UnitRow]]:
    """Return the replicas of each lane: by group, neighbours together if there are too many."""
    groups: dict[str, list[UnitRow]] = {}
    for unit in units:
        groups.setdefault(unit.kind, []).append(unit)
    size = -(-len(units) // LANES_MAX)
    return [
        group[place : place + size]
        for group in groups.values()
        for place in range(0, len(group), size)
    ]


def _lane(band: Sequence[UnitRow], fleet: FleetRecord, begin: int) -> Lane:
    first = band[0]
    ups = [unit.up for unit in band if unit.up >= 0]
    drains = [
        one.time
        for one in fleet.events
        if len(band) == 1 and one.replica == first.index and one.what in DRAINING
    ]
    return Lane(
        first=first.index,
        last=band[-1].index,
        count=len(band),
        group=first.kind,
        role=first.role,
        asked=(min(unit.asked for unit in band) - begin) / SECOND,
        up=(min(ups) - begin) / SECOND if ups else None,
        draining=(min(drains) - begin) / SECOND if drains else None,
        ended=(max(unit.ended for unit in band) - begin) / SECOND,
    )


def _heat(
    record: RunRecord, facts: Served, edges: FloatArray, lane_of: Mapping[int, int]
) -> tuple[dict[str, FloatArray], FloatArray]:
    """Return the measures of each lane in each bin, and how many of its replicas were up."""
    fleet, steps = record.fleet, record.steps
    assert fleet is not None, "a fleet"
    columns = {
        "kv": steps.kv_used,
        "waiting": steps.waiting,
        "running": steps.decodes + steps.prompts,
        "busy": np.ones_like(steps.waiting),
    }
    blocks = kv_blocks(record)
    shape = (max(lane_of.values()) + 1, edges.size - 1)
    sums = {name: np.zeros(shape) for name in columns}
    up, room = np.zeros(shape), np.zeros(shape)
    for index, mine in rows_by_replica(steps, len(fleet.units)):
        lane, unit = lane_of[index], fleet.units[index]
        shares = up_shares(unit.up, unit.ended, facts.begin, edges)
        up[lane] += shares
        room[lane] += shares * blocks[index]
        for name, column in columns.items():
            sums[name][lane] += binned(steps, facts.begin, mine, column, edges)
    over = {name: room if name == "kv" else up for name in columns}
    return {
        name: np.divide(sums[name], over[name], out=np.full(shape, np.nan), where=over[name] > 1e-9)
        for name in columns
    }, up


def _arcs(moves: Sequence[MoveRow], lane_of: Mapping[int, int], begin: int) -> tuple[Arc, ...]:
    """Return the moves, or an even part of those of each kind and outcome, by their begin."""
    kinds: dict[tuple[str, str], list[MoveRow]] = {}
    for one in moves:
        kinds.setdefault((one.kind, one.outcome), []).append(one)
    kept: list[MoveRow] = []
    for some in kinds.values():
        # The rarest are not to vanish among the many.
        most = max(MOVES_MAX // 10, round(MOVES_MAX * len(some) / len(moves)))
        kept += _part(some, most)
    kept.sort(key=lambda one: (one.began, one.request))
    return tuple(
        Arc(
            began=(one.began - begin) / SECOND,
            ended=(one.ended - begin) / SECOND,
            source=lane_of[one.source],
            target=lane_of[one.target],
            kind=one.kind,
            outcome=one.outcome,
        )
        for one in kept
    )


def _marks(
    events: Sequence[FleetEvent], lane_of: Mapping[int, int], begin: int
) -> tuple[Mark, ...]:
    told = [one for one in events if one.what not in LIFE_EVENTS and one.replica in lane_of]
    return tuple(
        Mark((one.time - begin) / SECOND, lane_of[one.replica], one.replica, one.what)
        for one in _part(told, EVENTS_MAX)
    )


def _part(items: Sequence[Item], most: int) -> list[Item]:
    """Return at most so many of the items, evenly spaced."""
    if len(items) <= most:
        return list(items)
    return [items[len(items) * place // most] for place in range(most)]
