"""What can be asked for: everything that the decide layer asks of a host.

The machine has already made the state change when it returns an action; the host carries out the
mechanics (blocks, copies, messages). Fleet and rollout policies propose the last group.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from sojourn.decide.clock import Time
from sojourn.decide.request import Request


class Grant(NamedTuple):
    """Compute `tokens` prompt tokens of a request in the coming step."""

    request: Request
    tokens: int


class Pause(NamedTuple):
    """Take the seat, keep the KV on the GPU."""

    request: Request


class Swap(NamedTuple):
    """Copy the KV of a paused request to host memory."""

    request: Request


class Drop(NamedTuple):
    """Give the KV of a request's `tokens` back; they will be computed again."""

    request: Request
    tokens: int


class Resume(NamedTuple):
    """Copy a request's KV back from host memory, or take it up from its tokens."""

    request: Request


class HoldUntil(NamedTuple):
    """Keep the KV of a finished request until a moment."""

    request: Request
    until: Time


class Release(NamedTuple):
    """Give the KV of an ended request's `tokens` back; the prefix cache may keep it."""

    request: Request
    tokens: int


class Reject(NamedTuple):
    """Shed a request, for a reason that is counted."""

    request: Request
    reason: str


class DelayUntil(NamedTuple):
    """Ask again about an arrival at a moment."""

    request: Request
    until: Time


class Submit(NamedTuple):
    """Send a request, with a prefix of tokens already generated, to a replica."""

    request: Request
    replica: int
    prefix_tokens: int


class Abort(NamedTuple):
    """Stop a request; its partial output is kept or discarded."""

    request: Request
    keep: bool


class Fork(NamedTuple):
    """Begin a second continuation of a request at one of its tokens."""

    request: Request
    token: int


class Migrate(NamedTuple):
    """Move a live request, with its KV, to another replica while it decodes."""

    request: Request
    target: int


class Transfer(NamedTuple):
    """Send a prefilled request's KV to the replica that will decode it."""

    request: Request
    target: int


class SetRole(NamedTuple):
    """Let a replica serve another phase: mixed, prefill or decode."""

    replica: int
    role: str


class Scale(NamedTuple):
    """Add replicas of a kind (positive) or drain some (negative)."""

    kind: str
    replicas: int


Action: TypeAlias = (
    Grant
    | Pause
    | Swap
    | Drop
    | Resume
    | HoldUntil
    | Release
    | Reject
    | DelayUntil
    | Submit
    | Abort
    | Fork
    | Migrate
    | Transfer
    | SetRole
    | Scale
)
