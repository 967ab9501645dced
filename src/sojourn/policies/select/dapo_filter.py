"""Prompts in shuffled epochs; groups whose rewards are all alike are dropped and replaced.

Source: DAPO (Yu et al. 2025; arXiv 2503.14476), dynamic sampling; verl's `filter_groups`, which
    drops groups whose metric has a standard deviation of 0.
Reads: which prompts are open; rewards of a settled group.
Memory: the key of the epoch's order and the place in it; kept and dropped groups.
Needs: nothing.
Deviations: the metric is the reward. How many refills run at a time is the control's matter: verl
    v1 credits 2 for each group evicted. There is no limit of attempts after which a run fails.
Fails when: groups are small or prompts far from half solved: with success probabilities spread
    evenly, 2 of G + 1 groups are generated for nothing (40 % at 4 rollouts, 12 % at 16).
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import pstdev
from typing import ClassVar

from sojourn.errors import UserError
from sojourn.rollout.model import GroupResult
from sojourn.rollout.needs import RolloutNeed
from sojourn.rollout.slots import Metrics, Pick, Setting, State
from sojourn.rollout.streams import Stream
from sojourn.rollout.views import View


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the filter.

    Attributes:
        std_min: Standard deviation of rewards above which a group is trained.
    """

    std_min: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.std_min < 0.0:
            raise UserError(f"select.std_min is {self.std_min:g}; it must be at least 0")


class DapoFilter:
    """Epochs, and a filter behind them."""

    needs: ClassVar[frozenset[RolloutNeed]] = frozenset()

    def __init__(self, config: Config, setting: Setting) -> None:
        self.std_min = config.std_min
        self.stream = setting.stream
        self.ids = range(len(setting.prompts))
        self.key, self.at = 0, len(self.ids)
        self.order: list[int] = list(self.ids)
        self.kept = self.dropped = 0

    def propose(self, count: int, view: View) -> list[Pick]:
        """Take the next prompts of the epoch; one that is still open is left out of it."""
        picks: dict[int, Pick] = {}
        for _ in range(2 * len(self.ids)):
            if len(picks) >= count:
                break
            if self.at >= len(self.order):
                self._shuffle(self.stream.bits())
            one = self.order[self.at]
            self.at += 1
            if one not in picks and not view.is_open(one):
                picks[one] = Pick(one, 1.0, "next of the epoch")
        return list(picks.values())

    def keep(self, result: GroupResult, view: View) -> bool:
        """Train a group whose rewards differ."""
        values = result.values
        mixed = len(values) > 1 and pstdev(values) > self.std_min
        self.kept += mixed
        self.dropped += not mixed
        return mixed

    def observe(self, result: GroupResult, view: View) -> None:
        """Learn nothing."""

    def metrics(self) -> Metrics:
        """Return how many groups were kept and dropped."""
        return {"kept": float(self.kept), "dropped": float(self.dropped)}

    def state_dict(self) -> State:
        """Return the stream, the epoch and the counts."""
        return {
            "stream": self.stream.state_dict(),
            "epoch": [self.key, self.at],
            "counts": [self.kept, self.dropped],
        }

    def load_state_dict(self, state: State) -> None:
        """Go on where another left off, in the same order."""
        self.stream.load_state_dict(state["stream"])
        key, at = state["epoch"]
        if key:
            self._shuffle(key)
        self.at = at
        self.kept, self.dropped = state["counts"]

    def _shuffle(self, key: int) -> None:
        """Begin the epoch of a key."""
        self.key, self.at = key, 0
        self.order = Stream(key, "epoch").shuffled(self.ids)
