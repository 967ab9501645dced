"""Half of a large group: failures as they come, successes by how cleanly they were reached.

Source: GRPO-RoC of rStar2-Agent (arXiv 2508.20722, 2025) and its released code: 32 rollouts are cut
    to 16, successes and failures in proportion, two of each at least.
Reads: rewards of the scored rollouts, one of their features as a penalty.
Memory: none but the stream.
Needs: a feature with the penalty, the share of tool calls that failed plus that of the format.
Deviations: the paper draws successes in proportion to one over their penalty; here systematically,
    so that each has exactly the probability on record. Preset "code" is the released one: it takes
    the best successes and the first failures, for certain. A rollout without a feature has the
    penalty of one that used no tool.
Fails when: generation costs more than training. Under "code" the order of rollouts matters, and
    nothing can correct for what was left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import ClassVar, Final

from sojourn.errors import UserError, unknown
from sojourn.rollout.corrections import kept_probability
from sojourn.rollout.draws import inclusions, systematic
from sojourn.rollout.model import GroupResult, Subset
from sojourn.rollout.needs import RolloutNeed
from sojourn.rollout.slots import Metrics, Setting, State
from sojourn.rollout.views import View

PRESETS: Final = ("code", "paper")


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the choice.

    Attributes:
        preset: "paper" draws, "code" ranks.
        keep_share: Share of a group that is trained.
        class_min: Successes and failures that are kept at least, if there are so many.
        penalty_feature: Index of the penalty among a rollout's features.
        no_tool_penalty: Penalty of a rollout without it.
        penalty_floor: Added to penalties before one is divided by them.
    """

    preset: str = "paper"
    keep_share: float = 0.5
    class_min: int = 2
    penalty_feature: int = 1
    no_tool_penalty: float = 0.5
    penalty_floor: float = 0.05

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.preset not in PRESETS:
            raise unknown("subsample.preset", self.preset, PRESETS)
        if not 0.0 < self.keep_share <= 1.0:
            raise UserError(
                f"subsample.keep_share is {self.keep_share}; it must be above 0, at most 1"
            )
        for name in ("class_min", "penalty_feature", "no_tool_penalty"):
            if getattr(self, name) < 0:
                raise UserError(f"subsample.{name} is {getattr(self, name)}; it must be at least 0")
        if self.penalty_floor <= 0.0:
            raise UserError(f"subsample.penalty_floor is {self.penalty_floor}; it must be above 0")


def split(count: int, successes: int, failures: int, least: int) -> int:
    """Return how many of `count` are successes: in proportion, but `least` of each if there are."""
    total = max(successes + failures, 1)
    least = min(least, count // 2)
    share = (2 * count * successes + total) // (2 * total)  # rounded, halves up
    share = min(max(share, min(least, successes)), count - min(least, failures))
    return min(max(share, count - failures, 0), successes, count)


class ResampleOnCorrect:
    """Classes in proportion; clean successes before messy ones."""

    needs: ClassVar[frozenset[RolloutNeed]] = frozenset({RolloutNeed.FEATURES})

    def __init__(self, config: Config, setting: Setting) -> None:
        self.config = config
        self.plan = setting.plan
        self.stream = setting.stream

    def select(self, result: GroupResult, view: View) -> Subset:
        """Divide the count over both classes, and choose in each."""
        config, scored = self.config, result.scored
        good = [
            at
            for at, value in zip(scored, result.values, strict=True)
            if self.plan.success(value) >= 0.5
        ]
        bad = [at for at in scored if at not in good]
        if not scored:
            return Subset((), ())
        count = max(ceil(config.keep_share * len(scored) - 1e-9), 1)
        wins = split(count, len(good), len(bad), config.class_min)
        penalties = [self._penalty(result.rollouts[at].features) for at in good]
        if config.preset == "code":
            ranked = sorted(range(len(good)), key=lambda one: (penalties[one], one))
            found = [(good[one], 1.0) for one in ranked[:wins]]
            found += [(at, 1.0) for at in bad[: count - wins]]
        else:
            weights = [1.0 / (one + config.penalty_floor) for one in penalties]
            found = self._draw(good, weights, wins)
            found += self._draw(bad, [1.0] * len(bad), count - wins)
        found.sort()
        chances = (chance * kept_probability(result.rollouts[at]) for at, chance in found)
        return Subset(tuple(at for at, _ in found), tuple(chances))

    def _penalty(self, features: Sequence[float]) -> float:
        at = self.config.penalty_feature
        return max(features[at], 0.0) if at < len(features) else self.config.no_tool_penalty

    def _draw(
        self, members: Sequence[int], weights: Sequence[float], count: int
    ) -> list[tuple[int, float]]:
        chances = inclusions(weights, count)
        return [(members[one], chances[one]) for one in systematic(chances, self.stream)]

    def metrics(self) -> Metrics:
        """Return no numbers."""
        return {}

    def state_dict(self) -> State:
        """Return the stream."""
        return {"stream": self.stream.state_dict()}

    def load_state_dict(self, state: State) -> None:
        """Take it over."""
        self.stream.load_state_dict(state["stream"])
