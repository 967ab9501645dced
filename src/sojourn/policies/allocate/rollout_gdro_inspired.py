"""As many rollouts as the square root of a prompt's outcome variance over one price asks for.

Source: after abstract and summaries of Rollout-GDRO (Panaganti et al. 2026; arXiv 2601.19280):
    n = clip(sqrt(v / μ), n_min, n_max), and the price μ rises by η times what is spent over the
    mean budget. With v = p (1 - p) this is Neyman allocation.
Reads: beliefs of the prompts; the plan's rollouts for each group; rewards of a group's first round.
Memory: the price.
Needs: nothing.
Deviations: η and the first price are assumed; a prompt is a bin of its own, v the expectation under
    its belief. Two presets: "price" as above, which keeps the budget on average and works for
    groups opened one by one; "exact", ours, spends the budget of groups opened together to the
    last rollout, where it takes most variance away. `probes` above 0 gives that many first, and
    lets their rewards decide with the belief.
Fails when: probes decide: a group's size then depends on its own outcomes, which biases its mean.
    Beliefs lag behind: what was hard and is learnt keeps the floor for long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import ClassVar, Final

from sojourn.errors import UserError, unknown
from sojourn.policies.allocate.sharing import Tally, least_variance, tally
from sojourn.policies.select.beta_math import outcome_variance
from sojourn.rollout.model import GroupResult
from sojourn.rollout.needs import RolloutNeed
from sojourn.rollout.slots import Metrics, Pick, Round, Setting, State
from sojourn.rollout.views import GroupView, View

VARIANTS: Final = ("price", "exact")
PRICE_MIN: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the price.

    Attributes:
        n_min: Fewest rollouts of a group: the floor of all-fail prompts.
        n_max: Most rollouts of a group.
        rate: How far the price moves for each rollout over or under the mean budget: η.
        variant: "price" or "exact".
        probes: Rollouts of a first round; 0 for one round that decides by beliefs alone.
    """

    n_min: int = 2
    n_max: int = 64
    rate: float = 1e-4
    variant: str = "price"
    probes: int = 0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if not 1 <= self.n_min <= self.n_max:
            raise UserError(
                f"allocate.n_min is {self.n_min}; it must be from 1 to n_max, {self.n_max}"
            )
        if self.rate <= 0.0:
            raise UserError(f"allocate.rate is {self.rate:g}; it must be above 0")
        if not 0 <= self.probes <= self.n_max:
            raise UserError(f"allocate.probes is {self.probes}; it must be from 0 to n_max")
        if self.variant not in VARIANTS:
            raise unknown("allocate.variant", self.variant, VARIANTS)

    @classmethod
    def exact(cls) -> Config:
        """Return the preset that spends a budget to the last rollout."""
        return cls(variant="exact")


class RolloutGdroInspired:
    """A price for rollouts."""

    needs: ClassVar[frozenset[RolloutNeed]] = frozenset()
    together: ClassVar[bool] = True

    def __init__(self, config: Config, setting: Setting) -> None:
        self.config = config
        self.mean = setting.plan.rollouts_per_group
        self.price = 0.125 / self.mean**2  # at which a variance of 1/8 gets the mean
        self.rounds = 2 if config.probes else 1

    def open(self, picks: Sequence[Pick], budget: int, view: View) -> Sequence[Round]:
        """Give each its number, or the probes."""
        if self.config.probes:
            return [Round(self.config.probes, reason="probes")] * len(picks)
        ids = [one.prompt_id for one in picks]
        low = [self.config.n_min] * len(ids)
        counts = self._counts(ids, [Tally(0.0, 0)] * len(ids), low, budget, view)
        return [Round(one, reason="price") for one in counts]

    def more(self, groups: Sequence[GroupView], budget: int, view: View) -> Sequence[Round]:
        """Give what the number asks for beyond the probes, once."""
        if any(one.rounds >= self.rounds for one in groups):
            return [Round(0)] * len(groups)
        seen = [tally(one, view) for one in groups]
        low = [max(self.config.n_min, one.budget_spent) for one in groups]
        spent = sum(one.budget_spent for one in groups)
        ids = [one.prompt_id for one in groups]
        counts = self._counts(ids, seen, low, budget + spent, view)
        return [
            Round(max(count - one.budget_spent, 0), reason="price")
            for count, one in zip(counts, groups, strict=True)
        ]

    def _counts(
        self, ids: list[int], seen: list[Tally], low: list[int], total: int, view: View
    ) -> list[int]:
        """Return the rollouts of each prompt, those it has included; move the price."""
        config, variances = self.config, []
        for one, had in zip(ids, seen, strict=True):
            belief = view.beliefs.read(one, view.version)
            failures = had.trials - had.successes
            variances.append(outcome_variance(belief.alpha + had.successes, belief.beta + failures))
        if config.variant == "exact":
            counts, self.price = least_variance(variances, total, low, config.n_max)
            return counts
        counts = [
            min(max(round(sqrt(one / self.price)), least), config.n_max)
            for one, least in zip(variances, low, strict=True)
        ]
        over = sum(counts) / len(counts) - self.mean
        self.price = max(self.price + config.rate * over, PRICE_MIN)
        return counts

    def observe(self, result: GroupResult, view: View) -> None:
        """Leave it to the beliefs."""

    def metrics(self) -> Metrics:
        """Return the price."""
        return {"price": self.price}

    def state_dict(self) -> State:
        """Return the price."""
        return {"price": self.price}

    def load_state_dict(self, state: State) -> None:
        """Take over a price."""
        self.price = state["price"]
