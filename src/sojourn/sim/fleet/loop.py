"""The event loop of a fleet: that of one replica, and a router, a placer and a scaler above it.

Whatever the fleet does to a replica it does at that replica's step boundaries, so a fleet gives
the same record whether its replicas step one by one or jump.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from heapq import heappush
from operator import gt
from time import perf_counter_ns
from typing import Any, Final

from sojourn.decide.actions import Migrate, Reject
from sojourn.decide.clock import NEVER, Time
from sojourn.decide.limits import HORIZON_STEPS
from sojourn.decide.request import Request
from sojourn.engine.replica import Replica
from sojourn.fleet.design import FAIL, RETRY, Design
from sojourn.fleet.slots import Fetch, Place, Route, ScaleSlot, Verdict
from sojourn.fleet.views import DOWN, DRAINING, UP, Load
from sojourn.policies.tables import SLOTS
from sojourn.sim.fleet.landed import unblock
from sojourn.sim.fleet.lifecycle import Lifecycle
from sojourn.sim.fleet.lines import lines_of, send_first
from sojourn.sim.fleet.links import Links
from sojourn.sim.fleet.moves import Moves
from sojourn.sim.fleet.unit import Clock, FleetRecorder, Handed, Unit
from sojourn.sim.fleet.view import View
from sojourn.sim.loop import Setup, Simulation, room_in
from sojourn.sim.workload import Workload
from sojourn.steplog.fleet import NO_REPLICA, REPLICA_LOST, FleetRecord
from sojourn.steplog.record import RunRecord

IDLE_RINGS_MAX: Final = 10_000
"""Times that periodic policies are asked while nothing else happens and nobody will arrive."""
LONE_RINGS_MAX: Final = 1_000_000
"""The same, while replicas start, links are mended and the like, but nobody is served."""


class FleetSimulation(Simulation):
    """One run of one workload on a fleet.

    Attributes:
        sizes: Engine limits of all groups.
        units: Every replica there has been, by index.
        entries, decoders: Those that take arrivals, and prefilled requests.
        truth: True output lengths of open requests.
        kept: Requests that the router keeps, first come first.
        unplaced: Prefilled requests that nobody decodes yet.
        losses: How often each open request was on a replica that was lost.
        freed: Whether something ended, left or got a seat since the kept requests were last tried.
        changes: Replicas that changed since the last reports.
        appointments: Calls to come that are not periodic.
        idle_rings: Periodic calls since anything else happened.
        lone_rings: Periodic calls since an arrival or a step of a replica.
        asleep: The periodic call that waits for a request, when it was last, and its period.
        watch: Called after every event, to assert invariants.
    """

    def __init__(
        self,
        workload: Workload,
        design: Design,
        rate_scale: float = 1.0,
        *,
        max_horizon: int = HORIZON_STEPS,
        trace_states: bool = False,
        check: Callable[[Replica], None] | None = None,
        watch: Callable[[FleetSimulation], None] | None = None,
    ) -> None:
        tightest = min(
            design.groups,
            key=lambda g: (g.limits.max_model_len, g.limits.num_gpu_blocks * g.limits.block_size),
        )
        setup = Setup(
            recipe=tightest.recipe,
            limits=tightest.limits,
            step_time=tightest.step_time,
            replicas=0,
            trace_states=trace_states,
            max_horizon=max_horizon,
            check=check,
        )
        super().__init__(workload, setup, rate_scale)
        self.design = design
        self.sizes = list(dict.fromkeys(group.limits for group in design.groups))
        self.clock = Clock()
        self.sequence = 0
        self.units: list[Unit] = []
        self.entries: list[Unit] = []
        self.decoders: list[Unit] = []
        self.truth: dict[int, int] = {}
        self.kept: deque[Request] = deque()
        self.unplaced: deque[Handed] = deque()
        self.losses: dict[int, int] = {}
        self.freed = False
        self.changes: dict[int, Unit] = {}
        self.appointments = 0
        self.idle_rings = self.lone_rings = 0
        self.asleep: tuple[Callable[[Time], None], Time, Time] | None = None
        self.watch = watch
        self.fleet_record = FleetRecord(design.name)
        self.routing_nanoseconds = 0
        self.random = random.Random(f"faults/{design.seed}")
        self.links = Links(self.call)
        self.moves = Moves(self)
        self.lives = Lifecycle(self)
        self.router: Route = self._policy("route", design.route)
        self.place: Place = self._policy("place", design.place)
        self.scaler: ScaleSlot = self._policy("scale", design.scale)
        made = (self.router, self.place, self.scaler)
        self.reads_demand = any(getattr(one, "reads_demand", False) for one in made)
        self.lives.begin()
        self._every(self.place.period, self._rebalance, getattr(self.place, "idles", False))
        self._every(self.scaler.period, self.lives.scale)
        self._every(design.report_period or NEVER, self._report)

    def _policy(self, slot: str, named: tuple[str, Any]) -> Any:
        name, config = named
        return SLOTS[slot][name][1](config, View(self, slot))

    def call(self, time: Time, what: Callable[[Time], None]) -> None:
        """Have something done at a moment; the run does not end before."""
        self.appointments += 1

        def ring(now: Time) -> None:
            self.appointments -= 1
            self.idle_rings = 0
            what(now)

        self._ring_at(time, ring)

    def _every(self, period: Time, what: Callable[[Time], None], idles: bool = False) -> None:
        """Have something done periodically; what idles is not, while there is no request."""
        if period == NEVER:
            return

        def ring(now: Time) -> None:
            self.idle_rings += 1
            self.lone_rings += 1
            what(now)
            if idles and not self.open:
                self.asleep = (ring, now, period)
            else:
                self._ring_at(now + period, ring)

        self._ring_at(period, ring)

    def _ring_at(self, time: Time, what: Callable[[Time], None]) -> None:
        self.sequence += 1
        heappush(self.calls, (time, self.sequence, what))

    def _ring(self, what: Callable[[Time], None], now: Time) -> None:
        self.clock.now = now
        what(now)
        self._told(now)

    def _busy(self, more: bool) -> bool:
        if more or self.pending or not self.open:
            return more or bool(self.pending)
        idle = not self.appointments and self.idle_rings >= IDLE_RINGS_MAX
        if not idle and self.lone_rings < LONE_RINGS_MAX:
            return True
        return any(version == self.versions[index] for _, _, index, version in self.wakes)

    def new_replica(self, index: int, setup: Setup) -> Replica:
        """Return a new engine."""
        self.replicas.append(self._replica(index, setup))
        return self.replicas[index]

    def adopt(self, unit: Unit) -> None:
        """Take up a new replica."""
        recorder = FleetRecorder(unit)
        self.recorders[unit.index] = unit.replica.recorder = recorder
        if self.design.report_period:
            unit.said = Load(self.clock.now, free_blocks=unit.blocks)
        self.units.append(unit)

    def _wake(self, index: int, time: Time) -> None:
        self._step(index, time)
        if self.watch is not None:
            self.watch(self)

    def _step(self, index: int, time: Time) -> None:
        """Do what a replica is to do at a step boundary."""
        unit, replica, check = self.units[index], self.replicas[index], self.setup.check
        self.clock.now = time
        self.idle_rings = self.lone_rings = 0
        if replica.steps:
            replica.advance()
            if check is not None:
                check(replica)
            if self.freed:
                self.changed(unit, time)
                self.try_kept(time)
            if self._more_at(time):
                self.changed(unit, time)
                self._call_at(index, time)
                return
        if unit.bridge:
            self.moves.fetch(unit, time)
        room = unit.room if unit.bridge else None
        backlog = unit.backlog if self.kept else 0
        began = perf_counter_ns()
        again = replica.begin(time)
        self.decision_nanoseconds += perf_counter_ns() - began
        self.decisions += 1
        if check is not None:
            check(replica)
        freed = room is not None and any(map(gt, unit.room, room))  # what did not fit may now
        if freed or (again == NEVER and unblock(replica)):
            again = replica.interrupt(time) if replica.steps else time
        self._call_at(index, again)
        self.changed(unit, time)
        if self.freed or unit.backlog < backlog:  # plans of one moment do not see one another
            self.freed = False
            self.call(time + 1, self.try_kept)
        if unit.status == DRAINING:
            self.lives.drained(unit, time)

    def _call_at(self, index: int, time: Time) -> None:
        if self.units[index].status != DOWN:
            super()._call_at(index, time)

    def wake(self, unit: Unit, now: Time) -> None:
        """Have a replica plan anew at its next step boundary."""
        if unit.status != DOWN:
            replica = unit.replica
            self._call_at(unit.index, replica.interrupt(now) if replica.steps else now)

    def at_boundary(self, unit: Unit, chore: Callable[[Time], None], now: Time) -> None:
        """Have something done to a replica at its next step boundary, if it lives."""
        if unit.status != DOWN:
            self._call_at(unit.index, unit.replica.at_boundary(chore, now))

    def changed(self, unit: Unit, now: Time) -> None:
        """Take note that a replica's load is another."""
        if self.design.report_period:
            self.changes[unit.index] = unit
        if self.router.minds_changes:  # its own counts are current, however old reports are
            self.router.changed(unit, now)

    def _report(self, now: Time) -> None:
        """Let the replicas that have changed report."""
        reports = [(unit, unit.measure(now)) for unit in self.changes.values()]
        self.changes = {i: u for i, u in self.changes.items() if u.replica.steps}
        if self.design.report_age:
            self._ring_at(now + self.design.report_age, lambda at: self._hear(reports, at))
        else:
            self._hear(reports, now)

    def _hear(self, reports: list[tuple[Unit, Load]], now: Time) -> None:
        for unit, load in reports:
            unit.said = load
            if self.router.minds_changes:
                self.router.changed(unit, now)
        self.try_kept(now)

    def _room(self, request: Request) -> int:
        """Return the tokens that a request may have wherever it goes."""
        return min(room_in(limits, request) for limits in self.sizes)

    def _dispatch(self, request: Request, output: int, now: Time) -> None:
        self.clock.now = now
        self.idle_rings = self.lone_rings = 0
        if self.asleep is not None:
            (ring, last, period), self.asleep = self.asleep, None
            self._ring_at(now + period - (now - last) % period, ring)
        self.truth[request.id] = output
        self._offer(request, now)
        self._told(now)

    def _told(self, now: Time) -> None:
        """End an event that is no step: what it freed must not wait for one."""
        if self.freed:
            self.try_kept(now)
        if self.watch is not None:
            self.watch(self)

    def _offer(self, request: Request, now: Time) -> None:
        """Route a request, or keep it behind those that are kept already."""
        if self.kept and lines_of(self.router) > 1:
            self.kept.append(request)
            send_first(self.kept, self.router, lambda one: self._route(one, now))
        elif self.kept or not self._route(request, now):
            self.kept.append(request)

    def _route(self, request: Request, now: Time) -> bool:
        """Ask the router; return whether that settled where the request goes."""
        if not self.entries:
            return False
        began = perf_counter_ns()
        verdict = self.router.route(request, now)
        self.routing_nanoseconds += perf_counter_ns() - began
        self.fleet_record.routings += 1
        if isinstance(verdict, Reject):
            self._ended(request, now, verdict.reason)
            return True
        index = verdict.replica if isinstance(verdict, Fetch) else verdict
        if index is None or self.units[index].status != UP:
            return False
        self._give(request, self.units[index], now, verdict)
        return True

    def _give(self, request: Request, unit: Unit, now: Time, said: Verdict | Fetch = None) -> None:
        self.open[request.id] = (request, unit.index)
        unit.got(request)
        source = self.units[said.source] if isinstance(said, Fetch) else unit
        if source is not unit and source.status in (UP, DRAINING):
            self.moves.fetch_prefix(request, source, unit, now)
        else:
            self.deliver(request, unit, now)

    def deliver(self, request: Request, unit: Unit, now: Time) -> None:
        """Let a request queue at the replica that it was given to."""
        self._send(request, unit.index, self.truth[request.id], now)
        self.changed(unit, now)

    def try_kept(self, now: Time) -> None:
        """Route what is kept, first come first in each of the router's lines, as far as it goes."""
        self.freed = False
        send_first(self.kept, self.router, lambda one: self._route(one, now))
        while self.unplaced and self.moves.offer(self.unplaced[0], now):
            self.unplaced.popleft()

    def prefilled(self, unit: Unit, request: Request, now: Time) -> None:
        """Take a request that a prefill replica has given its first token."""
        self.freed = True
        self.moves.hand_over(unit, request, now)

    def resubmit(self, request: Request, source: Unit, target: Unit, now: Time) -> None:
        """Let a request go on where its KV is now."""
        source.gave(request)
        self.freed = True
        self.changed(source, now)
        self._give(request, target, now)
        if source.status == DRAINING:
            self.lives.drained(source, now)

    def recover(self, request: Request, now: Time) -> None:
        """Let a request that has lost its KV go on somewhere, or fail, as the fleet's rule says."""
        index = self.open[request.id][1]
        if index >= 0:
            self.units[index].gave(request)
        self.open[request.id] = (request, -1)
        self.fleet_record.lost_requests += 1
        lost = self.losses[request.id] = self.losses.get(request.id, 0) + 1
        if self.design.lost == FAIL or lost > self.design.attempts:
            self._ended(request, now, REPLICA_LOST)
            return
        if self.design.lost == RETRY:
            self.fleet_record.lost_tokens += request.decoded
            request.decoded = request.peak = request.gap = 0
            request.first_token = request.token_time = -1
        request.computed = 0
        request.target = request.prompt + request.decoded
        self._offer(request, now)

    def _ended(self, request: Request, now: Time, reason: str) -> None:
        index = self.open[request.id][1]
        if index >= 0:
            self.units[index].gave(request)
            self.changed(self.units[index], now)
        self.freed = True
        self.truth.pop(request.id, None)
        self.losses.pop(request.id, None)
        super()._ended(request, now, reason)
        self.moves.ended(request, now)

    def _rebalance(self, now: Time) -> None:
        """Carry out what the place slot says."""
        for action in self.place.rebalance(now):
            if not isinstance(action, Migrate):
                self.lives.set_role(self.units[action.replica], action.role, now)
                continue
            request, index = self.open.get(action.request.id, (None, -1))
            if request is not None and index >= 0:
                self.moves.migrate(request, self.units[index], self.units[action.target], now)

    def _leftovers(self) -> None:
        """Shed whoever nobody will ever serve."""
        lines: list[deque[Any]] = [self.kept, self.unplaced, *(one.bridge for one in self.units)]
        for line in lines:
            line.clear()
        for request, _ in list(self.open.values()):
            if request.id in self.open:
                self._ended(request, self.clock.now, NO_REPLICA)

    def run(self, progress: Callable[[int], None] | None = None, until: Time = NEVER) -> RunRecord:
        """Run to the end, to `until`, or to Ctrl-C; return the record of what happened."""
        record = super().run(progress, until)
        record.fleet = fleet = self.fleet_record
        fleet.routing_seconds = self.routing_nanoseconds / 1e9
        fleet.units = self.lives.rows(self.clock.now)
        fleet.moves = self.moves.rows(self.row_of)
        return record
