"""The slots where policies plug in, and what each may see and say.

A policy proposes; the layer below disposes and may refuse. A refusal is a value and changes
nothing. A plan is a fixed point: deciding again in the same state changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Literal, NamedTuple, Protocol, TypeAlias

from sojourn.decide.actions import DelayUntil, Reject
from sojourn.decide.clock import Time
from sojourn.decide.limits import EngineLimits
from sojourn.decide.needs import Need
from sojourn.decide.queues import Key
from sojourn.decide.request import ClairvoyantView, RequestView
from sojourn.decide.services import StepTime

Changes: TypeAlias = Literal["never", "events", "worsens"]


class Refusal(Enum):
    """Why the layer below did not do what a policy proposed."""

    SEAT = "no free seat"
    BLOCKS = "not enough free KV blocks"
    TOKENS = "no tokens left in the step"
    BUSY = "its KV is not on the GPU"


class Mode(Enum):
    """How a request yields: its KV stays, moves to host memory, or is dropped."""

    KEEP = "keep"
    SWAP = "swap"
    DROP = "drop"


Yield = NamedTuple("Yield", [("request", RequestView), ("mode", Mode)])
"""A victim and how it yields."""


class EngineView(Protocol):
    """What a policy may read of the replica that it runs on.

    Attributes:
        steps: Steps ended; policies count these, never their own calls.
        ticks: Decode steps ended; each gives one token to every decoding request.
    """

    @property
    def limits(self) -> EngineLimits: ...
    @property
    def steps(self) -> int: ...
    @property
    def ticks(self) -> int: ...
    @property
    def decodes(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Services:
    """What a host injects into the policies of a replica; `truth` only for `Need.TRUTH`."""

    view: EngineView
    step_time: StepTime
    truth: ClairvoyantView | None = None


class Policy(Protocol):
    """Declares what it needs of its host."""

    needs: ClassVar[frozenset[Need]]


class Admit(Policy, Protocol):
    """Accepts an arrival (None), puts it off, or sheds it."""

    def admit(self, request: RequestView, queued: int, now: Time) -> DelayUntil | Reject | None:
        """Decide about an arrival with `queued` requests before it."""


class Order(Policy, Protocol):
    """Says who goes first.

    Attributes:
        changes: How the key of a queued request may move: `never`, on `events` (its own moves or
            an alarm), or it only `worsens` by itself.
        minds_arrivals: Whether an arrival changes more than its own place in the queue.
        alarm_time: When `ring` wants to be called although nothing happened; NEVER for no need.
        alarm_step: The step number before which `ring` wants to be called; NEVER for no need.
    """

    changes: ClassVar[Changes]
    minds_arrivals: ClassVar[bool]
    alarm_time: Time
    alarm_step: int

    def key(self, request: RequestView, now: Time) -> Key:
        """Return the rank of a request; smaller goes first."""

    def moved(self, request: RequestView, start: int, finish: int, now: Time) -> None:
        """Take note that a request went from one state to another; its key is asked anew."""

    def ring(self, now: Time) -> Sequence[RequestView]:
        """Do what an alarm was for and return the requests whose keys changed."""

    def holds(self, request: RequestView, now: Time) -> tuple[int, Time]:
        """Return for how many steps, and until when, the best queued request stays the best.

        Asked only if it could not run for want of blocks; an answer may be early, never late.
        """


class GroupedOrder(Order, Protocol):
    """An order over groups, FIFO inside each; group keys may only worsen by themselves."""

    def group(self, request: RequestView) -> int:
        """Return the group of a request."""

    def group_key(self, group: int, now: Time) -> Key:
        """Return the rank of a group; smaller goes first."""


class ContestedOrder(Order, Protocol):
    """An order by which queued requests may take the seats of others."""

    def standing(self, request: RequestView, now: Time) -> Key:
        """Return the rank of a seated request among the seated ones; moves on events only."""


class Draft(Protocol):
    """The step being composed.

    Attributes:
        now: When the step begins.
        tokens: Tokens left in the step.
        seats: Free seats.
        yielded: Requests that lost KV or seat for want of blocks in this draft.
    """

    now: Time
    tokens: int
    yielded: int

    @property
    def seats(self) -> int: ...

    def secure(self) -> None:
        """Make room for the growth of all decoding requests, before anything else is granted."""

    def decode(self) -> int:
        """Grant one token to every decoding request, making room if need be; return how many."""

    def partials(self, ranked: bool = False) -> Sequence[RequestView]:
        """Return the seated requests in prefill, in seat order or by rank."""

    def ahead(self, one: RequestView, other: RequestView) -> bool:
        """Return whether `one` ranks before `other`, ties broken by arrival, then id."""

    def peek(self, parked: bool = False) -> RequestView | None:
        """Return the best queued request, or the best of those whose KV is on the GPU."""

    def remaining(self, request: RequestView) -> int:
        """Return the tokens to compute before its next token, less what the cache holds."""

    def grant(self, request: RequestView, tokens: int) -> Refusal | None:
        """Compute tokens of a request; the best queued one is given a seat for it."""

    def resume(self, request: RequestView) -> Refusal | None:
        """Give a seat to a paused request."""

    def fetch(self, request: RequestView) -> Refusal | None:
        """Begin to copy the KV of the best queued request back from host memory."""

    def make_room(self, request: RequestView, spare: int = 0) -> bool:
        """Let the victim slot free blocks for a queued request and `spare`; say if they are."""

    def worst(self) -> RequestView | None:
        """Return the seated request with the worst standing."""

    def unseat(self, request: RequestView, mode: Mode) -> Refusal | None:
        """Take the seat of a request, or swap a paused one out."""


class Compose(Policy, Protocol):
    """Decides a step's batch, anew at `alarm_step`; `contests` if others' seats may be taken."""

    contests: ClassVar[bool]
    alarm_step: int

    def compose(self, draft: Draft) -> None:
        """Fill the draft."""


class Pressure(Protocol):
    """What a victim policy may choose from."""

    def seated_last_first(self) -> Iterable[RequestView]:
        """Return the seated requests, last seated first."""

    def worst_seated(self, now: Time) -> RequestView | None:
        """Return the seated request with the worst rank; only where seats are contested."""

    def worst_paused(self) -> RequestView | None:
        """Return the paused request with the worst rank."""


class Victim(Policy, Protocol):
    """Chooses who yields when memory is short, and how.

    Attributes:
        keep_free: Free blocks below which `prepare` may name somebody; 0 if it never does.
    """

    keep_free: int

    def victim(self, pressure: Pressure, wants: RequestView | None, now: Time) -> Yield | None:
        """Return who yields so that `wants` (or a newcomer) may run; None if nobody should."""

    def prepare(self, pressure: Pressure, free_blocks: int) -> Yield | None:
        """Return who yields ahead of need, asked again until None, before each step."""


class Retain(Policy, Protocol):
    """Decides how long the KV of a finished request is held."""

    def until(self, request: RequestView, now: Time) -> Time:
        """Return the moment until which it is held; `now` or earlier releases it."""
