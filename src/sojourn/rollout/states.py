"""The states of a rollout and of a group, and every legal move between them.

Tokens of a rollout are in flight while it is pending, running or acting; they are carried while
it is parked, or has ended and waits for its group to be trained.
"""

from __future__ import annotations

from typing import Final

PENDING: Final = "pending"  # waits for an engine, with all tokens that it has so far
RUNNING: Final = "running"  # an engine has it, or has been asked to abort it and not answered
ACTING: Final = "acting"  # its environment or tool runs; no engine has it
PARKED: Final = "parked"  # stopped with its tokens kept, until it is resumed
FINISHED: Final = "finished"  # it ended by itself
TRUNCATED: Final = "truncated"  # it reached its limit of tokens or turns
PRUNED: Final = "pruned"  # stopped on purpose, with its tokens discarded
FAILED: Final = "failed"  # its engine or environment could not go on

LIVE: Final = (PENDING, RUNNING, ACTING, PARKED)
ENDED: Final = (FINISHED, TRUNCATED, PRUNED, FAILED)
SCORED: Final = (FINISHED, TRUNCATED)
"""The ends after which a reward is expected."""
FLYING: Final = (PENDING, RUNNING, ACTING)
"""The states in which tokens count as in flight."""

NEW: Final = "new"  # not yet known to the machine

TRANSITIONS: Final = {
    (NEW, PENDING): "submitted",
    (PENDING, RUNNING): "sent to an engine",
    (PENDING, PARKED): "parked before it was sent",
    (PENDING, PRUNED): "discarded before it was sent",
    (RUNNING, PENDING): "engine lost, or aborted to go on elsewhere",
    (RUNNING, ACTING): "turn ended",
    (RUNNING, PARKED): "aborted and kept, or its stretch ended",
    (RUNNING, FINISHED): "last token",
    (RUNNING, PRUNED): "aborted and discarded",
    (RUNNING, FAILED): "engine error",
    (ACTING, PENDING): "observation came",
    (ACTING, PARKED): "parked while its environment runs",
    (ACTING, FINISHED): "its environment ended it",
    (ACTING, TRUNCATED): "limit of turns",
    (ACTING, PRUNED): "discarded while its environment runs",
    (ACTING, FAILED): "environment error",
    (PARKED, PENDING): "resumed",
    (PARKED, ACTING): "resumed while its environment runs",
    (PARKED, FINISHED): "its environment ended it",
    (PARKED, TRUNCATED): "limit of tokens, not extended",
    (PARKED, PRUNED): "discarded",
    (PARKED, FAILED): "environment error",
}
"""Every legal move of a rollout and its reason."""

OPEN: Final = "open"  # rollouts are live or unrewarded, or more may be submitted
SETTLED: Final = "settled"  # all is known of it; it waits to be trained
TRAINED: Final = "trained"  # a batch took it
FILTERED: Final = "filtered"  # it was not worth training; it does not count as accepted
DISCARDED: Final = "discarded"  # it has no rollout that could be trained, or was given up

OVER: Final = (TRAINED, FILTERED, DISCARDED)
"""The states of a group that the machine has forgotten."""

GROUP_TRANSITIONS: Final = {
    (NEW, OPEN): "opened",
    (OPEN, SETTLED): "every rollout ended and is rewarded; no more wanted",
    (OPEN, FILTERED): "no signal",
    (OPEN, DISCARDED): "nothing to train, or closed",
    (SETTLED, TRAINED): "in a batch",
    (SETTLED, DISCARDED): "closed",
}
"""Every legal move of a group and its reason."""


class IllegalMove(AssertionError):
    """A bug of ours: a change of state that the tables do not have."""


def check_move(start: str, finish: str) -> None:
    """Refuse a move of a rollout that is not in the table."""
    if (start, finish) not in TRANSITIONS:
        raise IllegalMove(f"a rollout cannot go from {start} to {finish}")


def check_group_move(start: str, finish: str) -> None:
    """Refuse a move of a group that is not in the table."""
    if (start, finish) not in GROUP_TRANSITIONS:
        raise IllegalMove(f"a group cannot go from {start} to {finish}")
