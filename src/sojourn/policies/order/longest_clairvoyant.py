"""Longest remaining time first: a deliberately bad order that must look bad.

Source: the converse of Schrage 1968; used as a control.
Reads: prompt, computed, target, decoded, and the true output length.
Memory: none.
Needs: the true output length, which no engine offers.
Deviations: none.
Fails when: always, once requests queue; the batch itself is as full as anyone's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sojourn.decide.clock import Time
from sojourn.decide.needs import Need
from sojourn.decide.queues import Key
from sojourn.decide.request import RequestView
from sojourn.decide.slots import Services
from sojourn.policies.order.service_seconds import remaining_time
from sojourn.policies.order.steady import Steady


@dataclass(frozen=True, slots=True)
class Config:
    """No parameters."""


class LongestClairvoyant(Steady):
    """Longest remaining time first."""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.TRUTH, Need.STEP_TIME})

    def __init__(self, config: Config, services: Services) -> None:
        super().__init__()
        self.services = services

    def key(self, request: RequestView, now: Time) -> Key:
        """Rank by remaining time alone, the longest first."""
        return (-remaining_time(request, self.services),)
