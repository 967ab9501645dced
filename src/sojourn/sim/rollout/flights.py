"""A rollout as its host knows it: what it will be, where it is, and what has been told of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from sojourn.decide.request import Request
from sojourn.decide.states import DECODE
from sojourn.engine.replica import Replica
from sojourn.rollout.model import Piece
from sojourn.sim.rollout.truth import Draw

REPORT = "report"
TURN = "turn"
CAP = "cap"


@dataclass(slots=True, eq=False)
class Flight:
    """A rollout from its first submission until its group is over.

    Attributes:
        rid, group, prompt_id: Its numbers.
        draw: What it will be.
        prompt_tokens: Tokens of its prompt.
        attempt: The latest submission.
        engine: Engine that has it; -1 for none.
        home: Engine whose cache may still hold its KV; -1 for none.
        request: Its request there; None if it has none that could go on.
        offset: Sampled tokens before the first of those that the request counts.
        sampled, length: Sampled tokens, and all after the prompt, that were told.
        goal: Sampled tokens at which the submission ends, if the rollout does not before.
        reports: Totals of sampled tokens at which progress is to be told, the next one last.
        untold: Sampled tokens by weight version that were not told yet, the versions that are over.
        context: Tokens that the environment has added since the request was last submitted.
    """

    rid: int
    group: int
    prompt_id: int
    draw: Draw
    prompt_tokens: int
    attempt: int = 0
    engine: int = -1
    home: int = -1
    request: Request | None = None
    offset: int = 0
    sampled: int = 0
    length: int = 0
    goal: int = 0
    reports: list[int] = field(default_factory=list)
    untold: list[Piece] = field(default_factory=list)
    context: int = 0

    def reached(self, replica: Replica) -> int:
        """Return the tokens sampled by the last step that ended."""
        request = self.request
        assert request is not None, "it is on no engine"
        decoded = request.decoded
        if request.state == DECODE:
            decoded += replica.machine.ticks - request.joined
        return self.offset + decoded

    def mark(self, replica: Replica, version: int) -> None:
        """Take note that what comes from now on is of other weights than `version`."""
        new = self.reached(replica) - self.sampled - sum(piece.tokens for piece in self.untold)
        if new:
            self.untold.append(Piece(new, version))

    def tell(self, replica: Replica, version: int) -> tuple[int, tuple[Piece, ...]]:
        """Return how much was told before, and what is new; from now on that counts as told."""
        self.mark(replica, version)
        start, pieces = self.length, tuple(self.untold)
        new = sum(piece.tokens for piece in pieces)
        self.sampled += new
        self.length += new
        self.untold.clear()
        return start, pieces

    def next_stop(self) -> tuple[int, str]:
        """Return at how many sampled tokens something is to be said before its end, and what.

        Past the end of the rollout there is nothing.
        """
        at = self.sampled + sum(piece.tokens for piece in self.untold)
        turn = next((end for end in self.draw.turn_ends if end > at), 1 << 60)
        stop, kind = (turn, TURN) if turn <= self.goal else (self.goal, CAP)
        if self.reports and self.reports[-1] < stop:
            return self.reports[-1], REPORT
        return stop, kind
