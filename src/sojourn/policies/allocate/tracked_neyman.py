"""Rollouts where they take most variance away, by success probabilities tracked as logits.

Source: ours. Neyman allocation (1934) in whole numbers, v / n with v the expected p (1 - p) of a
    filter (`logit_filter`) that knows that prompts drift together and gain by training.
Reads: rewards and version of settled groups; of a group's first round, if there are probes. Not
    the run's beliefs.
Memory: mean and variance of each prompt seen, level and gain of all.
Needs: nothing.
Deviations: none; it has no paper.
Fails when: groups are opened one by one: there is nothing to divide, and each gets the mean. Most
    prompts were never seen: all of them get the same. With probes a group's size depends on its own
    outcomes, which biases its mean; without, it depends on the past alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sojourn.errors import UserError
from sojourn.policies.allocate.sharing import least_variance, tally
from sojourn.policies.select.logit_filter import LogitFilter, Motion
from sojourn.rollout.model import GroupResult
from sojourn.rollout.needs import RolloutNeed
from sojourn.rollout.slots import Metrics, Pick, Round, Setting, State
from sojourn.rollout.views import GroupView, View


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the allocation.

    Attributes:
        n_min: Fewest rollouts of a group: the floor of all-fail prompts.
        n_max: Most rollouts of a group.
        probes: Rollouts of a first round; 0 for one round that decides by the past alone.
        renewal: Chance that a prompt's difficulty begins anew in one version.
        offset_step: Standard deviation by which a prompt's logit moves in one version.
    """

    n_min: int = 2
    n_max: int = 64
    probes: int = 0
    renewal: float = 0.002
    offset_step: float = 0.05

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if not 1 <= self.n_min <= self.n_max:
            raise UserError(
                f"allocate.n_min is {self.n_min}; it must be from 1 to n_max, {self.n_max}"
            )
        if not 0 <= self.probes <= self.n_max:
            raise UserError(f"allocate.probes is {self.probes}; it must be from 0 to n_max")
        if not 0.0 <= self.renewal < 1.0 or self.offset_step < 0.0:
            raise UserError("allocate.renewal must be in [0, 1) and offset_step at least 0")


class TrackedNeyman:
    """The least expected variance for a budget."""

    needs: ClassVar[frozenset[RolloutNeed]] = frozenset()
    together: ClassVar[bool] = True

    def __init__(self, config: Config, setting: Setting) -> None:
        self.config = config
        self.filter = LogitFilter(Motion(renewal=config.renewal, offset_step=config.offset_step))
        self.price = 0.0

    def open(self, picks: Sequence[Pick], budget: int, view: View) -> Sequence[Round]:
        """Divide the budget, or give each the probes."""
        if self.config.probes:
            return [Round(self.config.probes, reason="probes")] * len(picks)
        variances = [self.filter.variance(one.prompt_id, view.version) for one in picks]
        low = [self.config.n_min] * len(picks)
        counts, self.price = least_variance(variances, budget, low, self.config.n_max)
        return [Round(one, reason="least variance") for one in counts]

    def more(self, groups: Sequence[GroupView], budget: int, view: View) -> Sequence[Round]:
        """Divide the rest with what the probes say, once."""
        if not self.config.probes or any(one.rounds > 1 for one in groups):
            return [Round(0)] * len(groups)
        variances = []
        for one in groups:
            seen = tally(one, view)
            variances.append(self.filter.variance(one.prompt_id, view.version, *seen))
        low = [max(self.config.n_min, one.budget_spent) for one in groups]
        total = budget + sum(one.budget_spent for one in groups)
        counts, self.price = least_variance(variances, total, low, self.config.n_max)
        return [
            Round(max(count - one.budget_spent, 0), reason="least variance")
            for count, one in zip(counts, groups, strict=True)
        ]

    def observe(self, result: GroupResult, view: View) -> None:
        """Let a group teach the filter; only a mixed one will teach the policy in training."""
        values = result.values
        successes = sum(map(view.plan.success, values))
        self.filter.observe(
            result.group.prompt_id, successes, len(values), view.version, result.mixed
        )

    def metrics(self) -> Metrics:
        """Return the variance that the last rollout took away, and what all prompts share."""
        return {"price": self.price, "level": self.filter.level, "gain": self.filter.gain}

    def state_dict(self) -> State:
        """Return the filter and the price."""
        return {"filter": self.filter.state_dict(), "price": self.price}

    def load_state_dict(self, state: State) -> None:
        """Go on where another left off."""
        self.filter.load_state_dict(state["filter"])
        self.price = state["price"]
