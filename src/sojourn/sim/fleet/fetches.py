"""Prompts that take along what another replica has cached of them, before they queue.

Each end acts at a step boundary of its own. The source keeps the prefix from then on until it has
been read; the target takes blocks for what it has not, and puts the copy into its prefix cache when
all of it is there. Then the prompt queues at the target and finds the prefix as it finds any other,
unless it has been evicted by the time that it gets a seat. Whatever goes wrong, a link that is cut
included, it queues without.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from sojourn.decide.clock import Time
from sojourn.decide.request import Request
from sojourn.decide.states import NEW
from sojourn.fleet.views import DOWN, DRAINING

if TYPE_CHECKING:
    from sojourn.sim.fleet.moves import Move, Moves

FETCH: Final = "fetch"

DONE: Final = "done"
NOTHING: Final = "nothing to fetch"
REFUSED: Final = "no room at the target"
PARTED: Final = "its link is cut"


class Fetches:
    """The fetches among the moves of a run; no request has two at once."""

    def __init__(self, moves: Moves) -> None:
        self.moves = moves

    def begin(self, move: Move, now: Time) -> None:
        """Have the source keep what is to be read."""
        self.moves.live[move.request.id] = move
        self.moves.soon(move.source, lambda at: self._lend(move, at), now)

    def _lend(self, move: Move, now: Time) -> None:
        """At a boundary of the source: keep what it has."""
        if move.outcome:
            return
        replica, reader = move.source.replica, self._nobody(move.request)
        if tokens := replica.pool.lend(reader):
            replica.exports[reader.id] = (reader, tokens)
            move.reader = reader
        self.moves.soon(move.target, lambda at: self._reserve(move, tokens, at), now)

    def _reserve(self, move: Move, tokens: int, now: Time) -> None:
        """At a boundary of the target: take blocks for what it has not."""
        if move.outcome:
            return
        pool, request = move.target.replica.pool, move.request
        have = pool.find(request)[0]
        if have >= tokens:
            self.end(move, NOTHING, now)
            return
        if self._pair(move) in self.moves.sim.links.severed:
            self.end(move, PARTED, now)
            return
        guest = self._nobody(request)
        guest.prefix = request.prefix[have // pool.id_tokens : tokens // pool.id_tokens]
        if not pool.land(guest, tokens - have):
            self.end(move, REFUSED, now)
            return
        move.guest = guest
        self.moves.copy(move, tokens - have, now)

    def _nobody(self, request: Request) -> Request:
        """Return one in whose name blocks are taken: the request itself may queue there anew."""
        self.moves.refunds += 1
        return replace(request, id=-self.moves.refunds, state=NEW)

    @staticmethod
    def _pair(move: Move) -> tuple[str, str]:
        one, other = sorted((move.source.kind, move.target.kind))
        return one, other

    def parted(self, pair: tuple[str, str], now: Time) -> None:
        """Give up what is being fetched over a link that is cut."""
        for move in list(self.moves.live.values()):
            if move.kind == FETCH and move.stream is not None and self._pair(move) == pair:
                self.end(move, PARTED, now)

    def copied(self, move: Move, now: Time) -> None:
        """Have the source give back what was read, and the target put it into its cache."""
        replica, reader = move.source.replica, move.reader
        assert reader is not None, "read without a reader"
        move.reader = None
        self.moves.sim.at_boundary(move.source, lambda _: replica.release_export(reader.id), now)
        self.moves.soon(move.target, lambda at: self._shelve(move, at), now)

    def _shelve(self, move: Move, now: Time) -> None:
        if move.outcome:
            return
        assert move.guest is not None, "copied without blocks"
        move.target.replica.pool.shelve(move.guest.id)
        move.guest = None
        self.end(move, DONE, now)

    def end(self, move: Move, outcome: str, now: Time) -> None:
        """Let the prompt queue, with what has come or without; all that was taken goes back."""
        sim, request, source, target = self.moves.sim, move.request, move.source, move.target
        self.moves.close(move, outcome, now)
        if move.stream is not None:
            sim.links.cancel(move.stream, now)
        if source.status != DOWN and move.reader is not None:
            reader = move.reader.id
            self.moves.soon(source, lambda _: source.replica.release_export(reader), now)
        if target.status != DOWN and move.guest is not None:
            guest = move.guest
            self.moves.soon(target, lambda _: target.replica.pool.unland(guest), now)
        if request.id in sim.open:
            if target.status == DOWN:
                sim.recover(request, now)
            else:
                sim.deliver(request, target, now)
        if source.status == DRAINING:
            sim.lives.drained(source, now)
