"""Host memory and the link to it: KV copies that run beside the steps, one after another."""

from __future__ import annotations

from heapq import heappop, heappush

from sojourn.decide.clock import NEVER, Time
from sojourn.decide.request import Request
from sojourn.decide.states import SWAPPED, SWAPPING_OUT


class HostMemory:
    """The KV blocks that are in host memory, or on the way.

    Attributes:
        blocks: Blocks that fit.
        block_time: Time to copy one block over the link.
        used: Blocks in use, from the beginning of the copy out to the end of the copy in.
        outgoing: GPU blocks that copies in progress will free.
        copies: Copies in progress: when each ends, request id, request, blocks.
    """

    def __init__(self, blocks: int, block_time: Time) -> None:
        self.blocks = blocks
        self.block_time = block_time
        self.used = 0
        self.outgoing = 0
        self.link_free: Time = 0
        self.copies: list[tuple[Time, int, Request, int]] = []

    def copy(self, request: Request, blocks: int, out: bool, now: Time) -> None:
        """Begin, or queue, the copy of a request's KV."""
        self.link_free = max(self.link_free, now) + blocks * self.block_time
        heappush(self.copies, (self.link_free, request.id, request, blocks))
        if out:
            self.used += blocks
            self.outgoing += blocks

    def next_end(self) -> Time:
        """Return when the next copy ends; NEVER without one."""
        return self.copies[0][0] if self.copies else NEVER

    def ended(self, now: Time) -> Request | None:
        """Take the next copy that has ended by `now` and return its request."""
        if self.next_end() > now:
            return None
        _, _, request, blocks = heappop(self.copies)
        if request.state == SWAPPING_OUT:
            self.outgoing -= blocks
        else:
            self.used -= blocks
        return request

    def forget(self, request: Request, blocks: int) -> None:
        """Take note that a request with KV here, or on the way out, is being cancelled."""
        if request.state == SWAPPED:
            self.used -= blocks
        elif request.state == SWAPPING_OUT:
            self.outgoing -= blocks
