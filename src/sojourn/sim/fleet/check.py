"""The invariants of a fleet, asserted after every event in tests; a program apart from the loop.

Each FINV-n is listed in docs/reference/invariants.md.
"""

from __future__ import annotations

from typing import Final

from sojourn.decide.clock import SECOND, Time
from sojourn.fleet.design import RETRY
from sojourn.fleet.views import DECODE, DOWN, DRAINING, STARTING, UP
from sojourn.sim.fleet.fetches import FETCH
from sojourn.sim.fleet.links import Port, Stream
from sojourn.sim.fleet.loop import FleetSimulation
from sojourn.sim.fleet.moves import MIGRATION
from sojourn.sim.fleet.unit import Unit

ORDER: Final = (STARTING, UP, DRAINING, DOWN)
ROUNDING_BYTES: Final = 1.0
"""What floating point and whole picoseconds may add to, or take from, a transfer's bytes."""


class FleetInvariants:
    """Checks one fleet again and again; remembers what must never go back.

    Attributes:
        now: The moment of the last event.
        sent: Of each transfer seen in its ports: the transfer, its bytes, those gone, the moment
            until which they are counted, and the rate since then.
        status: Of each replica, its place in `ORDER` when last seen.
        decoded: Tokens of each open request.
        ended: Requests that had ended.
    """

    def __init__(self) -> None:
        self.now: Time = 0
        self.sent: dict[int, tuple[Stream, float, float, Time, float]] = {}
        self.status: list[int] = []
        self.decoded: dict[int, int] = {}
        self.ended = 0

    def __call__(self, sim: FleetSimulation) -> None:
        """Assert all invariants."""
        self._clock(sim)
        self._places(sim)
        self._accounts(sim)
        self._kv(sim)
        self._links(sim)
        self._ends(sim)
        self._lives(sim)

    def _clock(self, sim: FleetSimulation) -> None:
        """FINV-1: no event lies in the past."""
        now = sim.clock.now
        assert now >= self.now, "FINV-1: time went back"
        self.now = now
        assert not sim.calls or sim.calls[0][0] >= now, "FINV-1: a call in the past"
        assert not sim.pending or sim.pending[0][0] >= now, "FINV-1: a turn in the past"
        for time, _, index, version in sim.wakes:
            if version == sim.versions[index]:
                assert time >= now, "FINV-1: a step in the past"
                assert sim.units[index].status != DOWN, "FINV-1: a step of a lost replica"

    def _places(self, sim: FleetSimulation) -> None:
        """FINV-2: every open request is in exactly one place, and the fleet knows which."""
        places: dict[int, list[tuple[str, int]]] = {id: [] for id in sim.open}

        def found(id: int, what: str, index: int) -> None:
            assert id in places, f"FINV-2: request {id} has ended and is still {what}"
            places[id].append((what, index))

        for request in sim.kept:
            found(request.id, "kept", -1)
        for handed in sim.unplaced:
            found(handed.request.id, "unplaced", handed.source)
        for unit in sim.units:
            for handed in unit.bridge:
                found(handed.request.id, "bridging", handed.source)
            if unit.status == DOWN:
                continue
            for id in unit.replica.outputs:
                found(id, "on a replica", unit.index)
        for id, move in sim.moves.live.items():
            if move.left >= 0:
                at = move.target if move.kind == FETCH else move.source
                found(id, "moving", at.index)
        for id, (_, unit) in sim.moves.returning.items():
            found(id, "going back", unit.index)
        for id, (_, index) in sim.open.items():
            assert len(places[id]) == 1, f"FINV-2: request {id} is {places[id] or 'nowhere'}"
            assert places[id][0][1] == index, f"FINV-2: request {id} is {places[id]}, not {index}"
        assert sim.truth.keys() == sim.open.keys(), "FINV-2: true lengths"

    def _accounts(self, sim: FleetSimulation) -> None:
        """FINV-3: the router's account of each replica equals a recount."""
        counts = {unit.index: [0, 0] for unit in sim.units}
        for request, index in sim.open.values():
            if index >= 0:
                counts[index][0] += 1
                counts[index][1] += request.prompt
        for unit in sim.units:
            assert counts[unit.index] == [unit.open, unit.open_tokens], "FINV-3: open"
            assert unit.prompt_tokens == sum(unit.prefilling.values()), "FINV-3: prompt tokens"
            live = sim.moves.live.values()
            leaving = sum(m.kind == MIGRATION and m.source is unit for m in live)
            coming = sum(m.kind == MIGRATION and m.target is unit for m in live)
            assert (leaving, coming) == (unit.departing, unit.arriving), "FINV-3: migrations"
            for id in unit.prefilling:
                assert sim.open.get(id, (None, -1))[1] == unit.index, "FINV-3: a prompt elsewhere"

    def _kv(self, sim: FleetSimulation) -> None:
        """FINV-4: KV that came, or is read, from elsewhere is of a request that wants it.

        What is to be given back waits for the next step boundary.
        """
        handed = {one.request.id: one.source for one in sim.unplaced}
        handed |= {one.request.id: one.source for unit in sim.units for one in unit.bridge}
        handed |= {id: unit.index for id, (_, unit) in sim.moves.returning.items()}
        for unit in sim.units:
            replica = unit.replica
            if unit.status == DOWN or replica.chores:
                continue
            for id in replica.pool.landed:
                move = sim.moves.live.get(id)
                coming = move is not None and move.target is unit
                wanted = coming or id in replica.outputs or id < 0  # below 0: to be given back
                assert wanted, "FINV-4: KV landed for nobody"
            for id in replica.exports:
                move = sim.moves.live.get(id)
                read = move is not None and move.source is unit and move.left >= 0
                kept = read or handed.get(id) == unit.index or id < 0  # below 0: by a fetch
                assert kept, "FINV-4: KV kept for nobody"

    def _links(self, sim: FleetSimulation) -> None:
        """FINV-5: ports carry no more than they can, a cut link nothing, and no byte is lost."""
        rates: dict[Port, float] = {}
        seen: dict[int, Stream] = {}
        for port, streams in sim.links.inside.items():
            assert streams, "FINV-5: an empty port"
            most = max(stream.ports[port] for stream in streams.values())
            for stream in streams.values():
                seen[stream.number] = stream
                rates[port] = rates.get(port, 0.0) + stream.rate
                assert not stream.ended, "FINV-5: a transfer that is over"
                assert rates[port] <= most * (1 + 1e-9), "FINV-5: over bandwidth"
                cut = stream.pair in sim.links.severed
                assert (stream.rate == 0) == cut, "FINV-5: a transfer over a cut link, or idle"
        for number, (stream, size, gone, since, rate) in list(self.sent.items()):
            gone += rate * (self.now - since) / SECOND
            if number in seen:
                self.sent[number] = (stream, size, gone, self.now, stream.rate)
                left = max(stream.left - stream.rate * (self.now - stream.since) / SECOND, 0.0)
                assert abs(gone + left - size) <= ROUNDING_BYTES, "FINV-5: bytes lost or invented"
                continue
            del self.sent[number]
            if not stream.cancelled:
                slack = ROUNDING_BYTES + 2 * rate / SECOND
                assert abs(gone - size) <= slack, "FINV-5: a transfer ended too early or too late"
        for number, stream in seen.items():
            if number not in self.sent:
                self.sent[number] = (stream, stream.left, 0.0, self.now, stream.rate)

    def _ends(self, sim: FleetSimulation) -> None:
        """FINV-6: a request ends exactly once, and no token that was streamed is lost."""
        ended = sum(outcome >= 0 for outcome in sim.rows.columns["outcome"])
        assert ended == sim.ended_count >= self.ended, "FINV-6: ended twice"
        self.ended = ended
        for id, (request, _) in sim.open.items():
            assert sim.rows.columns["outcome"][sim.row_of[id]] < 0, "FINV-6: open after its end"
            if sim.design.lost != RETRY:
                assert request.decoded >= self.decoded.get(id, 0), "FINV-6: tokens went back"
            self.decoded[id] = request.decoded
        for id in [id for id in self.decoded if id not in sim.open]:
            del self.decoded[id]

    def _lives(self, sim: FleetSimulation) -> None:
        """FINV-7: lives go one way, whoever is up is listed once, and the dead have nothing."""
        up = [unit for unit in sim.units if unit.status == UP]
        assert list(sim.entries) == [u for u in up if u.role != DECODE], "FINV-7: entries"
        assert list(sim.decoders) == [u for u in up if u.role == DECODE], "FINV-7: decoders"
        for unit in sim.units:
            self._life(unit)
        for move in sim.moves.live.values():
            assert DOWN not in (move.source.status, move.target.status), "FINV-7: a dead move"
            assert not move.outcome, "FINV-7: a move that is over"
        for group in sim.design.groups:
            count = sum(u.group is group and u.status in (STARTING, UP) for u in sim.units)
            assert count == sim.lives.count(group), "FINV-7: count of a group"
            assert count <= max(group.most, group.count), "FINV-7: more than a group may have"

    def _life(self, unit: Unit) -> None:
        index, status = unit.index, ORDER.index(unit.status)
        if index == len(self.status):
            self.status.append(status)
        assert status >= self.status[index], "FINV-7: back from the dead"
        self.status[index] = status
        if unit.status == DOWN:
            assert not unit.open, "FINV-7: open requests on a lost replica"
            assert not unit.bridge, "FINV-7: requests on their way to a lost replica"
            assert not unit.replica.steps, "FINV-7: a lost replica runs"
        if unit.status == STARTING:
            assert not unit.sent, "FINV-7: sent to a replica that is not up"
