"""The replicas are kept to a mean freeness within a band: added below it, drained above it.

Source: Sun et al., "Llumnix: Dynamic Scheduling for Large Language Model Serving", OSDI 2024,
    section 4.4.3; the band and the period are those of the released code, in tokens.
Reads: free KV blocks, seated requests, demand of queues; which replicas start.
Memory: since when the mean has been below or above the band.
Needs: SCALE.
Deviations: one replica at a time, and none while another starts; whom to drain is the fleet's rule,
    the fewest requests. Headroom of high priority is left out: the mean is that of the normal
    class. Replicas of one kind only are added: that of the first.
Fails when: the load changes faster than a replica starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sojourn.decide.actions import Scale
from sojourn.decide.clock import NEVER, Time, from_seconds
from sojourn.decide.needs import Need
from sojourn.errors import UserError
from sojourn.fleet.views import STARTING, UP, FleetView
from sojourn.policies.route.llumnix_freeness import freeness


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the band.

    Attributes:
        low_steps: Mean freeness, in decode steps, below which a replica is added (10 blocks).
        high_steps: Mean freeness above which one is drained (60 blocks).
        period_seconds: Time between two looks.
        patience_seconds: How long the mean must have been above the band.
        whole_queue: Whether all queued requests count rather than the first of each replica: the
            load-aware scaling of INFaaS++.
    """

    low_steps: float = 160.0
    high_steps: float = 960.0
    period_seconds: float = 10.0
    patience_seconds: float = 30.0
    whole_queue: bool = False

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.period_seconds <= 0:
            raise UserError(
                f"scale.period_seconds is {self.period_seconds:g}; it must be more than 0"
            )
        if self.patience_seconds < 0:
            raise UserError(
                f"scale.patience_seconds is {self.patience_seconds:g}; it must be 0 or more"
            )
        if self.high_steps <= self.low_steps:
            raise UserError(
                f"scale.high_steps is {self.high_steps:g}; it must be more than scale.low_steps, "
                f"{self.low_steps:g}"
            )


class Llumnix:
    """One replica more, or one less."""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.SCALE})
    reads_demand: ClassVar[bool] = True

    def __init__(self, config: Config, fleet: FleetView) -> None:
        self.config = config
        self.fleet = fleet
        self.period: Time = from_seconds(config.period_seconds)
        self.patience: Time = from_seconds(config.patience_seconds)
        self.above: Time = NEVER

    def scale(self, now: Time) -> Sequence[Scale]:
        """Compare the mean with the band."""
        replicas = self.fleet.replicas
        up = [one for one in replicas if one.status == UP]
        if not up or any(one.status == STARTING for one in replicas):
            return ()
        kind = up[0].kind
        free = [freeness(one, None, self.config.whole_queue) for one in up]
        mean = sum(free) / len(free)
        if mean <= self.config.high_steps:
            self.above = NEVER
            return (Scale(kind, 1),) if mean < self.config.low_steps else ()
        self.above = min(self.above, now)
        if now - self.above < self.patience or len(up) == 1:
            return ()
        self.above = NEVER
        return (Scale(kind, -1),)
