"""Requests that change replicas with their KV: hand-over after the prompt, and live migration.

Blocks at the target are taken at one of its step boundaries, before a byte moves; blocks at the
source are given back at one of its own, after the last byte has arrived.

A live migration copies in stages (Llumnix, OSDI 2024, section 4.2). Before each the target takes
the blocks, or refuses; the request decodes meanwhile. When few full blocks are left, or after the
most stages, the target also takes room for what is decoded until the source's next boundary; there
the request loses its seat and the rest is copied at once. So the stream stands still for the last
copy only, however long the request is. Whoever finishes ends the move at once; whoever loses its
seat at the source, if only for a moment, ends it when its stage is over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from sojourn.decide.actions import Reject
from sojourn.decide.clock import Time
from sojourn.decide.request import Request
from sojourn.decide.states import DECODE, NEW
from sojourn.fleet.views import DOWN, DRAINING, PREFILL, UP
from sojourn.sim.fleet.fetches import DONE, FETCH, REFUSED, Fetches
from sojourn.sim.fleet.links import Stream
from sojourn.sim.fleet.unit import Handed, Unit
from sojourn.steplog.fleet import MoveRow

if TYPE_CHECKING:
    from sojourn.sim.fleet.loop import FleetSimulation

HANDOVER: Final = "handover"
MIGRATION: Final = "migration"

ENDED: Final = "its request ended"
YIELDED: Final = "its request lost its seat"
LOST: Final = "an end was lost"

SLACK_BLOCKS: Final = 2
"""Blocks that the target takes beyond the full ones before the request leaves: the one being
written, and one for what is decoded until then. If that is not enough, it is asked once more."""


@dataclass(slots=True, eq=False)
class Move:
    """A request on its way from one replica to another.

    Attributes:
        kind: `handover`, `migration` or `fetch`.
        began, ended: When the first copy was asked for, and when it was over.
        left: Since when the request has been on no replica; -1 before.
        seat: Its seat at the source when the move began; another one means that it was preempted.
        tokens: Tokens copied so far, or being copied.
        bytes: Bytes copied in all.
        stages: Copies begun.
        stream: The copy under way.
        reader, guest: Of a fetch, in whose names blocks are kept at the source, and taken at the
            target until the copy is there.
        outcome: How it ended; empty before.
    """

    kind: str
    request: Request
    source: Unit
    target: Unit
    began: Time
    ended: Time = -1
    left: Time = -1
    seat: int = -1
    tokens: int = 0
    bytes: int = 0
    stages: int = 0
    stream: Stream | None = None
    reader: Request | None = None
    guest: Request | None = None
    outcome: str = ""


class Moves:
    """All moves of a run.

    Attributes:
        live: Those under way, by request id.
        past: Those that are over, in the order in which they ended.
        returning: Requests that left in vain and wait for a boundary of the replica that has their
            KV, by id.
        refunds: Times that blocks at a target were given up.
    """

    def __init__(self, sim: FleetSimulation) -> None:
        self.sim = sim
        self.live: dict[int, Move] = {}
        self.past: list[Move] = []
        self.returning: dict[int, tuple[Request, Unit]] = {}
        self.refunds = 0
        self.fetches = Fetches(self)

    def hand_over(self, unit: Unit, request: Request, now: Time) -> None:
        """Take a request that a prefill replica has given its first token."""
        if request.id in self.live:  # it was preempted, and computed anew, while it migrated
            self._abort(self.live[request.id], YIELDED, now)
        tokens = unit.replica.depart(request, now, keep=True)
        handed = Handed(request, unit.index, tokens)
        if not self.offer(handed, now):
            self.sim.unplaced.append(handed)

    def offer(self, handed: Handed, now: Time) -> bool:
        """Ask who decodes a prefilled request; return whether that is settled, if by a refusal."""
        source = self.sim.units[handed.source]
        index = self.sim.place.decoder(handed.request, source, now)
        if isinstance(index, Reject):
            request = handed.request
            self.sim.at_boundary(source, lambda _: source.replica.release_export(request.id), now)
            self.sim._ended(request, now, index.reason)
            return True
        if index is None:
            return False
        target = self.sim.units[index]
        if target.status != UP:
            return False
        if target is source:  # it serves another phase by now
            self._return(handed.request, source, now)
            return True
        target.bridge.append(handed)
        self.sim.wake(target, now)
        return True

    def fetch(self, target: Unit, now: Time) -> None:
        """At a boundary of a decode replica: begin to copy what waits for it, in order."""
        said, target.said = target.said, None  # it knows its own load, however old its reports are
        while target.bridge and self._fetch(target, now):
            pass
        target.said = said

    def _fetch(self, target: Unit, now: Time) -> bool:
        """Begin to copy the first that waits for a replica, if it has room."""
        request, index, tokens = target.bridge[0]
        pool = target.replica.pool
        if not self.sim.place.pulls(request, target, pool.blocks_at(request, tokens)):
            return False
        if not pool.land(request, tokens):
            return False
        target.bridge.popleft()
        move = Move(HANDOVER, request, self.sim.units[index], target, now, left=now)
        self.live[request.id] = move
        self.copy(move, tokens, now)
        return True

    def migrate(self, request: Request, source: Unit, target: Unit, now: Time) -> bool:
        """Begin to move a decoding request; return whether it can be begun."""
        decodes = request.state == DECODE and source.status in (UP, DRAINING)
        takes = target.status == UP and target.role != PREFILL and target is not source
        if not decodes or not takes or request.id in self.live:
            return False
        move = Move(MIGRATION, request, source, target, now, seat=request.seat)
        self.live[request.id] = move
        source.departing += 1
        target.arriving += 1
        self._stage(move, now)
        return True

    def fetch_prefix(self, request: Request, source: Unit, target: Unit, now: Time) -> None:
        """Begin to copy what one replica has cached of a prompt to the one that will compute it."""
        if not source.replica.pool.caching:
            self.sim.deliver(request, target, now)
            return
        self.fetches.begin(Move(FETCH, request, source, target, now, left=now), now)

    def ended(self, request: Request, now: Time) -> None:
        """End the move of a request that has ended, if there is one."""
        if request.id in self.live:
            self._abort(self.live[request.id], ENDED, now)

    def _stage(self, move: Move, now: Time) -> None:
        """Have the target take blocks for what is to be copied next."""
        if not self._stays(move):
            self._abort(move, YIELDED, now)
            return
        source, size = move.source, move.source.block_size
        tokens = source.tokens_of(move.request, now) // size * size
        blocks = (tokens - move.tokens) // size
        design = self.sim.design
        last = blocks <= design.last_blocks or move.stages >= design.most_stages
        if last:
            tokens += SLACK_BLOCKS * size
        self.soon(move.target, lambda at: self._reserve(move, tokens, last, at), now)

    def soon(self, unit: Unit, chore: Callable[[Time], None], now: Time) -> None:
        """Have something done at the first boundary of a replica that is later than now.

        At a boundary of one replica nobody can tell whether another has one at the same moment:
        that depends on whether it jumps. A moment later all have passed theirs.
        """
        self.sim.call(now + 1, lambda at: self.sim.at_boundary(unit, chore, at))

    def _stays(self, move: Move) -> bool:
        """Return whether a migrating request has decoded at its source all the time."""
        return move.request.state == DECODE and move.request.seat == move.seat

    def _reserve(self, move: Move, tokens: int, last: bool, now: Time) -> None:
        """At a boundary of the target: take the blocks of what is to be copied."""
        if move.outcome:
            return
        pool = move.target.replica.pool
        pool.unland(move.request)
        if move.target.status != UP or not pool.land(move.request, tokens):
            self._abort(move, REFUSED, now)
        elif last and move.left < 0:
            self.soon(move.source, lambda at: self._take_out(move, at), now)
        else:
            self.copy(move, tokens, now)

    def _take_out(self, move: Move, now: Time) -> None:
        """At a boundary of the source: end the decoding, then copy the rest."""
        if move.outcome:
            return
        if not self._stays(move):
            self._abort(move, YIELDED, now)
            return
        tokens = move.source.replica.depart(move.request, now, keep=True)
        move.left = now
        pool = move.target.replica.pool
        if pool.blocks_at(move.request, tokens) <= pool.blocks_at(*pool.landed[move.request.id]):
            self.copy(move, tokens, now)
        else:
            self.soon(move.target, lambda at: self._reserve(move, tokens, True, at), now)

    def copy(self, move: Move, tokens: int, now: Time) -> None:
        """Begin to copy up to so many tokens."""
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
        if move.kind == FETCH:
            self.fetches.copied(move, now)
            return
        if move.left < 0:
            self._stage(move, now)
            return
        request, source, target = move.request, move.source, move.target
        self.close(move, DONE, now)
        self.sim.at_boundary(source, lambda _: source.replica.release_export(request.id), now)
        self.sim.at_boundary(target, lambda _: _trim(target, request, move.tokens), now)
        self.sim.resubmit(request, source, target, now)

    def close(self, move: Move, outcome: str, now: Time) -> None:
        """Take a move off the books."""
        move.outcome = outcome
        move.ended = now
        del self.live[move.request.id]
        self.past.append(move)
        if move.kind == MIGRATION:
            move.source.departing -= 1
            move.target.arriving -= 1

    def _abort(self, move: Move, outcome: str, now: Time) -> None:
        """Give up: blocks taken at the target go back; who has left the source goes on anew."""
        if move.kind == FETCH:
            self.fetches.end(move, outcome, now)
            return
        self.close(move, outcome, now)
        if move.stream is not None:
            self.sim.links.cancel(move.stream, now)
        request, source, target = move.request, move.source, move.target
        if target.status != DOWN and request.id in target.replica.pool.landed:
            self._give_back(target, request, now)
        if move.left >= 0 and request.id in self.sim.open:
            if source.status == DOWN:
                self.sim.recover(request, now)
            elif move.kind == HANDOVER:
                self._strand(Handed(request, source.index, move.tokens), now)
            else:
                self._return(request, source, now)
        for unit in (source, target):
            if unit.status == DRAINING:
                self.sim.lives.drained(unit, now)

    def _give_back(self, target: Unit, request: Request, now: Time) -> None:
        """Have the target give blocks back at its next boundary.

        Until then they are nobody's: the request itself may be sent there anew before.
        """
        pool = target.replica.pool
        self.refunds += 1
        nobody = replace(request, id=-self.refunds, state=NEW)
        _, tokens = pool.landed.pop(request.id)
        pool.landed[nobody.id] = (nobody, tokens)
        self.soon(target, lambda _: pool.unland(nobody), now)

    def _return(self, request: Request, source: Unit, now: Time) -> None:
        """Have a request that left take up its KV again, at a boundary of the replica that has it.

        If another takes the blocks first, it is computed anew.
        """
        self.returning[request.id] = (request, source)

        def go_back(at: Time) -> None:
            del self.returning[request.id]
            _, tokens = source.replica.exports[request.id]
            source.replica.release_export(request.id)
            source.replica.pool.land(request, tokens)
            self.sim.resubmit(request, source, source, at)

        self.soon(source, go_back, now)

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
                self.sim.wake(other, now)  # who is first there now may fit
                self.sim.recover(handed.request, now)
        for handed in [one for one in self.sim.unplaced if one.source == unit.index]:
            self.sim.unplaced.remove(handed)
            self.sim.recover(handed.request, now)
        for request, source in list(self.returning.values()):
            if source is unit:
                del self.returning[request.id]
                self.sim.recover(request, now)

    def rows(self, row_of: Sequence[int]) -> list[MoveRow]:
        """Return what became of all moves, given the workload row of each request id."""
        return [
            MoveRow(
                kind=one.kind,
                request=row_of[one.request.id],
                source=one.source.index,
                target=one.target.index,
                began=one.began,
                ended=one.ended,
                down=one.ended - one.left if one.left >= 0 else -1,
                bytes=one.bytes,
                stages=one.stages,
                outcome=one.outcome,
            )
            for one in self.past
        ]

    def _strand(self, handed: Handed, now: Time) -> None:
        """Find another decode replica for a prefilled request whose own is gone."""
        if not self.offer(handed, now):
            self.sim.unplaced.append(handed)


def _trim(target: Unit, request: Request, tokens: int) -> None:
    """Give back what the target took beyond the tokens that came."""
    pool = target.replica.pool
    if request.id in pool.landed:
        spare = pool.blocks_at(*pool.landed[request.id]) - pool.blocks_at(request, tokens)
        pool.landed[request.id] = (request, tokens)
        pool.give(spare)
