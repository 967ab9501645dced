"""Arrivals go to the replica with the most remaining steps: free blocks for each of its requests.

Source: AlibabaPAI/llumnix @24220fb, the released code: dispatch by its load metric `remaining
    steps`, (free - watermark - demand of the queue) / (running + waiting), polled every 0.05 s.
Reads: free KV blocks, seated and waiting requests, demand of the queue.
Memory: the remaining steps of each replica, in a heap, as polled last.
Needs: nothing.
Deviations: the replica that got the last request is measured anew before the next arrival; an
    answer that comes late is the fleet's report age.
Fails when: loads are reported late; and it counts blocks, a sixteenth of the paper's decode steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sojourn.decide.clock import Time, from_seconds
from sojourn.decide.needs import Need
from sojourn.errors import UserError
from sojourn.fleet.slots import Verdict
from sojourn.fleet.views import FleetView, ReplicaView, RoutedView
from sojourn.policies.route.llumnix_freeness import Freest, remaining_steps


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the dispatch.

    Attributes:
        poll_seconds: How long measures of replicas are used; 0 measures all at each arrival.
        watermark_share: Share of the KV blocks that is never counted as free (vLLM V0's).
        defrag: Whether only the first queued request counts, once, rather than the whole queue.
    """

    poll_seconds: float = 0.05
    watermark_share: float = 0.01
    defrag: bool = False

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.poll_seconds < 0:
            raise UserError(f"route.poll_seconds is {self.poll_seconds:g}; it must be 0 or more")
        if not 0 <= self.watermark_share < 1:
            raise UserError(
                f"route.watermark_share is {self.watermark_share:g}; it must be in [0, 1)"
            )


class LlumnixCode:
    """Most remaining steps, ties to the lowest index."""

    needs: ClassVar[frozenset[Need]] = frozenset()
    minds_changes: ClassVar[bool] = False
    reads_demand: ClassVar[bool] = True

    def __init__(self, config: Config, fleet: FleetView) -> None:
        share, defrag = config.watermark_share, config.defrag
        self.freest = Freest(
            fleet,
            lambda one: remaining_steps(one, share, defrag),
            from_seconds(config.poll_seconds),
        )

    def route(self, request: RoutedView, now: Time) -> Verdict:
        """Take the replica with the most remaining steps."""
        return self.freest.take(now)

    def changed(self, replica: ReplicaView, now: Time) -> None:
        """Measure a replica that came or went."""
        self.freest.note(replica)
