"""The selector that knows the truth: a bound on what choosing prompts can give."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import nsmallest
from typing import ClassVar

from sojourn.rollout.memory import Memoryless
from sojourn.rollout.model import GroupResult
from sojourn.rollout.needs import RolloutNeed
from sojourn.rollout.slots import Pick
from sojourn.rollout.views import View
from sojourn.sim.rollout.truth import Truth


class OracleSelect(Memoryless):
    """Takes the prompts whose true success probability is nearest to one half.

    Their groups are the likeliest to have different rewards. What it trains it also wears out, so
    it bounds the share of groups with a signal at every step, not what is learnt in the long run.
    """

    needs: ClassVar[frozenset[RolloutNeed]] = frozenset({RolloutNeed.TRUTH})

    def __init__(self, truth: Truth) -> None:
        self.truth = truth

    def propose(self, count: int, view: View) -> Sequence[Pick]:
        """Return the nearest to one half that are not open; ties by number."""
        truth = self.truth
        free = (one.id for one in truth.prompts if not view.is_open(one.id))
        best = nsmallest(count, free, key=lambda at: (abs(truth.probability(at) - 0.5), at))
        return [Pick(prompt, 1.0, "the truth") for prompt in best]

    def keep(self, result: GroupResult, view: View) -> bool:  # noqa: ARG002
        """Keep every group."""
        return True

    def observe(self, result: GroupResult, view: View) -> None:
        """Take no note: it knows."""
