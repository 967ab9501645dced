"""Paused requests are copied to host memory before the blocks are needed, the lowest rank first.

Source: FastServe (arXiv 2305.05920), section 4.3; rule of the released code at 187a274: keep
    max(max_batch, min_free) blocks free for newcomers.
Reads: ranks, drops.
Memory: none.
Needs: swap; drop.
Deviations: a request that must grow when nothing is free drops the lowest rank at once, since a
    copy would come too late. Rank stands in for the paper's estimated next scheduled time, as in
    the released code. Blocks become free when their copy is done, not when it is begun. A request
    is brought back when it heads the queue; the released code looks further ahead.
Fails when: the link to host memory is slower than ranks change: requests bounce.
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
from sojourn.policies.victim import lowest_rank


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the proactive rule.

    Attributes:
        min_free_blocks: Blocks to keep free; never fewer than there are seats.
    """

    min_free_blocks: int = 0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.min_free_blocks < 0:
            raise UserError(
                f"victim.min_free_blocks is {self.min_free_blocks}; it must be 0 or more"
            )


class ProactiveSwap:
    """Swap ahead of need, drop when it is too late for that."""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.SWAP, Need.DROP})

    def __init__(self, config: Config, services: Services) -> None:
        self.keep_free = max(config.min_free_blocks, services.view.limits.max_num_seqs)
        self.late = lowest_rank.LowestRank(lowest_rank.Config(), services)

    def victim(self, pressure: Pressure, wants: RequestView | None, now: Time) -> Yield | None:
        """Name whom to drop at once for a seated request, whom to swap out for a newcomer."""
        if wants is None or wants.state in (DECODE, PREFILL):
            return self.late.victim(pressure, wants, now)
        worst = pressure.worst_paused()
        return None if worst is None or worst is wants else Yield(worst, Mode.SWAP)

    def prepare(self, pressure: Pressure, free_blocks: int) -> Yield | None:
        """Name whom to swap out while fewer blocks are free than the reserve."""
        if free_blocks >= self.keep_free:
            return None
        worst = pressure.worst_paused()
        return None if worst is None else Yield(worst, Mode.SWAP)
