"""The least loaded decode replica takes a prefilled request unless its steps became too long.

Source: Mooncake (Qin et al., FAST 2025, arXiv 2407.00079): the decode instance checks its load
    when the prompt has been computed, and may refuse; the prefill is wasted then.
Reads: open requests of each decode replica; KV tokens that the chosen one reads; step times.
Memory: none.
Needs: TRANSFER, REJECT, STEP_TIME.
Deviations: KV moves once the prompt is complete, not layer by layer while it is computed.
Fails when: nothing upstream looks at decode: all the prefill work of who is refused is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from sojourn.decide.actions import Migrate, Reject, SetRole
from sojourn.decide.clock import NEVER, Time, from_seconds
from sojourn.decide.needs import Need
from sojourn.decide.request import Request, RequestView
from sojourn.errors import UserError
from sojourn.fleet.slots import Verdict
from sojourn.fleet.views import FleetView, ReplicaView

WASTED: Final = "decode overloaded after prefill"


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the check.

    Attributes:
        tbt_slo_seconds: Longest step of a decode replica with the request added.
    """

    tbt_slo_seconds: float = 0.1

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.tbt_slo_seconds <= 0:
            raise UserError(f"place.tbt_slo_seconds is {self.tbt_slo_seconds}; it must be above 0")


class DecodeLimit:
    """Fewest open requests, or nobody."""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.TRANSFER, Need.REJECT, Need.STEP_TIME})

    def __init__(self, config: Config, fleet: FleetView) -> None:
        self.limit = from_seconds(config.tbt_slo_seconds)
        self.fleet = fleet
        self.period: Time = NEVER

    def decoder(self, request: RequestView, source: ReplicaView, now: Time) -> Verdict:
        """Take the decode replica with the fewest open requests if it can bear one more."""
        best = min(self.fleet.decoders, key=lambda one: (one.open, one.index), default=None)
        if best is None:
            return None
        decodes = best.open + 1
        context = best.load.context + request.prompt
        if best.step_time.step(0, 0, 0, 0, decodes, context) <= self.limit:
            return best.index
        assert isinstance(request, Request)
        return Reject(request, WASTED)

    def pulls(self, request: RequestView, target: ReplicaView, blocks: int) -> bool:
        """Fetch whenever there are blocks."""
        return True

    def rebalance(self, now: Time) -> Sequence[Migrate | SetRole]:
        """Move nobody."""
        return ()
