"""The replica with the lowest score, kept current one change at a time."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Final

from sojourn.fleet.views import DECODE, UP, ReplicaView

STALE_MAX: Final = 64
"""Entries that may be out of date beyond one for each replica, before the heap is made anew."""
TIES: Final = 1 << 30
"""Numbers among which ties are drawn."""


class LoadIndex:
    """A heap of (score, tie, index); of each replica that takes arrivals one entry is valid.

    Scores must be counts that only events change (requests, never tokens decoded so far): those
    alone are current when a replica says that it changed. Ties go to the lowest index, or, where
    `draw` is given, to the lowest of numbers that are drawn whenever a score changes.

    Attributes:
        score: The score of each replica that takes arrivals, by index.
        tie: What was drawn for it; 0 without draws.
    """

    def __init__(self, draw: Callable[[int], int] | None = None) -> None:
        self.draw = draw
        self.heap: list[tuple[float, int, int]] = []
        self.score: dict[int, float] = {}
        self.tie: dict[int, int] = {}

    def put(self, replica: ReplicaView, score: float) -> bool:
        """Give a replica a score, or take it out if it takes no arrivals; return if that is new."""
        index = replica.index
        if replica.status != UP or replica.role == DECODE:
            self.tie.pop(index, None)
            return self.score.pop(index, None) is not None
        if self.score.get(index) == score:
            return False
        self.score[index] = score
        tie = self.tie[index] = self.draw(TIES) if self.draw is not None else 0
        heappush(self.heap, (score, tie, index))
        if len(self.heap) > 2 * len(self.score) + STALE_MAX:
            self.heap = [(score, self.tie[index], index) for index, score in self.score.items()]
            heapify(self.heap)
        return True

    def least(self) -> int | None:
        """Return the replica with the lowest score."""
        heap = self.heap
        while heap and not self._valid(heap[0]):
            heappop(heap)
        return heap[0][2] if heap else None

    def lowest(self, count: int) -> list[int]:
        """Return so many replicas with the lowest scores, the lowest first."""
        found: dict[int, tuple[float, int, int]] = {}
        while self.heap and len(found) < count:
            entry = heappop(self.heap)
            if self._valid(entry):
                found[entry[2]] = entry
        for entry in found.values():
            heappush(self.heap, entry)
        return list(found)

    def _valid(self, entry: tuple[float, int, int]) -> bool:
        score, tie, index = entry
        return self.score.get(index) == score and self.tie.get(index) == tie
