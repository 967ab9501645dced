"""Requests that change replicas with their KV: hand-over after the prompt, and live migration.

Blocks at the target are taken at one of its step boundaries, before a byte moves; blocks at the
source are given back at one of its own, after the last byte has arrived.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sojourn.decide.clock import Time
from sojourn.decide.request import Request
from sojourn.decide.states import DECODE
from sojourn.fleet.views import DOWN, UP
from sojourn.sim.fleet.links import Stream
from sojourn.sim.fleet.unit import Handed, Unit

if TYPE_CHECKING:
    from sojourn.sim.fleet.loop import FleetSimulation

HANDOVER: Final = "handover"
MIGRATION: Final = "migration"

DONE: Final = "done"
ENDED: Final = "its request ended"
YIELDED: Final = "its request lost its seat"
REFUSED: Final = "no room at the target"
LOST: Final = "an end was lost"


@dataclass(slots=True, eq=False)
class Move:
    """A request on its way from one replica to another.

    Attributes:
        kind: `handover` or `migration`.
        began, ended: When the first copy was asked for, and when it was over.
        left: When the request lost its seat at the source; -1 before.
        tokens: Tokens copied so far, or being copied.
        bytes: Bytes copied in all.
        stages: Copies begun.
        stream: The copy under way.
        outcome: How it ended; empty before.
    """

    kind: str
    request: Request
    source: Unit
    target: Unit
    began: Time
    ended: Time = -1
    left: Time = -1
    tokens: int = 0
    bytes: int = 0
    stages: int = 0
    stream: Stream | None = None
    outcome: str = ""


class Moves:
    """All moves of a run.

    Attributes:
        live: Those under way, by request id.
        past: Those that are over, in the order in which they ended.
    """

    def __init__(self, sim: FleetSimulation) -> None:
        self.sim = sim
        self.live: dict[int, Move] = {}
        self.past: list[Move] = []

    def hand_over(self, unit: Unit, request: Request, now: Time) -> None:
        """Take a request that a prefill replica has given its first token."""
        tokens = unit.replica.depart(request, now, keep=True)
        handed = Handed(request, unit.index, tokens)
        if not self.offer(handed, now):
            self.sim.unplaced.append(handed)

    def offer(self, handed: Handed, now: Time) -> bool:
        """Ask who decodes a prefilled request; return whether somebody does."""
        source = self.sim.units[handed.source]
        index = self.sim.place.decoder(handed.request, source, now)
        if index is None:
            return False
        target = self.sim.units[index]
        if target.status != UP:
            return False
        target.bridge.append(handed)
        self.sim.wake(target, now)
        return True

    def fetch(self, target: Unit, now: Time) -> None:
        """At a boundary of a decode replica: begin to copy what waits for it, in order."""
        while target.bridge:
            request, index, tokens = target.bridge[0]
            pool = target.replica.pool
            if not self.sim.place.pulls(request, target, pool.blocks_at(request, tokens)):
                return
            if not pool.land(request, tokens):
                return
            target.bridge.popleft()
            move = Move(HANDOVER, request, self.sim.units[index], target, now, left=now)
            self.live[request.id] = move
            self._copy(move, tokens, now)

    def migrate(self, request: Request, source: Unit, target: Unit, now: Time) -> bool:
        """Begin to move a decoding request; return whether it can be begun."""
        can = source is not target and target.status == UP and request.state == DECODE
        if not can or request.id in self.live or source.status == DOWN:
            return False
        move = Move(MIGRATION, request, source, target, now)
        self.live[request.id] = move
        self._stage(move, now)
        return True

    def _stage(self, move: Move, now: Time) -> None:
        """Copy the full blocks computed since the last copy, or end the decoding and copy all."""
        if not self._stays(move):
            self._abort(move, ENDED if move.request.state != DECODE else LOST, now)
            return
        source, size = move.source, move.source.block_size
        tokens = source.tokens_of(move.request, now) // size * size
        blocks = (tokens - move.tokens) // size
        design = self.sim.design
        if blocks <= design.last_blocks or move.stages >= design.most_stages:
            self.sim.at_boundary(source, lambda at: self._take_out(move, at), now)
        else:
            self.sim.at_boundary(move.target, lambda at: self._reserve(move, tokens, at), now)

    def _stays(self, move: Move) -> bool:
        """Return whether a migrating request still decodes at its source."""
        at = self.sim.open.get(move.request.id)
        return (
            move.request.state == DECODE
            and at is not None
            and at[1] == move.source.index
            and move.source.status != DOWN
        )

    def _take_out(self, move: Move, now: Time) -> None:
        """At a boundary of the source: end the decoding, then copy the rest."""
        if move.outcome:
            return
        if not self._stays(move):
            self._abort(move, YIELDED if move.request.id in self.sim.open else ENDED, now)
            return
        tokens = move.source.replica.depart(move.request, now, keep=True)
        move.left = now
        self.sim.at_boundary(move.target, lambda at: self._reserve(move, tokens, at), now)

    def _reserve(self, move: Move, tokens: int, now: Time) -> None:
        """At a boundary of the target: take the blocks of what is to be copied."""
        if move.outcome:
            return
        pool = move.target.replica.pool
        pool.unland(move.request)
        if move.target.status != UP or not pool.land(move.request, tokens):
            self._abort(move, REFUSED, now)
            return
        self._copy(move, tokens, now)

    def _copy(self, move: Move, tokens: int, now: Time) -> None:
        sim, source, target = self.sim, move.source, move.target
        size = (tokens - move.tokens) * source.group.kv_token_bytes
        blocks = -(-(tokens - move.tokens) // source.block_size)
        move.tokens = tokens
        move.bytes += size
        move.stages += 1
        move.stream = sim.links.start(
            (source.index, source.kind),
            (target.index, target.kind),
            sim.design.link(source.kind, target.kind),
            (size, blocks),
            now,
            lambda at: self._copied(move, at),
        )

    def _copied(self, move: Move, now: Time) -> None:
        move.stream = None
        if move.left < 0:
            self._stage(move, now)
            return
        self._end(move, DONE, now)
        self.sim.at_boundary(
            move.source, lambda _: move.source.replica.release_export(move.request.id), now
        )
        self.sim.resubmit(move.request, move.source, move.target, now)

    def _end(self, move: Move, outcome: str, now: Time) -> None:
        move.outcome = outcome
        move.ended = now
        del self.live[move.request.id]
        self.past.append(move)

    def _abort(self, move: Move, outcome: str, now: Time) -> None:
        """Give up: blocks taken at the target go back; who has left the source goes on anew."""
        self._end(move, outcome, now)
        if move.stream is not None:
            self.sim.links.cancel(move.stream, now)
        request, source, target = move.request, move.source, move.target
        if target.status != DOWN and request.id in target.replica.pool.landed:
            self.sim.at_boundary(target, lambda _: target.replica.pool.unland(request), now)
        if move.left < 0 or request.id not in self.sim.open:
            return
        if source.status == DOWN:
            self.sim.recover(request, now)
        elif move.kind == HANDOVER:
            self._strand(Handed(request, source.index, move.tokens), now)
        else:
            self.sim.at_boundary(source, lambda at: self._go_back(move, at), now)

    def _go_back(self, move: Move, now: Time) -> None:
        """At a boundary of the source: let a request that left in vain take up its KV again."""
        request, source = move.request, move.source
        _, tokens = source.replica.exports[request.id]
        source.replica.release_export(request.id)
        source.replica.pool.land(request, tokens)  # or, if another took the blocks, compute anew
        self.sim.resubmit(request, source, source, now)

    def lose(self, unit: Unit, now: Time) -> None:
        """End all moves from or to a replica that is gone."""
        for move in [one for one in self.live.values() if unit in (one.source, one.target)]:
            self._abort(move, LOST, now)
        for handed in list(unit.bridge):
            self._strand(handed, now)
        unit.bridge.clear()
        for other in self.sim.units:
            for handed in [one for one in other.bridge if one.source == unit.index]:
                other.bridge.remove(handed)
                self.sim.recover(handed.request, now)
        for handed in [one for one in self.sim.unplaced if one.source == unit.index]:
            self.sim.unplaced.remove(handed)
            self.sim.recover(handed.request, now)

    def _strand(self, handed: Handed, now: Time) -> None:
        """Find another decode replica for a prefilled request whose own is gone."""
        if not self.offer(handed, now):
            self.sim.unplaced.append(handed)
