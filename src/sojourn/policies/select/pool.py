"""Candidates drawn from all prompts, at a cost of the candidates and never of the prompts."""

from __future__ import annotations

from collections.abc import Container, Sequence
from heapq import nlargest
from math import exp, log
from typing import ClassVar, Final

from sojourn.rollout.model import GroupResult
from sojourn.rollout.needs import RolloutNeed
from sojourn.rollout.slots import Metrics, Pick, Setting, State
from sojourn.rollout.streams import Stream
from sojourn.rollout.views import View

TINY: Final = 1e-300


def draw(
    stream: Stream, ids: Sequence[int], count: int, view: View, beside: Container[int] = ()
) -> list[int]:
    """Return up to `count` different ids that are not open nor in `beside`, in random order.

    It is the beginning of a Fisher-Yates shuffle of which only the moved items are stored.
    """
    moved: dict[int, int] = {}
    drawn: list[int] = []
    for at in range(len(ids)):
        if len(drawn) >= count:
            break
        other = at + stream.below(len(ids) - at)
        one = ids[moved.get(other, other)]
        moved[other] = moved.get(at, at)
        if not view.is_open(one) and one not in beside:
            drawn.append(one)
    return drawn


def weighted(
    stream: Stream, pool: Sequence[int], logs: Sequence[float], count: int
) -> list[tuple[int, float]]:
    """Return `count` of a pool, each drawn in proportion to the weights of those that are left.

    Weights are given as logarithms; the Gumbel trick makes it one pass. Beside each id stands
    the probability of being among so many draws, as if they were with replacement.
    """
    if not pool:
        return []
    keys = [one - log(max(stream.exponential(), TINY)) for one in logs]
    chosen = nlargest(count, range(len(pool)), key=keys.__getitem__)
    top = max(logs)
    total = sum(exp(one - top) for one in logs)
    shares = [exp(logs[at] - top) / total for at in chosen]
    return [
        (pool[at], 1.0 - (1.0 - share) ** count) for at, share in zip(chosen, shares, strict=True)
    ]


class Pooled:
    """A selector that scores a pool of candidates, with nothing to remember but its stream.

    Attributes:
        stream: Its random numbers.
        ids: All prompts.
        width: Candidates for each prompt wanted.
        picks: Prompts picked so far.
    """

    needs: ClassVar[frozenset[RolloutNeed]] = frozenset()

    def __init__(self, setting: Setting, width: int) -> None:
        self.stream = setting.stream
        self.ids: Sequence[int] = range(len(setting.prompts))
        self.width = width
        self.picks = 0

    def pool(self, count: int, view: View) -> list[int]:
        """Return the candidates for `count` picks."""
        return draw(self.stream, self.ids, self.width * count, view)

    def best(
        self, pool: Sequence[int], scores: Sequence[float], count: int, reason: str
    ) -> list[Pick]:
        """Return the candidates with the highest scores, ties at random.

        Their propensity is that of being a candidate; the rest is certain, given the scores.
        """
        chosen = nlargest(count, range(len(pool)), key=scores.__getitem__)
        self.picks += len(chosen)
        share = len(pool) / max(len(self.ids), 1)
        return [Pick(pool[at], share, reason) for at in chosen]

    def drawn(
        self, pool: Sequence[int], logs: Sequence[float], count: int, reason: str
    ) -> list[Pick]:
        """Return candidates drawn by weights, given as logarithms."""
        chosen = weighted(self.stream, pool, logs, count)
        self.picks += len(chosen)
        share = len(pool) / max(len(self.ids), 1)
        return [Pick(one, share * chance, reason) for one, chance in chosen]

    def keep(self, result: GroupResult, view: View) -> bool:
        """Train every group."""
        return True

    def observe(self, result: GroupResult, view: View) -> None:
        """Leave it to the beliefs."""

    def metrics(self) -> Metrics:
        """Return how many prompts were picked."""
        return {"picks": float(self.picks)}

    def state_dict(self) -> State:
        """Return the stream and the count."""
        return {"stream": self.stream.state_dict(), "picks": self.picks}

    def load_state_dict(self, state: State) -> None:
        """Go on where another left off."""
        self.stream.load_state_dict(state["stream"])
        self.picks = state["picks"]
