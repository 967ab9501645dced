"""Paused requests yield before seated ones, the lowest rank first; they are dropped.

Source: FastServe (arXiv 2305.05920), section 4.3, with recomputation in place of swapping, which
    stock vLLM does not have.
Reads: ranks, drops.
Memory: none.
Needs: drop.
Deviations: FastServe swaps to host memory. To make room for a newcomer nobody is dropped more than
    `voluntary_drops_max` times: unbounded, drops and promotions livelock.
Fails when: memory is short and requests are long: progress is thrown away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sojourn.decide.clock import Time
from sojourn.decide.needs import Need
from sojourn.decide.request import RequestView
from sojourn.decide.slots import Mode, Pressure, Services, Yield
from sojourn.decide.states import DECODE, PREFILL
from sojourn.errors import UserError


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the lowest-rank rule.

    Attributes:
        voluntary_drops_max: How often a paused request may be dropped for one without KV.
    """

    voluntary_drops_max: int = 0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.voluntary_drops_max < 0:
            raise UserError(
                f"victim.voluntary_drops_max is {self.voluntary_drops_max}; it must be 0 or more"
            )


class LowestRank:
    """Worst paused, then worst seated."""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.DROP})

    def __init__(self, config: Config, services: Services) -> None:
        self.keep_free = 0
        self.voluntary_drops_max = config.voluntary_drops_max

    def victim(self, pressure: Pressure, wants: RequestView | None, now: Time) -> Yield | None:
        """Name a paused request; a seated one only for the growth of a seated one."""
        grows = wants is not None and wants.state in (DECODE, PREFILL)
        worst = pressure.worst_paused()
        may = worst is not None and (grows or worst.drops < self.voluntary_drops_max)
        if worst is not None and worst is not wants and may:
            return Yield(worst, Mode.DROP)
        if not grows:
            return None
        worst = pressure.worst_seated(now)
        return None if worst is None else Yield(worst, Mode.DROP)

    def prepare(self, pressure: Pressure, free_blocks: int) -> Yield | None:
        """Do nothing ahead of need."""
        return None
