"""Part of each batch is fresh, the rest is drawn from the groups that were trained last.

Source: DOTS with rollout replay (Sun et al., 2025, arXiv 2506.05316), as in its released code.
Reads: the size of a batch, rewards of a group.
Memory: groups in the order in which they came, one of each prompt.
Needs: log-probabilities of sampled tokens: what is old must be corrected for.
Deviations: the released loop adds the fresh batch twice, which its removal of duplicates hides;
    here it is added once. `versions_max` is ours: the original has no bound of age but capacity.
Fails when: weights move fast: ratios of old tokens are cut at their bound, and teach little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import ClassVar

from sojourn.errors import UserError
from sojourn.rollout.model import GroupResult, Reward
from sojourn.rollout.needs import RolloutNeed
from sojourn.rollout.slots import Metrics, Setting, State
from sojourn.rollout.stored import result_from, result_state
from sojourn.rollout.views import View


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the buffer.

    Attributes:
        fresh_share: Share of a batch that is newly generated.
        capacity_groups: Groups kept at most; the oldest go first.
        versions_max: Weight versions after which a group is forgotten; 0 for never.
    """

    fresh_share: float = 0.5
    capacity_groups: int = 512
    versions_max: int = 0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if not 0.0 < self.fresh_share <= 1.0:
            raise UserError(
                f"replay.fresh_share is {self.fresh_share}; it must be above 0, at most 1"
            )
        for name, least in (("capacity_groups", 1), ("versions_max", 0)):
            if (value := getattr(self, name)) < least:
                raise UserError(f"replay.{name} is {value}; it must be at least {least}")


class Dots:
    """A queue without the groups of equal rewards, and the newest of each prompt."""

    needs: ClassVar[frozenset[RolloutNeed]] = frozenset({RolloutNeed.LOGPROBS})

    def __init__(self, config: Config, setting: Setting) -> None:
        self.config = config
        self.stream = setting.stream
        self.kept: dict[int, GroupResult] = {}  # by prompt, oldest first
        self.counts = {"put": 0, "unmixed": 0, "replayed": 0, "evicted": 0, "revised": 0}

    def fresh(self, view: View) -> int:
        """Take the rest from generation, more while there is little to replay."""
        size = view.plan.batch_groups
        return max(ceil(self.config.fresh_share * size), size - len(self.kept))

    def put(self, result: GroupResult, view: View) -> None:
        """Keep a group that is mixed, in place of an older one of its prompt."""
        self.counts["put"] += 1
        if not result.mixed:
            self.counts["unmixed"] += 1
            return
        self.kept.pop(result.group.prompt_id, None)
        copied = GroupResult(result.group, list(result.rollouts), list(result.rewards))
        self.kept[result.group.prompt_id] = copied
        if len(self.kept) > self.config.capacity_groups:
            del self.kept[next(iter(self.kept))]

    def sample(self, count: int, view: View) -> Sequence[GroupResult]:
        """Draw different groups, each with the same chance."""
        drawn = self.stream.sample([*self.kept.values()], count)
        self.counts["replayed"] += len(drawn)
        return drawn

    def evict(self, version: int) -> int:
        """Forget what is too old."""
        if not self.config.versions_max:
            return 0
        old = [
            prompt
            for prompt, one in self.kept.items()
            if version - one.group.opened_at_version > self.config.versions_max
        ]
        for prompt in old:
            del self.kept[prompt]
        self.counts["evicted"] += len(old)
        return len(old)

    def revise(self, reward: Reward) -> None:
        """Change a reward in what is kept; a group that is no longer mixed goes."""
        for prompt, one in self.kept.items():
            for at, rollout in enumerate(one.rollouts):
                if rollout.rid == reward.rid:
                    one.rewards[at] = reward.value
                    self.counts["revised"] += 1
                    if not one.mixed:
                        del self.kept[prompt]
                    return

    def metrics(self) -> Metrics:
        """Return how many groups are kept, and what became of others."""
        return {"kept": float(len(self.kept)), **self.counts}

    def state_dict(self) -> State:
        """Return groups, stream and counts."""
        return {
            "kept": [result_state(one) for one in self.kept.values()],
            "stream": self.stream.state_dict(),
            "counts": dict(self.counts),
        }

    def load_state_dict(self, state: State) -> None:
        """Take them over."""
        groups = [result_from(one) for one in state["kept"]]
        self.kept = {one.group.prompt_id: one for one in groups}
        self.stream.load_state_dict(state["stream"])
        self.counts = dict(state["counts"])
