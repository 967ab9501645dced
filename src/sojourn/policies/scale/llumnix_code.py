"""The replicas are kept to a mean of remaining steps within a band, as in Llumnix's released code.

Source: AlibabaPAI/llumnix @24220fb, the released code: add below 10 blocks a request, drain above
    60, looked at every 10 s; the mean that counts for draining is that without one replica.
Reads: free KV blocks, seated and waiting requests, demand of queues; which replicas start.
Memory: none.
Needs: SCALE.
Deviations: whom to drain is the fleet's rule, the fewest requests; a replica without requests
    counts with its free blocks over one request.
Fails when: the load changes faster than a replica starts; one quiet look is enough to drain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sojourn.decide.actions import Scale
from sojourn.decide.clock import Time, from_seconds
from sojourn.decide.needs import Need
from sojourn.errors import UserError
from sojourn.fleet.views import STARTING, UP, FleetView
from sojourn.policies.route.llumnix_freeness import remaining_steps


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the band.

    Attributes:
        low_blocks: Mean of free blocks for each request, below which a replica is added.
        high_blocks: Mean above which one is drained.
        period_seconds: Time between two looks.
        watermark_share: Share of the KV blocks that is never counted as free (vLLM V0's).
        defrag: Whether only the first queued request counts, once, rather than the whole queue.
    """

    low_blocks: float = 10.0
    high_blocks: float = 60.0
    period_seconds: float = 10.0
    watermark_share: float = 0.01
    defrag: bool = False

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.period_seconds <= 0:
            raise UserError(
                f"scale.period_seconds is {self.period_seconds:g}; it must be more than 0"
            )
        if not 0 <= self.watermark_share < 1:
            raise UserError(
                f"scale.watermark_share is {self.watermark_share:g}; it must be in [0, 1)"
            )
        if self.high_blocks <= self.low_blocks:
            raise UserError(
                f"scale.high_blocks is {self.high_blocks:g}; it must be more than "
                f"scale.low_blocks, {self.low_blocks:g}"
            )


class LlumnixCode:
    """One replica more, or one less."""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.SCALE})
    reads_demand: ClassVar[bool] = True

    def __init__(self, config: Config, fleet: FleetView) -> None:
        self.config = config
        self.fleet = fleet
        self.period: Time = from_seconds(config.period_seconds)

    def scale(self, now: Time) -> Sequence[Scale]:
        """Compare the mean with the band."""
        config, replicas = self.config, self.fleet.replicas
        up = [one for one in replicas if one.status == UP]
        if not up or any(one.status == STARTING for one in replicas):
            return ()
        steps = [remaining_steps(one, config.watermark_share, config.defrag) for one in up]
        if sum(steps) / len(steps) < config.low_blocks:
            return (Scale(up[0].kind, 1),)
        others = sum(steps) - max(steps)
        if len(up) > 1 and others / (len(up) - 1) > config.high_blocks:
            return (Scale(up[0].kind, -1),)
        return ()
