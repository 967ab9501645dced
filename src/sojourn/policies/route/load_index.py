"""The replica with the lowest score, kept current one change at a time."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Final

from sojourn.fleet.views import DECODE, UP, ReplicaView

STALE_MAX: Final = 64
"""Entries that may be out of date beyond one for each replica, before the heap is made anew."""


class LoadIndex:
    """A heap of (score, index); of each replica that takes arrivals one entry is valid.

    Scores must be counts that only events change (requests, never tokens decoded so far): those
    alone are current when a replica says that it changed.
    """

    def __init__(self) -> None:
        self.heap: list[tuple[float, int]] = []
        self.score: dict[int, float] = {}

    def put(self, replica: ReplicaView, score: float) -> None:
        """Give a replica a score, or take it out if it takes no arrivals."""
        index = replica.index
        if replica.status != UP or replica.role == DECODE:
            self.score.pop(index, None)
            return
        if self.score.get(index) == score:
            return
        self.score[index] = score
        heappush(self.heap, (score, index))
        if len(self.heap) > 2 * len(self.score) + STALE_MAX:
            self.heap = [(score, index) for index, score in self.score.items()]
            heapify(self.heap)

    def least(self) -> int | None:
        """Return the replica with the lowest score, ties to the lowest index."""
        heap = self.heap
        while heap and self.score.get(heap[0][1]) != heap[0][0]:
            heappop(heap)
        return heap[0][1] if heap else None
