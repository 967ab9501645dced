"""What fleet policies may read: replicas as far as their router knows them, and the fleet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from sojourn.decide.clock import Time
from sojourn.decide.request import RequestView
from sojourn.decide.services import StepTime

MIXED: Final = "mixed"
PREFILL: Final = "prefill"
DECODE: Final = "decode"
ROLES: Final = (MIXED, PREFILL, DECODE)

STARTING: Final = "starting"
UP: Final = "up"
DRAINING: Final = "draining"
DOWN: Final = "down"


@dataclass(frozen=True, slots=True)
class Load:
    """What a replica said of itself.

    Attributes:
        time: When it was so; earlier than now where reports are stale.
        waiting: Requests queued for a seat.
        seated: Requests with a seat.
        context: KV tokens that the next decode step reads.
        free_blocks: KV blocks that can be taken, cached ones included.
        demand_blocks: Blocks that all waiting requests need.
        head_blocks: Blocks that the next of them needs; 0 without one.
        landed_blocks: Blocks of KV that came, or is coming, from elsewhere for requests without a
            seat.
        dropped: Waiting requests that had run and lost their KV.
    """

    time: Time
    waiting: int = 0
    seated: int = 0
    context: int = 0
    free_blocks: int = 0
    demand_blocks: int = 0
    head_blocks: int = 0
    landed_blocks: int = 0
    dropped: int = 0


class RoutedView(RequestView, Protocol):
    """A request as a router sees it.

    Attributes:
        prefix: Ids of the prompt's full blocks, front to back; equal ids are equal text and equal
            text before it.
    """

    @property
    def prefix(self) -> tuple[int, ...]: ...


class ReplicaView(Protocol):
    """A replica as its router knows it.

    Attributes:
        index: Number, never used again after the replica is gone.
        kind: Name of the group of like replicas that it belongs to.
        role: `mixed`, `prefill` or `decode`.
        status: `starting`, `up`, `draining` or `down`.
        load: Its last report.
        open: Requests sent to it that have not ended; counted by the router itself, never stale.
        urgent: Those whose client gave a priority below 0.
        departing, arriving: Live migrations under way from it and to it.
        prompt_tokens: Prompt tokens of those that have given no token yet.
        open_tokens: Prompt tokens of all of them.
        blocks, block_size, seats: KV blocks, tokens in each, and seats.
        step_time: Predicts its steps.
        dollars_per_hour: Price.
    """

    @property
    def index(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def role(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def load(self) -> Load: ...
    @property
    def open(self) -> int: ...
    @property
    def urgent(self) -> int: ...
    @property
    def departing(self) -> int: ...
    @property
    def arriving(self) -> int: ...
    @property
    def prompt_tokens(self) -> int: ...
    @property
    def open_tokens(self) -> int: ...
    @property
    def blocks(self) -> int: ...
    @property
    def block_size(self) -> int: ...
    @property
    def seats(self) -> int: ...
    @property
    def step_time(self) -> StepTime: ...
    @property
    def dollars_per_hour(self) -> float: ...

    def cached_tokens(self, request: RoutedView) -> int:
        """Return the prompt tokens that its prefix cache holds now."""

    def has_room(self, request: RoutedView) -> bool:
        """Return whether it would take the request up at its next step: what it answers if asked.

        That is a seat, tokens of the step, and KV blocks for the whole prompt, beyond what those
        ahead of it will take.
        """

    def running(self) -> Sequence[RequestView]:
        """Return its decoding requests, with current token counts, in the order of their seats."""


class FleetView(Protocol):
    """A fleet, and what it offers to those who decide about it.

    Attributes:
        replicas: Every replica there has been, by index.
        entries: Those that take arrivals: up, and mixed or prefill; in the order of index.
        decoders: Those that take prefilled requests: up, and decode.
        block_tokens: Tokens behind a prefix id; 0 without ids.
        waiting: Requests that no replica has got yet.
    """

    @property
    def replicas(self) -> Sequence[ReplicaView]: ...
    @property
    def entries(self) -> Sequence[ReplicaView]: ...
    @property
    def decoders(self) -> Sequence[ReplicaView]: ...
    @property
    def block_tokens(self) -> int: ...
    @property
    def waiting(self) -> int: ...

    def draw(self, bound: int) -> int:
        """Return a random number from 0 to bound - 1, out of the asking policy's own stream."""

    def kv_bytes(self, request: RequestView) -> int:
        """Return the bytes of KV of a request's tokens."""

    def transfer_time(self, source: int, target: int, tokens: int) -> Time:
        """Return how long KV of so many tokens takes between two replicas with the link idle."""
