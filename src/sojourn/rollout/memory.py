"""What policies without memory, and controls that limit nothing, have in common."""

from __future__ import annotations

from collections.abc import Sequence

from sojourn.rollout.actions import Proposal
from sojourn.rollout.events import Heard
from sojourn.rollout.slots import UNLIMITED, Metrics, State, Stretch
from sojourn.rollout.views import RolloutView, View


class Memoryless:
    """A policy that remembers nothing and has no numbers to show."""

    def metrics(self) -> Metrics:
        """Return no numbers."""
        return {}

    def state_dict(self) -> State:
        """Return nothing."""
        return {}

    def load_state_dict(self, state: State) -> None:
        """Take over nothing."""


class Passive:
    """A control that lets everything happen; a control takes from here what it does not limit."""

    def appetite(self, view: View) -> int:
        """Open any number of groups."""
        return UNLIMITED

    def ready(self, view: View) -> bool:
        """Let the batch go."""
        return True

    def stretch(self, rollout: RolloutView, view: View) -> Stretch:
        """Let a rollout go up to its limit."""
        return Stretch()

    def on_event(self, event: Heard, view: View) -> Sequence[Proposal]:
        """Want nothing."""
        return ()
