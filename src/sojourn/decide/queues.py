"""The heaps behind an order: nothing here re-sorts, and a stale entry costs one pop.

An order says how the key of a queued request may move. If it `never` moves or moves only on
`events`, entries are exact; if it only `worsens` by itself, the entry on top is evaluated again
before it is believed. Ties are broken by arrival, then id.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush, heapreplace
from typing import TypeAlias

from sojourn.decide.clock import Time
from sojourn.decide.limits import STALE_ENTRIES
from sojourn.decide.request import Request

Key: TypeAlias = tuple[int, ...]  # smaller goes first
Entry: TypeAlias = tuple[Key, Time, int, Request]


class RankedQueue:
    """A heap by key.

    Attributes:
        live: The one valid entry of each queued request; any other entry in the heap is stale.
    """

    def __init__(self, key: Callable[[Request, Time], Key], worsens: bool = False) -> None:
        self.key = key
        self.worsens = worsens
        self.heap: list[Entry] = []
        self.live: dict[int, Entry] = {}

    def __len__(self) -> int:
        return len(self.live)

    def push(self, request: Request, now: Time) -> None:
        """Add a request, or give it a new key."""
        entry: Entry = (self.key(request, now), request.arrival, request.id, request)
        self.live[request.id] = entry
        heappush(self.heap, entry)
        if len(self.heap) > 2 * len(self.live) + STALE_ENTRIES:
            self.heap = list(self.live.values())
            heapify(self.heap)

    def peek(self, now: Time) -> Request | None:
        """Return the best request without removing it."""
        heap = self.heap
        while heap:
            entry = heap[0]
            request = entry[3]
            if self.live.get(entry[2]) is not entry:
                heappop(heap)
                continue
            if self.worsens:
                key = self.key(request, now)
                if key > entry[0]:
                    fresh: Entry = (key, entry[1], entry[2], request)
                    self.live[entry[2]] = fresh
                    heapreplace(heap, fresh)
                    continue
            return request
        return None

    def requests(self) -> list[Request]:
        """Return the queued requests, in order of entry."""
        return [entry[3] for entry in self.live.values()]

    def discard(self, request: Request) -> None:
        """Remove a request; a no-op if it is not there."""
        entry = self.live.pop(request.id, None)
        if entry is not None and self.heap[0] is entry:
            heappop(self.heap)


class GroupedQueue:
    """A FIFO for each group and a heap of groups, whose keys only worsen by themselves.

    A request that comes back after running goes to the front of its group.
    """

    def __init__(
        self, group: Callable[[Request], int], group_key: Callable[[int, Time], Key]
    ) -> None:
        self.group = group
        self.group_key = group_key
        self.lines: dict[int, deque[Request]] = {}
        self.heap: list[tuple[Key, int]] = []
        self.entered: set[int] = set()  # groups in the heap; only asked, never iterated
        self.live: dict[int, Request] = {}

    def __len__(self) -> int:
        return len(self.live)

    def push(self, request: Request, now: Time) -> None:
        """Add a request to its group."""
        if request.id in self.live:
            return
        group = self.group(request)
        line = self.lines.get(group)
        if line is None:
            line = self.lines[group] = deque()
        if group not in self.entered:
            self.entered.add(group)
            heappush(self.heap, (self.group_key(group, now), group))
        if request.admitted >= 0:
            line.appendleft(request)
        else:
            line.append(request)
        self.live[request.id] = request

    def peek(self, now: Time) -> Request | None:
        """Return the first request of the best group without removing it."""
        heap = self.heap
        while heap:
            key, group = heap[0]
            line = self.lines[group]
            while line and line[0].id not in self.live:
                line.popleft()
            if not line:
                heappop(heap)
                self.entered.discard(group)
                continue
            fresh = self.group_key(group, now)
            if fresh > key:
                heapreplace(heap, (fresh, group))
                continue
            return line[0]
        return None

    def requests(self) -> list[Request]:
        """Return the queued requests, in order of entry."""
        return list(self.live.values())

    def discard(self, request: Request) -> None:
        """Remove a request; a no-op if it is not there."""
        if self.live.pop(request.id, None) is None:
            return
        line = self.lines[self.group(request)]
        if line[0] is request:
            line.popleft()


Queue: TypeAlias = RankedQueue | GroupedQueue  # queued requests, best first
