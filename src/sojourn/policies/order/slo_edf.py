"""Earliest deadline first among requests that can still make it, the latest first among the rest.

Source: FlowPrefill (arXiv 2602.16603), sign(slack) / deadline; released code at 1ca0fec.
Reads: arrival, ttft_deadline, deadline, target, computed, decoded.
Memory: none.
Needs: predicted step times.
Deviations: decisions fall at chunk ends, not inside a forward pass (no stock engine can be
    interrupted there). A request without a TTFT objective takes its end-to-end deadline, and one
    without any the default below. A dropped request that has already spoken goes first, as in vLLM.
Fails when: most requests cannot make their deadline: serving the latest deadline first then
    starves those that were nearly done, and no order of prefills helps a decode-bound engine.
    While overloaded, whoever is late already waits for everybody else: watch the p99 of TTFT.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sojourn.decide.clock import NEVER, Time, from_seconds
from sojourn.decide.needs import Need
from sojourn.decide.queues import Key
from sojourn.decide.request import RequestView
from sojourn.decide.slots import Changes, Services
from sojourn.errors import UserError
from sojourn.policies.order.steady import Steady


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the gated earliest-deadline order.

    Attributes:
        default_deadline_seconds: Time after arrival at which the first token of a request without
            any objective is taken to be due.
    """

    default_deadline_seconds: float = 60.0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if not self.default_deadline_seconds > 0:
            raise UserError(
                f"order.default_deadline_seconds is {self.default_deadline_seconds}; "
                "it must be above 0"
            )


class SloEdf(Steady):
    """Sign of the slack, then the deadline."""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.STEP_TIME})
    changes: ClassVar[Changes] = "worsens"

    def __init__(self, config: Config, services: Services) -> None:
        super().__init__()
        self.default = from_seconds(config.default_deadline_seconds)
        self.step_time = services.step_time

    def due(self, request: RequestView) -> Time:
        """Return when the first token of a request is due."""
        due = min(request.ttft_deadline, request.deadline)
        return due if due < NEVER else request.arrival + self.default

    def latest_start(self, request: RequestView) -> Time:
        """Return the last moment at which the rest of the prompt, run alone, is done in time."""
        left = request.target - request.computed
        pairs = left * request.computed + left * (left + 1) // 2
        return self.due(request) - self.step_time.step(left, pairs, request.computed, 1, 0, 0)

    def key(self, request: RequestView, now: Time) -> Key:
        """Rank the feasible by deadline, then the infeasible by deadline backwards."""
        if request.decoded:
            return (-1, 0)
        if now <= self.latest_start(request):
            return (0, self.due(request))
        return (1, -self.due(request))

    def holds(self, request: RequestView, now: Time) -> tuple[int, Time]:
        """Keep a feasible head until it turns infeasible; an infeasible one for good."""
        if request.decoded:
            return NEVER, NEVER
        latest = self.latest_start(request)
        return NEVER, latest + 1 if now <= latest else NEVER
