"""What can happen: everything that a host tells the rollout machine, and two words of its own.

Each event is an immutable tuple that begins with its time. Those of a rollout carry the number
of the submission (`attempt`) they belong to, so that a late word about an earlier one is known as
such. Output is told once: `start` is how many tokens stood after the prompt before these pieces.
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

from sojourn.decide.clock import Time
from sojourn.rollout.model import Piece

STOP: Final = "stop"
LENGTH: Final = "length"
ERROR: Final = "error"
REASONS: Final = (STOP, LENGTH, ERROR)
EVERY_ENGINE: Final = -1

Pieces: TypeAlias = tuple[Piece, ...]


class EngineUp(NamedTuple):
    """An engine takes rollouts from now on, with weights of `version`."""

    time: Time
    engine: int
    version: int = 0
    seats: int = 0  # rollouts it runs at once; 0 if not known
    kv_tokens: int = 0  # tokens its KV cache holds; 0 if not known


class EngineLoad(NamedTuple):
    """An engine's own report; `kv` is the share of its KV cache that is in use, 0 to 1."""

    time: Time
    engine: int
    kv: float
    running: int
    waiting: int
    preemptions: int = 0


class EngineLost(NamedTuple):
    """An engine is gone; `lost_tokens` were generated there and never reported, if known."""

    time: Time
    engine: int
    lost_tokens: int = 0


class Started(NamedTuple):
    """An engine has begun with a rollout."""

    time: Time
    rid: int
    attempt: int


class Progress(NamedTuple):
    """A running rollout has more output; `features` are what the engine can say of it."""

    time: Time
    rid: int
    attempt: int
    start: int
    pieces: Pieces
    features: tuple[float, ...] = ()


class TurnEnd(NamedTuple):
    """A rollout ended a turn; its environment runs now."""

    time: Time
    rid: int
    attempt: int
    start: int
    pieces: Pieces


class ToolReturn(NamedTuple):
    """The environment of a rollout answered with an observation.

    `done` says that it ended the rollout, `failed` that it could not go on.
    """

    time: Time
    rid: int
    tokens: int
    token_ids: tuple[int, ...] = ()
    done: bool = False
    failed: bool = False


class Finished(NamedTuple):
    """An engine is through with a submission; `reason` is one of `REASONS`."""

    time: Time
    rid: int
    attempt: int
    start: int
    pieces: Pieces
    reason: str = STOP


class Aborted(NamedTuple):
    """An engine stopped a submission, asked or not; the pieces are what had not been told yet."""

    time: Time
    rid: int
    attempt: int
    start: int
    pieces: Pieces


class Rewarded(NamedTuple):
    """A rollout has a reward; it may be told again, which revises it."""

    time: Time
    rid: int
    value: float
    final: bool = True
    source: str = ""


class BatchWanted(NamedTuple):
    """The trainer takes the next batch as soon as there is one."""

    time: Time


class WeightsPending(NamedTuple):
    """An engine, or every one, is about to load new weights and takes no rollouts."""

    time: Time
    version: int
    engine: int = EVERY_ENGINE


class WeightsLive(NamedTuple):
    """An engine, or every one, serves new weights."""

    time: Time
    version: int
    engine: int = EVERY_ENGINE


class Tick(NamedTuple):
    """Time went by."""

    time: Time


class Settled(NamedTuple):
    """The machine's own word to policies: a group is settled, filtered or discarded."""

    time: Time
    group: int
    status: str


class Batched(NamedTuple):
    """The machine's own word to policies: a batch was handed to the trainer."""

    time: Time
    step: int
    groups: tuple[int, ...]


OfRollout: TypeAlias = Started | Progress | TurnEnd | ToolReturn | Finished | Aborted | Rewarded
OfEngine: TypeAlias = EngineUp | EngineLoad | EngineLost | WeightsPending | WeightsLive
Event: TypeAlias = OfRollout | OfEngine | BatchWanted | Tick
Heard: TypeAlias = Event | Settled | Batched
"""What policies hear."""
