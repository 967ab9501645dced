"""The engine with the smallest share of its seats taken, so that rollouts wait in one place."""

from __future__ import annotations

from collections.abc import Sequence

from sojourn.rollout.views import EngineView


def emptiest(engines: Sequence[EngineView], seats: int) -> int | None:
    """Return the engine with the smallest share of its seats taken, or None if all are full.

    `seats` is how many an engine has that does not say.
    """
    free = [one for one in engines if one.in_flight < (one.seats or seats)]
    return min(free, key=lambda one: one.in_flight / (one.seats or seats)).id if free else None
