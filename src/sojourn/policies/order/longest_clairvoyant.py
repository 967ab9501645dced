"""Longest remaining time first: a deliberately bad order that must look bad.

Source: the converse of Schrage 1968 (longest remaining processing time); used as a control.
Reads: prompt, computed, target, decoded, and the true output length.
Memory: each request's remaining time when it was last ranked, who has a seat, how many queue.
Needs: the true output length, which no engine offers.
Deviations: requests in a seat are ranked anew every `rank_steps` steps while somebody waits, not
    continuously.
Fails when: always, once requests queue: whoever is nearly done gives way to who is not. The batch
    itself is as full as anyone's and nothing is dropped for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from sojourn.decide.clock import NEVER, Time
from sojourn.decide.needs import Need
from sojourn.decide.queues import Key
from sojourn.decide.request import RequestView
from sojourn.decide.slots import Changes, Services
from sojourn.decide.states import DECODE, GONE, PAUSED, PREFILL, SWAPPED, WAITING
from sojourn.errors import UserError
from sojourn.policies.order.service_seconds import remaining_time
from sojourn.policies.order.steady import Steady

QUEUED: Final = frozenset({WAITING, PAUSED, SWAPPED})


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the longest-first order.

    Attributes:
        rank_steps: Steps between two rankings of the requests in a seat.
    """

    rank_steps: int = 32

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.rank_steps < 1:
            raise UserError(f"order.rank_steps is {self.rank_steps}; it must be at least 1")


class LongestClairvoyant(Steady):
    """Longest remaining time first."""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.TRUTH, Need.STEP_TIME})
    changes: ClassVar[Changes] = "events"

    def __init__(self, config: Config, services: Services) -> None:
        super().__init__()
        self.rank_steps = config.rank_steps
        self.services = services
        self.remaining: dict[int, Time] = {}
        self.seated: dict[int, RequestView] = {}
        self.stale: set[int] = set()  # only asked, never iterated
        self.queued = 0
        self.next_ranking = 0

    def key(self, request: RequestView, now: Time) -> Key:
        """Rank by remaining time alone, the longest first."""
        if request.id in self.stale:
            self.stale.discard(request.id)
            self.remaining[request.id] = remaining_time(request, self.services)
        return (-self.remaining[request.id],)

    def standing(self, request: RequestView, now: Time) -> Key:
        """Rank seated requests as queued ones."""
        return self.key(request, now)

    def moved(self, request: RequestView, start: int, finish: int, now: Time) -> None:
        """Rank a request anew whenever its state changes."""
        self.seated.pop(request.id, None)
        self.stale.discard(request.id)
        self.queued += (finish in QUEUED) - (start in QUEUED)
        if not self.queued:
            self.alarm_step = NEVER  # ranks of the seated matter to nobody
        elif self.alarm_step == NEVER:
            self.alarm_step = max(self.services.view.steps, self.next_ranking)
        if finish in GONE:
            self.remaining.pop(request.id, None)
            return
        self.remaining[request.id] = remaining_time(request, self.services)
        if finish in (DECODE, PREFILL):
            self.seated[request.id] = request

    def ring(self, now: Time) -> Sequence[RequestView]:
        """Rank the seated requests anew."""
        steps, every = self.services.view.steps, self.rank_steps
        if steps < self.alarm_step:
            return ()
        self.alarm_step = self.next_ranking = steps + every
        self.stale.update(self.seated)
        return list(self.seated.values())
