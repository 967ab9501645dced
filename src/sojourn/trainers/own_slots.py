"""The slots that a trainer fills by itself: what is opened, where it runs, what comes again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from sojourn.rollout.actions import Proposal
from sojourn.rollout.events import Heard
from sojourn.rollout.memory import Memoryless, Passive
from sojourn.rollout.model import GroupResult, Reward
from sojourn.rollout.needs import RolloutNeed
from sojourn.rollout.slots import UNLIMITED
from sojourn.rollout.views import EngineView, RolloutView, View


class Asked(Memoryless, Passive):
    """The control of a trainer that says itself how many groups it wants, and which it lost.

    Attributes:
        wanted: Groups to open now.
        taking: Whether it takes a batch now.
        proposals: What the trainer wants done at the next event.
    """

    needs: ClassVar[frozenset[RolloutNeed]] = frozenset()

    def __init__(self) -> None:
        self.wanted = 0
        self.taking = False
        self.proposals: list[Proposal] = []

    def appetite(self, view: View) -> int:
        """Open what the trainer asks for."""
        return self.wanted

    def ready(self, view: View) -> bool:
        """Let a batch go when the trainer takes one."""
        return self.taking

    def on_event(self, event: Heard, view: View) -> Sequence[Proposal]:
        """Say what the trainer wants, once."""
        proposals, self.proposals = self.proposals, []
        return proposals


class OneEngine(Memoryless):
    """The dispatch of a trainer that takes all rollouts at once."""

    needs: ClassVar[frozenset[RolloutNeed]] = frozenset()

    def key(self, rollout: RolloutView, view: View) -> tuple[float, ...]:
        """Let them go in the order of coming."""
        return ()

    def changed(self, event: Heard, view: View) -> Iterable[int]:
        """Keep that order."""
        return ()

    def admit(self, view: View) -> int:
        """Take all."""
        return UNLIMITED

    def place(self, rollout: RolloutView, engines: Sequence[EngineView], view: View) -> int | None:
        """Take the only engine."""
        return engines[0].id

    def priority(self, rollout: RolloutView, view: View) -> int:
        """Give none."""
        return 0

    def on_event(self, event: Heard, view: View) -> Sequence[Proposal]:
        """Want nothing."""
        return ()


class Taken(Memoryless):
    """The replay of a trainer that has a buffer of its own: a batch takes what it says.

    Attributes:
        count: Groups that the coming batch takes; more than a batch for a whole one.
    """

    needs: ClassVar[frozenset[RolloutNeed]] = frozenset()

    def __init__(self) -> None:
        self.count = UNLIMITED

    def fresh(self, view: View) -> int:
        """Take as many as the trainer says."""
        return self.count

    def put(self, result: GroupResult, view: View) -> None:
        """Keep nothing."""

    def sample(self, count: int, view: View) -> Sequence[GroupResult]:
        """Give nothing again."""
        return ()

    def evict(self, version: int) -> int:
        """Forget nothing."""
        return 0

    def revise(self, reward: Reward) -> None:
        """Take no note."""
