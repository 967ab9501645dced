"""Finished KV is released at once; the prefix cache keeps it until its blocks are reused.

Source: vLLM 0.32 prefix caching.
Reads: nothing.
Memory: none.
Needs: nothing.
Deviations: none.
Fails when: a program comes back after its blocks were reused: the whole context is computed again.
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


class Lru:
    """Holds nothing."""

    needs: ClassVar[frozenset[Need]] = frozenset()

    def __init__(self, config: Config, services: Services) -> None:
        pass

    def until(self, request: RequestView, now: Time) -> Time:
        """Release now."""
        return now
