"""What can happen: everything that any host tells the decide layer.

Each event is an immutable tuple that begins with its time. A replica's machine acts on the first
group; all events reach the policies that subscribe to them (fleet and rollout policies).
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from sojourn.decide.clock import Time
from sojourn.decide.request import Request


class Arrival(NamedTuple):
    """A request reached the host."""

    time: Time
    request: Request


class Cancel(NamedTuple):
    """A client went away; what was generated is kept or discarded by its owner."""

    time: Time
    request: Request


class StepEnd(NamedTuple):
    """`steps` identical steps ended.

    `grants` are the prompt tokens computed, by request; `decodes` says whether each decoding
    request got one token in each step.
    """

    time: Time
    steps: int
    decodes: bool
    grants: tuple[tuple[Request, int], ...]


class Finish(NamedTuple):
    """A request got its last token."""

    time: Time
    request: Request


class SwapDone(NamedTuple):
    """The copy of a request's KV to host memory, or back, is complete."""

    time: Time
    request: Request


class Timer(NamedTuple):
    """A moment that was asked for has come."""

    time: Time


class MemoryPressure(NamedTuple):
    """The engine needs KV blocks that are not free, on behalf of a request or of nobody."""

    time: Time
    request: Request | None


class FirstToken(NamedTuple):
    """A request's first token was delivered."""

    time: Time
    request: Request


class ToolReturn(NamedTuple):
    """A tool call of a program ended; its next request follows."""

    time: Time
    program: int


class TransferDone(NamedTuple):
    """A request's KV has reached another replica."""

    time: Time
    request: Request
    source: int
    target: int


class ReplicaUp(NamedTuple):
    """A replica is ready to serve."""

    time: Time
    replica: int
    role: str


class ReplicaDown(NamedTuple):
    """A replica is lost, with all KV on it; `notice` is how long before it was announced."""

    time: Time
    replica: int
    notice: Time


class RoleChanged(NamedTuple):
    """A replica serves another phase from now on: mixed, prefill or decode."""

    time: Time
    replica: int
    role: str


class LoadReport(NamedTuple):
    """A replica's load as it was at `measured`, which may be earlier than `time`."""

    time: Time
    measured: Time
    replica: int
    waiting: int
    seated: int
    tokens: int
    free_blocks: int


class WeightsPending(NamedTuple):
    """New weights are about to be loaded."""

    time: Time
    version: int


class WeightsLive(NamedTuple):
    """New weights serve from now on."""

    time: Time
    version: int


class GroupClosed(NamedTuple):
    """A group of rollouts needs no more samples."""

    time: Time
    group: int


Event: TypeAlias = (
    Arrival
    | Cancel
    | StepEnd
    | Finish
    | SwapDone
    | Timer
    | MemoryPressure
    | FirstToken
    | ToolReturn
    | TransferDone
    | ReplicaUp
    | ReplicaDown
    | RoleChanged
    | LoadReport
    | WeightsPending
    | WeightsLive
    | GroupClosed
)
