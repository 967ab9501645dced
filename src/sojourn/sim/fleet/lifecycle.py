"""The lives of replicas: they start, drain, change roles, fail, come back, and cost money."""

from __future__ import annotations

from bisect import bisect_left
from functools import partial
from math import prod
from typing import TYPE_CHECKING

from sojourn.decide.clock import NEVER, Time, to_seconds
from sojourn.fleet.design import CRASH, CUT, SLOW, SPOT, Fault, Group
from sojourn.fleet.views import DECODE, DOWN, DRAINING, PREFILL, UP
from sojourn.sim.fleet.slow import slowed
from sojourn.sim.fleet.unit import Unit
from sojourn.sim.loop import Setup
from sojourn.steplog.fleet import JOINED, PARTED, FleetEvent, UnitRow

if TYPE_CHECKING:
    from sojourn.sim.fleet.loop import FleetSimulation


class Lifecycle:
    """Makes and ends the replicas of a run.

    Attributes:
        counts: Replicas of each group that there are or will be, less those that drain.
    """

    def __init__(self, sim: FleetSimulation) -> None:
        self.sim = sim
        self.counts = {group.name: 0 for group in sim.design.groups}

    def begin(self) -> None:
        """Make the replicas that are there from the start, and the appointments of faults."""
        for group in self.sim.design.groups:
            for _ in range(group.count):
                self._up(self._make(group, 0), 0)
        for fault in self.sim.design.faults:
            self.sim.call(fault.time, partial(self._fail, fault))

    def scale(self, now: Time) -> None:
        """Carry out what the scale slot says."""
        for action in self.sim.scaler.scale(now):
            group = next(one for one in self.sim.design.groups if one.name == action.kind)
            for _ in range(abs(action.replicas)):
                if action.replicas > 0:
                    self.add(group, now)
                else:
                    self._drain_one(group, now)

    def count(self, group: Group) -> int:
        """Return how many of a group there are or will be, less those that drain."""
        return self.counts[group.name]

    def add(self, group: Group, now: Time) -> None:
        """Ask for another replica, unless the group has as many as it may."""
        if self.count(group) < group.most:
            unit = self._make(group, now)
            self._note(now, unit, "asked for")
            self.sim.call(now + group.start_time, partial(self._up, unit))

    def _drain_one(self, group: Group, now: Time) -> None:
        """Drain the replica with the fewest requests, unless the group has as few as it may."""
        up = [one for one in self.sim.units if one.group is group and one.status == UP]
        if up and self.count(group) > group.least:
            unit = min(up, key=lambda one: (one.open, -one.index))
            unit.leaving = True
            self.drain(unit, now)

    def drain(self, unit: Unit, now: Time) -> None:
        """Send a replica nothing more."""
        self.counts[unit.kind] -= unit.status == UP
        unit.status = DRAINING
        self._note(now, unit, "draining")
        self._membership(unit, now)
        self.drained(unit, now)

    def drained(self, unit: Unit, now: Time) -> None:
        """Let a draining replica go that has nothing left to do."""
        idle = not unit.open and not unit.bridge
        if unit.leaving and unit.status == DRAINING and idle:
            moves = self.sim.moves.live.values()
            if not any(unit is one.source or unit is one.target for one in moves):
                self._down(unit, now, "drained")

    def set_role(self, unit: Unit, role: str, now: Time) -> None:
        """Let a replica serve another phase from its next step boundary on."""
        if unit.status == UP and unit.role != role:
            unit.role = role
            self._hand_over(unit)
            self._note(now, unit, f"role {role}")
            self._membership(unit, now)

    def _make(self, group: Group, now: Time) -> Unit:
        sim, index = self.sim, len(self.sim.units)
        setup = Setup(
            group.recipe,
            group.limits,
            group.step_time,
            swap_block_seconds=group.swap_block_seconds,
            trace_states=sim.setup.trace_states,
            max_horizon=sim.setup.max_horizon,
        )
        unit = Unit(index, group, sim.new_replica(index, setup), now, sim.clock)
        unit.reads_demand = sim.reads_demand
        self.counts[group.name] += 1
        sim.adopt(unit)
        return unit

    def _hand_over(self, unit: Unit) -> None:
        split = unit.role == PREFILL
        unit.replica.hand_over = partial(self.sim.prefilled, unit) if split else None

    def _up(self, unit: Unit, now: Time) -> None:
        unit.status = UP
        unit.up_at = now
        self._hand_over(unit)
        self._note(now, unit, "up")
        self._membership(unit, now)

    def _membership(self, unit: Unit, now: Time) -> None:
        """Bring the lists of those that take requests up to date, and tell the router."""
        sim, up = self.sim, unit.status == UP
        sim.entries = _listed(sim.entries, unit, up and unit.role != DECODE)
        sim.decoders = _listed(sim.decoders, unit, up and unit.role == DECODE)
        sim.router.changed(unit, now)
        sim.try_kept(now)

    def _down(self, unit: Unit, now: Time, what: str) -> None:
        self.counts[unit.kind] -= unit.status == UP
        unit.status = DOWN
        unit.ended_at = now
        self.sim.versions[unit.index] += 1  # whatever it was to do, it will not
        self._note(now, unit, what)
        self._membership(unit, now)

    def _note(self, now: Time, unit: Unit, what: str) -> None:
        self.sim.fleet_record.events.append(FleetEvent(now, unit.index, what))

    def _fail(self, fault: Fault, now: Time) -> None:
        """Let something go wrong."""
        if fault.kind == CUT:
            self._cut(fault, now)
            return
        unit = self._victim(fault)
        if unit is None:
            return
        if fault.kind == SLOW:
            self._slow(unit, fault.factor, now)
            if fault.duration < NEVER:
                self.sim.call(
                    now + fault.duration, lambda at: self._slow(unit, fault.factor, at, over=True)
                )
        elif fault.kind == SPOT and fault.notice:
            self._note(now, unit, "spot notice")
            self.drain(unit, now)
            self.sim.call(now + fault.notice, lambda at: self._lose(unit, fault, at))
        else:
            assert fault.kind in (CRASH, SPOT)
            self._lose(unit, fault, now)

    def _cut(self, fault: Fault, now: Time) -> None:
        """Part two groups until the fault is over; the event is no single replica's."""
        one, other = pair = min(fault.group, fault.other), max(fault.group, fault.other)
        events, links = self.sim.fleet_record.events, self.sim.links
        events.append(FleetEvent(now, -1, f"{one} and {other}{PARTED}"))
        links.cut(pair, now)
        self.sim.moves.fetches.parted(pair, now)

        def mend(at: Time) -> None:
            events.append(FleetEvent(at, -1, f"{one} and {other}{JOINED}"))
            links.mend(pair, at)

        if fault.duration < NEVER:
            self.sim.call(now + fault.duration, mend)

    def _victim(self, fault: Fault) -> Unit | None:
        if fault.replica >= 0:
            found = self.sim.units[fault.replica] if fault.replica < len(self.sim.units) else None
            return found if found is not None and found.status in (UP, DRAINING) else None
        up = [one for one in self.sim.units if one.status == UP]
        up = [one for one in up if fault.group in ("", one.kind)]
        return up[self.sim.random.randrange(len(up))] if up else None

    def _slow(self, unit: Unit, factor: float, now: Time, *, over: bool = False) -> None:
        """Change how fast a replica's steps are, from its next one on."""
        if unit.status == DOWN:
            return
        if over:
            unit.slowness.remove(factor)
        else:
            unit.slowness.append(factor)
        slowness = prod(unit.slowness)
        times = slowed(unit.group.step_time, slowness)
        usual = slowness == 1
        told = "their usual time again" if usual else f"{slowness:g} times as long"
        self._note(now, unit, f"steps take {told}")

        def change(_: Time) -> None:
            unit.replica.step_time = times

        self.sim.at_boundary(unit, change, now)

    def _lose(self, unit: Unit, fault: Fault, now: Time) -> None:
        """Lose a replica with all that is on it; another starts in its place when it is over."""
        if unit.status == DOWN:
            return
        unit.replica.halt(now)
        lost = [one for one, index in self.sim.open.values() if index == unit.index]
        self._down(unit, now, fault.kind)
        self.sim.moves.lose(unit, now)
        for request in lost:
            if self.sim.open.get(request.id, (None, -1))[1] != unit.index:
                continue
            if request.id in unit.replica.outputs:
                unit.replica.lose(request, now)
            self.sim.recover(request, now)
        if fault.duration < NEVER:
            self.sim.call(now + fault.duration, lambda at: self.add(unit.group, at))
        self.sim.try_kept(now)

    def rows(self, end: Time) -> list[UnitRow]:
        """Return the lives of all replicas, and what they cost until `end`."""
        return [_row(one, end) for one in self.sim.units]


def _listed(units: list[Unit], unit: Unit, belongs: bool) -> list[Unit]:
    """Return a list in the order of index with a replica in it, or without it."""
    place = bisect_left(units, unit.index, key=lambda one: one.index)
    there = place < len(units) and units[place] is unit
    if there == belongs:
        return units
    return [*units[:place], *([unit] if belongs else []), *units[place + there :]]


def _row(unit: Unit, end: Time) -> UnitRow:
    until = min(unit.ended_at, max(end, unit.asked))
    hours = to_seconds(until - unit.asked) / 3600
    return UnitRow(
        index=unit.index,
        kind=unit.kind,
        role=unit.role,
        hardware=unit.group.hardware,
        gpus=unit.group.gpus,
        asked=unit.asked,
        up=unit.up_at if unit.up_at < NEVER else -1,
        ended=until,
        dollars=hours * unit.dollars_per_hour,
        requests=unit.sent,
        blocks=unit.blocks,
        seats=unit.seats,
    )
