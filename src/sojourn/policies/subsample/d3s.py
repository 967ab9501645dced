"""The rollouts of a group whose rewards differ most: some of the best and some of the worst.

Source: D3S (2025, arXiv 2509.22115), of which the abstract was at hand: the subset with the largest
    variance of advantages. It consists of the i highest and k - i lowest rewards, so a scan over i
    finds it.
Reads: rewards of the scored rollouts, the training step.
Memory: none but the stream.
Needs: nothing.
Deviations: only the sample level; the token level, by advantage times entropy, needs entropies that
    no engine reports. The schedule's constants are not known: the share rises linearly. Among equal
    rewards chance decides, with its probability on record; those rewards that are left out have no
    probability, and nothing corrects for them.
Fails when: generation costs more than training: what is dropped was paid for. Rewards are noisy:
    extremes are where the noise is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import ClassVar

from sojourn.errors import UserError
from sojourn.rollout.corrections import kept_probability
from sojourn.rollout.model import GroupResult, Subset
from sojourn.rollout.needs import RolloutNeed
from sojourn.rollout.slots import Metrics, Setting, State
from sojourn.rollout.views import View


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the schedule.

    Attributes:
        share_first: Share of a group that is trained at the first step.
        share_last: Share after the ramp.
        ramp_steps: Training steps from the one to the other; 0 for the last from the start.
    """

    share_first: float = 0.5
    share_last: float = 1.0
    ramp_steps: int = 100

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name in ("share_first", "share_last"):
            if not 0.0 < getattr(self, name) <= 1.0:
                value = getattr(self, name)
                raise UserError(f"subsample.{name} is {value}; it must be above 0, at most 1")
        if self.ramp_steps < 0:
            raise UserError(f"subsample.ramp_steps is {self.ramp_steps}; it must be at least 0")


def extremes(rewards: Sequence[float], count: int) -> list[float]:
    """Return `count` of the rewards, the highest and the lowest, with the largest variance.

    Of several such choices it is the one with most alike numbers of highest and lowest.
    """
    ordered = sorted(rewards, reverse=True)
    found: list[tuple[float, int, list[float]]] = []
    for high in range(count + 1):
        chosen = ordered[:high] + ordered[len(ordered) - (count - high) :]
        mean = sum(chosen) / count
        spread = sum((one - mean) ** 2 for one in chosen)
        found.append((-round(spread, 12), abs(2 * high - count), chosen))
    return min(found, key=lambda one: one[:2])[2]


class D3S:
    """The widest subset of each group; chance among equals."""

    needs: ClassVar[frozenset[RolloutNeed]] = frozenset()

    def __init__(self, config: Config, setting: Setting) -> None:
        self.config = config
        self.stream = setting.stream
        self.seen = self.taken = 0

    def share(self, step: int) -> float:
        """Return the share of a group that is trained at a step, counted from 1."""
        config = self.config
        if step > config.ramp_steps:
            return config.share_last
        done = (step - 1) / max(config.ramp_steps, 1)
        return config.share_first + max(done, 0.0) * (config.share_last - config.share_first)

    def select(self, result: GroupResult, view: View) -> Subset:
        """Take the extremes, at least two if there are two."""
        scored, values = result.scored, result.values
        share = self.share(view.step)
        count = min(max(ceil(share * len(scored) - 1e-9), 2), len(scored))
        wanted = extremes(values, count) if count else []
        found: list[tuple[int, float]] = []
        for value in sorted(set(wanted)):
            equal = [at for at, one in zip(scored, values, strict=True) if one == value]
            number = wanted.count(value)
            chance = number / len(equal)
            drawn = equal if number == len(equal) else self.stream.sample(equal, number)
            found += [(at, chance * kept_probability(result.rollouts[at])) for at in drawn]
        found.sort()
        self.seen += len(scored)
        self.taken += len(found)
        return Subset(tuple(at for at, _ in found), tuple(chance for _, chance in found))

    def metrics(self) -> Metrics:
        """Return the share of rollouts that were trained."""
        return {"share": self.taken / self.seen if self.seen else 1.0}

    def state_dict(self) -> State:
        """Return stream and counts."""
        return {"stream": self.stream.state_dict(), "counts": [self.seen, self.taken]}

    def load_state_dict(self, state: State) -> None:
        """Take them over."""
        self.stream.load_state_dict(state["stream"])
        self.seen, self.taken = state["counts"]
