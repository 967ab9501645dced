"""vLLM's waiting queue, of which `schedule()` sees what a plan offers, in the plan's order."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator

from sojourn.vllm.compat import Request, RequestQueue


class OfferedQueue(RequestQueue):
    """All queued requests in stock order, and the few that the coming step may admit.

    Every operation is O(1), also taking a request out of the middle.

    Attributes:
        queued: Every waiting request in vLLM's own order: arrivals at the back, the preempted at
            the front.
        offer: What `schedule()` may see, first to be admitted first; None for stock order.
    """

    def __init__(self) -> None:
        self.queued: OrderedDict[str, Request] = OrderedDict()
        self.offer: deque[Request] | None = None

    def add_request(self, request: Request) -> None:
        """Put a request at the back."""
        self.queued[request.request_id] = request

    def prepend_request(self, request: Request) -> None:
        """Put a request at the front."""
        self.queued[request.request_id] = request
        self.queued.move_to_end(request.request_id, last=False)

    def prepend_requests(self, requests: Iterable[Request]) -> None:
        """Put requests at the front, the last of them foremost, as `deque.extendleft` does."""
        for request in requests:
            self.prepend_request(request)

    def peek_request(self) -> Request:
        """Return the first request on offer."""
        if self.offer is not None:
            return self.offer[0]
        return next(iter(self.queued.values()))

    def pop_request(self) -> Request:
        """Take the first request on offer."""
        if self.offer is None:
            return self.queued.popitem(last=False)[1]
        request = self.offer.popleft()
        del self.queued[request.request_id]
        return request

    def remove_request(self, request: Request) -> None:
        """Take a request out."""
        del self.queued[request.request_id]

    def remove_requests(self, requests: Iterable[Request]) -> None:
        """Take those of the requests out that are here."""
        for request in requests:
            self.queued.pop(request.request_id, None)

    def __bool__(self) -> bool:
        return bool(self.queued) if self.offer is None else bool(self.offer)

    def __len__(self) -> int:
        return len(self.queued)

    def __iter__(self) -> Iterator[Request]:
        return iter(self.queued.values())
