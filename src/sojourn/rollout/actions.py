"""What policies propose about rollouts, and what the machine asks of its host.

Of several proposals about one rollout the strongest holds: closing its group, discarding it,
parking it, resuming it, moving it, extending it. Only `Abort` reaches the host as it is; the
others become a `Submit`, or only change what the machine knows.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from sojourn.decide.clock import Time
from sojourn.rollout.model import TrainGroup


class Submit(NamedTuple):
    """Send a rollout to an engine, to go on behind everything that it has so far.

    Attributes:
        rid, attempt: Name of the submission; events about it carry both.
        group, prompt_id, session: What it belongs to.
        engine: Where it goes.
        prefix_tokens: Tokens that it has after the prompt.
        prefix: Their ids, never made from text again; empty in simulations.
        max_new: Tokens to generate at most.
        priority: Lower first, vLLM's meaning.
        report_at: Values of the rollout's sampled tokens at which a `Progress` is wanted.
    """

    rid: int
    attempt: int
    group: int
    prompt_id: int
    session: int
    engine: int
    prefix_tokens: int
    prefix: tuple[int, ...]
    max_new: int
    priority: int = 0
    report_at: tuple[int, ...] = ()


class Abort(NamedTuple):
    """Stop a rollout and keep or discard its tokens; the host answers with all output so far."""

    rid: int
    keep: bool
    reason: str = ""
    propensity: float = 1.0
    attempt: int = 0  # set by the machine


class Resume(NamedTuple):
    """Let a parked rollout go on."""

    rid: int


class Fork(NamedTuple):
    """Begin a second continuation of a rollout behind `at` sampled tokens, with a chosen token."""

    rid: int
    at: int
    token: int = -1  # -1 for none: the continuation samples its own
    reason: str = ""
    propensity: float = 1.0


class Extend(NamedTuple):
    """Let a rollout have more tokens or turns than its limit says."""

    rid: int
    tokens: int = 0
    turns: int = 0
    reason: str = ""
    propensity: float = 1.0


class Migrate(NamedTuple):
    """Let a rollout go on at another engine."""

    rid: int
    engine: int


class Close(NamedTuple):
    """A group needs no more: what is live of it is discarded, what has ended is kept."""

    group: int
    reason: str = ""
    propensity: float = 1.0


Proposal: TypeAlias = Abort | Resume | Fork | Extend | Migrate | Close
"""What control and dispatch policies may say."""


class End(NamedTuple):
    """A rollout has ended; finished and truncated ones are to be rewarded."""

    rid: int
    status: str


class GroupOver(NamedTuple):
    """A group was trained, filtered or discarded; nothing of it is needed any more."""

    group: int
    status: str


class Train(NamedTuple):
    """Train on a batch.

    Attributes:
        step: Training step, from 1.
        version: Version of the weights before it.
        groups: What to train on.
        stale_tokens: Trained tokens made by older weights than that.
        time: When it was put together.
    """

    step: int
    version: int
    groups: tuple[TrainGroup, ...]
    stale_tokens: int
    time: Time


Action: TypeAlias = Submit | Abort | End | GroupOver | Train
"""What a host carries out."""
