"""Groups and rollouts as JSON values and back, for saved runs and replay policies."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sojourn.rollout.model import Decision, Group, GroupResult, Rollout, Segment


def rollout_from(state: dict[str, Any]) -> Rollout:
    """Return the rollout that `asdict` made these values of."""
    return Rollout(
        **{
            **state,
            "segments": [Segment(**one) for one in state["segments"]],
            "features": tuple(state["features"]),
            "decisions": [Decision(*one) for one in state["decisions"]],
        }
    )


def group_from(state: dict[str, Any]) -> Group:
    """Return the group that `asdict` made these values of."""
    return Group(**{**state, "decisions": [Decision(*one) for one in state["decisions"]]})


def result_state(result: GroupResult) -> dict[str, Any]:
    """Return a group with its rollouts and rewards as JSON values."""
    return asdict(result)


def result_from(state: dict[str, Any]) -> GroupResult:
    """Return the group that was saved so."""
    return GroupResult(
        group_from(state["group"]),
        [rollout_from(one) for one in state["rollouts"]],
        list(state["rewards"]),
    )
