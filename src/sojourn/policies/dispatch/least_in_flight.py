"""The engine with the fewest rollouts in flight; rollouts go in the order in which they came.

Source: the load balancer of verl's agent loop: least in flight, and a conversation stays where it
    is.
Reads: rollouts in flight at each engine, and where a rollout was before.
Memory: none.
Needs: nothing.
Deviations: `engine_rollouts_max` is ours; verl sends everything at once.
Fails when: rollouts differ in length: equal counts are unequal KV, and the longest may start last.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from sojourn.errors import UserError
from sojourn.rollout.actions import Proposal
from sojourn.rollout.events import Heard
from sojourn.rollout.memory import Memoryless
from sojourn.rollout.needs import RolloutNeed
from sojourn.rollout.slots import UNLIMITED, Setting
from sojourn.rollout.views import EngineView, RolloutView, View


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the balance.

    Attributes:
        sticky: Whether a rollout goes back to the engine that had it, for its cached prefix.
        engine_rollouts_max: Rollouts in flight at one engine; 0 for no limit.
    """

    sticky: bool = True
    engine_rollouts_max: int = 0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.engine_rollouts_max < 0:
            raise UserError(
                f"dispatch.engine_rollouts_max is {self.engine_rollouts_max}; it must be at least 0"
            )


class LeastInFlight(Memoryless):
    """Fewest in flight, ties to the engine that came up first."""

    needs: ClassVar[frozenset[RolloutNeed]] = frozenset()

    def __init__(self, config: Config, setting: Setting) -> None:
        self.config = config

    def key(self, rollout: RolloutView, view: View) -> tuple[float, ...]:
        """Leave them in the order of coming."""
        return ()

    def changed(self, event: Heard, view: View) -> Iterable[int]:
        """Change no key."""
        return ()

    def admit(self, view: View) -> int:
        """Limit nothing in all."""
        return UNLIMITED

    def place(self, rollout: RolloutView, engines: Sequence[EngineView], view: View) -> int | None:
        """Go back to the same engine, or take the one with the fewest."""
        most = self.config.engine_rollouts_max or UNLIMITED
        free = [one for one in engines if one.in_flight < most]
        if self.config.sticky:
            for one in free:
                if one.id == rollout.engine:
                    return one.id
        return min(free, key=lambda one: one.in_flight).id if free else None

    def priority(self, rollout: RolloutView, view: View) -> int:
        """Give all the same."""
        return 0

    def on_event(self, event: Heard, view: View) -> Sequence[Proposal]:
        """Want nothing."""
        return ()
