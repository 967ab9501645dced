"""Capacity: the highest rate of a workload at which the queue of a recipe does not grow.

A *pass* is the workload once, or so many times over that it has `REQUESTS_PER_SEAT` requests for
each seat (fewer would all find a seat and never wait) and `REQUESTS_MIN` in all. The workload is
repeated cyclically, each copy shifted by its span and one mean gap, its sessions and prompts
distinct from those before. Two passes run at a scaled rate. The queue grows if at the end of the
second more requests wait for their first seat than at the end of the first, by more than 1 % of the
pass's arrivals, at least `GROWTH_MIN`. (A turn that follows another is no arrival here: a session
has at most one request in the queue. Where prompts and answers are computed on separate replicas,
those that wait between the two count as well.) If no more than that wait after the first pass, the
second would begin as the first did, and is not run. The search starts at the throughput of one pass
sent at once and narrows to 1 %. Sessions so few that all their requests find seats and blocks never
queue, at any rate: their capacity cannot be measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import sqrt
from typing import TYPE_CHECKING, Final

import numpy as np

from sojourn.decide.clock import NEVER, SECOND, Time
from sojourn.errors import UserError
from sojourn.fleet.design import Design
from sojourn.fleet.views import DECODE
from sojourn.sim.fleet.fetches import FETCH
from sojourn.sim.fleet.loop import FleetSimulation
from sojourn.sim.fleet.moves import HANDOVER
from sojourn.sim.fleet.start import start
from sojourn.sim.loop import Setup, Simulation
from sojourn.sim.workload import Workload

if TYPE_CHECKING:
    from sojourn.engine.replica import Replica
    from sojourn.steplog.record import RunRecord

REQUESTS_PER_SEAT: Final = 8
REQUESTS_MIN: Final = 1_000
REQUESTS_MAX: Final = 5_000_000
"""Most requests of a pass: what memory holds, and longer than anybody waits."""
GROWTH_SHARE: Final = 0.01
GROWTH_MIN: Final = 2
BUSY_SHARE: Final = 0.9
"""Part of a pass sent at once whose finishes tell the throughput."""
PRECISION: Final = 0.01
"""The rate found and the lowest rate that is too high differ by at most this share."""
BRACKET_RATIO: Final = 1.05
"""First step away from where the search starts; each further one is twice as large."""
BRACKET_RATIO_MAX: Final = 2.0
PROBES_MAX: Final = 64

INSTEAD: Final = "give --rate-scale instead of --load"


@dataclass(frozen=True, slots=True)
class Probe:
    """One rate tried.

    Attributes:
        rate_scale: Factor on the workload's own rate.
        requests_per_second: The rate.
        waiting_first: Requests waiting for their first seat at the end of the first pass.
        waiting_second: The same at the end of the second; None if it was not run.
        grows: Whether the queue grows.
    """

    rate_scale: float
    requests_per_second: float
    waiting_first: int
    waiting_second: int | None
    grows: bool


@dataclass(frozen=True, slots=True)
class Capacity:
    """The highest rate at which the queue does not grow.

    Attributes:
        rate_scale: Factor on the workload's own rate.
        requests_per_second: `rate_scale` times the workload's mean rate.
        probes: The rates tried, in order.
    """

    rate_scale: float
    requests_per_second: float
    probes: tuple[Probe, ...]


def mean_rate(workload: Workload) -> float:
    """Return the mean rate in requests per second, follow-up turns included.

    Raises:
        UserError: If the workload has no rate: one request, or all at one moment.
    """
    return len(workload) / (_period(workload) / SECOND)


def _period(workload: Workload) -> Time:
    """Return the span and one mean gap: what it takes until the workload may begin again."""
    own = sum(1 for time in workload.arrival if time >= 0)
    if own < 2:
        raise UserError(
            f"trace {workload.name!r} has one arrival, hence no rate to scale: {INSTEAD}"
        )
    if workload.span <= 0:
        raise UserError(
            f"all {own} requests of trace {workload.name!r} arrive at one moment, hence it has "
            f"no rate to scale: {INSTEAD}"
        )
    return workload.span + workload.span // (own - 1)


def repeat(workload: Workload, copies: int) -> Workload:
    """Return the workload so many times over, one after the other.

    Copies have their own sessions and their own prefixes: a cache finds nothing of an earlier one.
    """
    count, period = len(workload), _period(workload)
    first = min(time for time in workload.arrival if time >= 0)
    sessions = max(workload.program, default=-1) + 1
    ids = 1 + max((max(one) for one in workload.prefix if one), default=-1)
    each = range(copies)
    return replace(
        workload,
        arrival=[
            time - first + copy * period if time >= 0 else -1
            for copy in each
            for time in workload.arrival
        ],
        prompt=workload.prompt * copies,
        output=workload.output * copies,
        tenant=workload.tenant * copies,
        slo_class=workload.slo_class * copies,
        program=[
            one + copy * sessions if one >= 0 else -1 for copy in each for one in workload.program
        ],
        turn=workload.turn * copies,
        gap=workload.gap * copies,
        following=[
            row + copy * count if row >= 0 else -1 for copy in each for row in workload.following
        ],
        prefix=[
            tuple(one + copy * ids for one in prefix) for copy in each for prefix in workload.prefix
        ],
        span=workload.span + (copies - 1) * period,
    )


class _NothingWaits(Exception):
    """Ends a run after its first pass."""


class _Watch:
    """Ends a run at the first plan after a pass if hardly anything waits then."""

    def __init__(self, moment: Time, allowed: int) -> None:
        self.moment = moment
        self.allowed = allowed
        self.simulation: Simulation | None = None
        self.waiting = -1
        self.handed = 0

    def __call__(self, replica: Replica) -> None:
        if self.waiting >= 0 or not replica.steps or replica.start < self.moment:
            return
        assert self.simulation is not None
        queued = sum(len(one.machine.queue) for one in self.simulation.replicas)
        self.handed = _handed(self.simulation)
        self.waiting = queued + self.handed + _kept(self.simulation, NEVER)
        if self.waiting <= self.allowed:
            raise _NothingWaits


def _kept(simulation: Simulation, moment: Time) -> int:
    """Return how many requests that came before a moment are on no replica, and have no row."""
    if not isinstance(simulation, FleetSimulation):
        return 0
    moves = simulation.moves.live.values()
    fetching = sum(move.kind == FETCH and move.request.arrival < moment for move in moves)
    return fetching + sum(request.arrival < moment for request in simulation.kept)


def _handed(simulation: Simulation) -> int:
    """Return how many prefilled requests are on their way to a seat for decoding."""
    if not isinstance(simulation, FleetSimulation):
        return 0
    decoders = [unit for unit in simulation.units if unit.role == DECODE]
    moving = sum(move.kind == HANDOVER for move in simulation.moves.live.values())
    queued = sum(len(unit.bridge) + len(unit.replica.machine.queue) for unit in decoders)
    return moving + queued + len(simulation.unplaced)


@dataclass(slots=True)
class Search:
    """The search for the capacity of one setup on one workload.

    Attributes:
        double: Two passes.
        allowed: Growth that does not count, in requests.
        period: Length of a pass at the workload's own rate.
        rate: The workload's mean rate in requests per second.
        setup: What runs it.
        told: Called after each probe.
        probes: The rates tried.
    """

    double: Workload
    allowed: int
    period: Time
    rate: float
    setup: Setup | Design
    told: Callable[[Probe], None]
    probes: list[Probe]

    def probe(self, scale: float) -> bool:
        """Return whether the queue grows at a scale."""
        first, second = round(self.period / scale), round(2 * self.period / scale)
        watch = _Watch(first, self.allowed)
        simulation = start(self.setup, self.double, scale, watch)
        watch.simulation = simulation
        try:
            record = _uninterrupted(simulation.run(until=second))
        except _NothingWaits:
            found = Probe(scale, scale * self.rate, watch.waiting, None, False)
        else:
            before = _waiting(record, first) + watch.handed + _kept(simulation, first)
            after = _waiting(record, second) + _handed(simulation) + _kept(simulation, second)
            grows = after - before > self.allowed
            found = Probe(scale, scale * self.rate, before, after, grows)
        self.probes.append(found)
        self.told(found)
        return found.grows

    def run(self, scale: float) -> Capacity:
        """Return the capacity, searching from a scale."""
        low, high, ratio = 0.0, 0.0, BRACKET_RATIO
        while not low or not high:
            if len(self.probes) >= PROBES_MAX:
                kind = "fleet" if isinstance(self.setup, Design) else "recipe"
                raise UserError(
                    f"the queue of {kind} {self.setup.name!r} "
                    f"{'never' if low else 'always'} grows, at any rate tried from "
                    f"{min(p.requests_per_second for p in self.probes):.3g} to "
                    f"{max(p.requests_per_second for p in self.probes):.3g} requests per second: "
                    f"{INSTEAD}"
                )
            if self.probe(scale):
                high = scale
                scale /= ratio
            else:
                low = scale
                scale *= ratio
            ratio = min(ratio * ratio, BRACKET_RATIO_MAX)
        while high > low * (1.0 + PRECISION):
            middle = sqrt(low * high)
            if self.probe(middle):
                high = middle
            else:
                low = middle
        return Capacity(low, low * self.rate, tuple(self.probes))


def _waiting(record: RunRecord, moment: Time) -> int:
    """Return how many requests waited for their first seat at a moment."""
    rows = record.requests
    here = (rows.arrival >= 0) & (rows.arrival < moment)
    seated = (rows.admitted >= 0) & (rows.admitted < moment)
    gone = (rows.reason >= 0) & (rows.admitted < 0)
    return int(np.count_nonzero(here & ~seated & ~gone))


def _uninterrupted(record: RunRecord) -> RunRecord:
    """Return a record; a run that Ctrl-C ended passes the interrupt on."""
    if not record.complete:
        raise KeyboardInterrupt
    return record


def capacity(
    workload: Workload, setup: Setup | Design, told: Callable[[Probe], None] = lambda _: None
) -> Capacity:
    """Return the highest rate at which the queue of a setup's recipe does not grow.

    Args:
        workload: The workload, of at least two arrivals at different times.
        setup: The recipe, its limits, replicas and router.
        told: Called after each rate tried.

    Raises:
        UserError: If the workload has no rate, or nothing of it can run, or it sheds at any rate.
    """
    rate = mean_rate(workload)
    seats = setup.seats
    wanted = max(REQUESTS_PER_SEAT * seats, REQUESTS_MIN)
    if wanted > REQUESTS_MAX:
        raise UserError(
            f"{seats} seats need a pass of {wanted} requests to measure the capacity, more than "
            f"{REQUESTS_MAX}: {INSTEAD}"
        )
    copies = -(-wanted // len(workload))
    single = repeat(workload, copies)
    own = sum(1 for time in single.arrival if time >= 0)
    at_once = replace(single, arrival=[0] * len(single), following=[-1] * len(single))
    record = _uninterrupted(start(setup, at_once).run(until=NEVER))
    finishes = np.sort(record.requests.finish[record.requests.finish >= 0])
    if not finishes.size:
        raise UserError(
            f"no request of trace {workload.name!r} can run (all {len(workload)} are shed), "
            f"so there is no capacity to measure: {INSTEAD}"
        )
    # Without the tail, in which seats stay empty.
    most = int(BUSY_SHARE * (finishes.size - 1))
    throughput = (most + 1) / (float(finishes[most]) / SECOND)
    search = Search(
        double=repeat(workload, 2 * copies),
        allowed=max(GROWTH_MIN, int(GROWTH_SHARE * own)),
        period=copies * _period(workload),
        rate=rate,
        setup=setup,
        told=told,
        probes=[],
    )
    return search.run(throughput / rate)
