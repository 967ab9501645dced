"""Sheds an arrival when as many requests are queued as may be.

Source: vLLM 0.32, `--max-num-queued-reqs` (HTTP 503 when full).
Reads: the number of queued requests.
Memory: none.
Needs: reject.
Deviations: vLLM counts requests in front of the engine too; the simulator has none there.
Fails when: the limit is shorter than a burst that the engine would have digested in time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sojourn.decide.actions import Reject
from sojourn.decide.clock import Time
from sojourn.decide.needs import Need
from sojourn.decide.request import Request, RequestView
from sojourn.decide.slots import Services
from sojourn.errors import UserError


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the queue limit.

    Attributes:
        queued_max: Requests that may be queued.
    """

    queued_max: int = 1024

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.queued_max < 1:
            raise UserError(f"admit.queued_max is {self.queued_max}; it must be at least 1")


class QueueLimit:
    """Sheds what comes to a full queue."""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.REJECT})

    def __init__(self, config: Config, services: Services) -> None:
        self.queued_max = config.queued_max

    def admit(self, request: RequestView, queued: int, now: Time) -> Reject | None:
        """Accept unless the queue is full."""
        if queued < self.queued_max:
            return None
        assert isinstance(request, Request)
        return Reject(request, "queue full")
