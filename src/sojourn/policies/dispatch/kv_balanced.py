"""The engine whose KV cache will be least full; when all would be too full, rollouts wait.

Source: after the dispatch by free KV of rStar2-Agent (arXiv 2508.20722, 2025), whose scheduler is
    not in its release; the marks are after prime-rl's concurrency control (559b44772).
Reads: tokens in flight at each engine, its own reports, length beliefs of prompts.
Memory: none.
Needs: reports of how full KV caches are, unless engines say how many tokens theirs hold.
Deviations: prime-rl moves a cap up and down by what it sees; here the mark is on what a rollout is
    expected to take, so nothing has to be seen first. A conversation goes back to its engine while
    there is room, for its cached prefix.
Fails when: lengths are much longer than believed: what fitted when it was sent does not stay so.
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
        fill_most: Share of an engine's KV cache beyond which nothing more is sent to it.
        growth_share: Share of a rollout's expected remaining tokens that is reserved.
        sticky: Whether a rollout goes back to the engine that had it while there is room.
    """

    fill_most: float = 0.8
    growth_share: float = 0.5
    sticky: bool = True

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if not 0.0 < self.fill_most <= 1.0:
            raise UserError(
                f"dispatch.fill_most is {self.fill_most}; it must be above 0, at most 1"
            )
        if self.growth_share < 0.0:
            raise UserError(f"dispatch.growth_share is {self.growth_share}; it must be at least 0")


class KvBalanced(Memoryless):
    """Least full after the fact, ties to the fewest in flight."""

    needs: ClassVar[frozenset[RolloutNeed]] = frozenset({RolloutNeed.KV_LOAD})

    def __init__(self, config: Config, setting: Setting) -> None:
        self.config = config

    def key(self, rollout: RolloutView, view: View) -> tuple[float, ...]:
        """Leave them in the order of coming."""
        return ()

    def changed(self, event: Heard, view: View) -> Iterable[int]:
        """Change no key."""
        return ()

    def admit(self, view: View) -> int:
        """Limit nothing in all; memory does."""
        return UNLIMITED

    def place(self, rollout: RolloutView, engines: Sequence[EngineView], view: View) -> int | None:
        """Take the least full engine that has room; an empty one has room for anything."""
        tokens = self._tokens(rollout, view)
        fills = {one.id: self._fill(one, tokens) for one in engines}
        roomy = [
            one for one in engines if one.in_flight == 0 or fills[one.id] <= self.config.fill_most
        ]
        if self.config.sticky and any(one.id == rollout.engine for one in roomy):
            return rollout.engine
        if not roomy:
            return None
        return min(roomy, key=lambda one: (fills[one.id], one.in_flight)).id

    def _tokens(self, rollout: RolloutView, view: View) -> float:
        """Return what a rollout takes at once, and a part of what it will grow by."""
        belief = view.beliefs.length(rollout.prompt_id)
        whole = min(belief.mean_beyond(rollout.sampled), float(rollout.token_limit))
        growth = max(whole - rollout.sampled, 0.0)
        held = view.prompts[rollout.prompt_id].tokens + rollout.length
        return held + self.config.growth_share * growth

    def _fill(self, engine: EngineView, tokens: float) -> float:
        """Return how full an engine would be; its report counts where it says more than we know."""
        if not engine.kv_tokens:
            return engine.kv
        known = engine.context_tokens / engine.kv_tokens
        return max(known, engine.kv) + tokens / engine.kv_tokens

    def priority(self, rollout: RolloutView, view: View) -> int:
        """Give all the same."""
        return 0

    def on_event(self, event: Heard, view: View) -> Sequence[Proposal]:
        """Want nothing."""
        return ()
