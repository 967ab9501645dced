"""Accepts every request, as vLLM does unless told otherwise.

Source: vLLM 0.32, default flags.
Reads: nothing.
Memory: none.
Needs: nothing.
Deviations: none.
Fails when: load stays above capacity: the queue grows without bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sojourn.decide.clock import Time
from sojourn.decide.needs import Need
from sojourn.decide.request import RequestView
from sojourn.decide.slots import Services


@dataclass(frozen=True, slots=True)
class Config:
    """No parameters."""


class AcceptAll:
    """Accepts every request."""

    needs: ClassVar[frozenset[Need]] = frozenset()

    def __init__(self, config: Config, services: Services) -> None:
        pass

    def admit(self, request: RequestView, queued: int, now: Time) -> None:
        """Accept."""
