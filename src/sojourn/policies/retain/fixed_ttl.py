"""Finished KV of a program that goes on is held for a fixed time.

Source: Continuum (arXiv 2511.02230), the static time-to-live of its ablation.
Reads: program, last_turn.
Memory: none.
Needs: hold.
Deviations: none.
Fails when: tool calls outlast the time, or memory is short: held blocks keep others out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sojourn.decide.clock import Time, from_seconds
from sojourn.decide.needs import Need
from sojourn.decide.request import RequestView
from sojourn.decide.slots import Services
from sojourn.errors import UserError


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the fixed time-to-live.

    Attributes:
        hold_seconds: Time for which the KV of a turn that is not the last is held.
    """

    hold_seconds: float = 2.0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if not self.hold_seconds >= 0:
            raise UserError(f"retain.hold_seconds is {self.hold_seconds}; it must be 0 or more")


class FixedTtl:
    """Holds turns that are not the last."""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.HOLD})

    def __init__(self, config: Config, services: Services) -> None:
        self.hold = from_seconds(config.hold_seconds)

    def until(self, request: RequestView, now: Time) -> Time:
        """Hold a turn that is not its program's last."""
        return now if request.program < 0 or request.last_turn else now + self.hold
