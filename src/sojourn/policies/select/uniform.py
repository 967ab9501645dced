"""Every prompt once in each pass over the data, in random order.

Source: the shuffled sampler that verl, TRL and slime use unless told otherwise.
Reads: which prompts are open.
Memory: the rest of the current pass.
Needs: nothing.
Deviations: a prompt that is still open when its turn comes waits for the next call, so that slow
    prompts are not passed over.
Fails when: most prompts are always solved or never: their groups teach nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sojourn.rollout.model import GroupResult
from sojourn.rollout.needs import RolloutNeed
from sojourn.rollout.slots import Metrics, Pick, Setting, State
from sojourn.rollout.views import View


@dataclass(frozen=True, slots=True)
class Config:
    """No parameters."""


class Uniform:
    """Passes over the data without replacement."""

    needs: ClassVar[frozenset[RolloutNeed]] = frozenset()

    def __init__(self, config: Config, setting: Setting) -> None:
        self.count = len(setting.prompts)
        self.stream = setting.stream
        self.left: deque[int] = deque()
        self.passes = 0

    def propose(self, count: int, view: View) -> Sequence[Pick]:
        """Take the next prompts that are not open; at most one new pass is begun.

        One that is open comes first next time, and once, however many passes have met it.
        """
        share = min(1.0, count / self.count)
        chosen: dict[int, None] = {}
        deferred: dict[int, None] = {}
        begun = False
        while len(chosen) < count and (self.left or not begun):
            if not self.left:
                if len(deferred) == self.count:
                    break  # every prompt is open
                self.left.extend(self.stream.shuffled(range(self.count)))
                self.passes += 1
                begun = True
            prompt_id = self.left.popleft()
            if prompt_id in chosen or view.is_open(prompt_id):
                deferred[prompt_id] = None
            else:
                chosen[prompt_id] = None
        self.left.extendleft(reversed(deferred))
        return [Pick(prompt_id, share, "next in the pass") for prompt_id in chosen]

    def keep(self, result: GroupResult, view: View) -> bool:
        """Keep every group."""
        return True

    def observe(self, result: GroupResult, view: View) -> None:
        """Take no note."""

    def metrics(self) -> Metrics:
        """Return how many passes were begun."""
        return {"passes": float(self.passes)}

    def state_dict(self) -> State:
        """Return the rest of the pass and the stream."""
        return {
            "left": list(self.left),
            "passes": self.passes,
            "stream": self.stream.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Go on with a pass that was saved."""
        self.left = deque(state["left"])
        self.passes = state["passes"]
        self.stream.load_state_dict(state["stream"])
