"""Shortest remaining processing time, with the true output length: a reference, not a policy.

Source: Schrage, "A proof of the optimality of the shortest remaining processing time discipline",
    Operations Research 16, 1968.
Reads: prompt, computed, target, decoded, and the true output length.
Memory: none.
Needs: the true output length; pause; drop. No engine offers the first.
Deviations: the key is the time that the rest would take alone. Among seated requests the standing
    is the number of tokens left, which orders them alike unless contexts differ greatly.
Fails when: it is taken for a bound. It minimises the mean time only with one sequential seat; in a
    batch, memory and the shape of the step matter too, and long requests starve.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sojourn.decide.clock import Time
from sojourn.decide.needs import Need
from sojourn.decide.queues import Key
from sojourn.decide.request import RequestView
from sojourn.decide.slots import Services
from sojourn.policies.order.service_seconds import remaining_time, remaining_tokens
from sojourn.policies.order.steady import Steady


@dataclass(frozen=True, slots=True)
class Config:
    """No parameters."""


class SrptClairvoyant(Steady):
    """Shortest remaining time first."""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.TRUTH, Need.STEP_TIME})

    def __init__(self, config: Config, services: Services) -> None:
        super().__init__()
        self.services = services

    def key(self, request: RequestView, now: Time) -> Key:
        """Rank by remaining time alone."""
        return (remaining_time(request, self.services),)

    def standing(self, request: RequestView, now: Time) -> Key:
        """Rank by the tick of the last token, which does not move while a request decodes."""
        return (self.services.view.ticks + remaining_tokens(request, self.services),)
