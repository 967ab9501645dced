"""First come, first served.

Source: vLLM 0.32, `--scheduling-policy fcfs`; Orca (Yu et al., OSDI 2022).
Reads: nothing; the decide layer breaks ties by arrival, then id, and that is the whole order.
Memory: none.
Needs: nothing.
Deviations: a dropped request returns to its place by arrival. vLLM puts it at the very front; both
    are the same place, because everything still queued arrived later.
Fails when: a few long prompts or long answers arrive before many short ones.
"""

from __future__ import annotations

from dataclasses import dataclass

from sojourn.decide.clock import Time
from sojourn.decide.queues import Key
from sojourn.decide.request import RequestView
from sojourn.decide.slots import Services
from sojourn.policies.order.steady import Steady


@dataclass(frozen=True, slots=True)
class Config:
    """No parameters."""


class Fcfs(Steady):
    """First come, first served."""

    def __init__(self, config: Config, services: Services) -> None:
        super().__init__()

    def key(self, request: RequestView, now: Time) -> Key:
        """Rank all alike."""
        return ()
